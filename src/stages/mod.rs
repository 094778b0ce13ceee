//! The stage kinds, one file each, and their list. A new kind is a file and a line in the list. A
//! kind depends neither on how stages are executed nor on how runs are recorded or shown.

pub mod dataset;
mod device;
mod errors;
mod evaluate;
mod explore;
mod fetch;
mod preprocess;
mod pretrained;
pub mod preview;
mod train;

use crate::engine::{Kind, KindRef, Kinds};

pub use device::check_device;
pub use fetch::{
    archive_name, earlier_model, fetched_images, locked_names, name_earlier_model, remote_name,
    set_earlier_model,
};

/// All kinds.
pub static KINDS: &Kinds = &[
    KindRef::new(&fetch::Fetch),
    KindRef::new(&explore::Explore),
    KindRef::new(&preprocess::Preprocess),
    KindRef::new(&train::Train),
    KindRef::new(&evaluate::Evaluate),
];

/// Whether stages of this kind produce models that can classify images; weights from `fetch` only
/// start a training.
pub fn makes_models(kind: &str) -> bool {
    kind == train::Train.name()
}

#[cfg(test)]
mod tests;
