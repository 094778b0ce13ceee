//! The kinds of stage: one file each, and the list of them. A new kind is one file and one word here. Knows everything
//! but who runs it, records it or shows it.

pub mod dataset;
mod errors;
mod evaluate;
mod explore;
mod fetch;
mod preprocess;
mod pretrained;
mod train;
#[cfg(test)]
mod training_tests;
mod words;

use crate::engine::Kinds;

pub use fetch::{earlier_model, set_earlier_model};

/// Every kind there is.
pub static KINDS: &Kinds =
    &[&fetch::Fetch, &explore::Explore, &preprocess::Preprocess, &train::Train, &evaluate::Evaluate];

#[cfg(test)]
mod preparing;
