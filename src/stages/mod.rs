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

use crate::engine::{Kind, KindRef, Kinds};

pub use fetch::{earlier_model, name_earlier_model, set_earlier_model};

/// Every kind there is.
pub static KINDS: &Kinds = &[
    KindRef::new(&fetch::Fetch),
    KindRef::new(&explore::Explore),
    KindRef::new(&preprocess::Preprocess),
    KindRef::new(&train::Train),
    KindRef::new(&evaluate::Evaluate),
];

/// Whether stages of this kind make models to ask about images: what `fetch` brings are only weights to start from.
pub fn makes_models(kind: &str) -> bool {
    kind == train::Train.name()
}

#[cfg(test)]
mod preparing;
