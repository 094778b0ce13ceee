//! The stage kinds, one file each, and their list. A new kind is a file and a line in the list. A
//! kind depends neither on how stages are executed nor on how runs are recorded or shown. Also the
//! stores elsewhere that the engine asks for outputs (`remotes.rs`), and stages for entries of their
//! memos (`memos.rs`).

mod command;
pub mod dataset;
mod device;
mod errors;
mod evaluate;
mod explore;
mod fetch;
mod memos;
mod needs;
mod preprocess;
mod pretrained;
pub mod preview;
mod remotes;
mod train;

use crate::engine::{Kind, KindRef, Kinds};
use crate::store::{Digest, Memo, MemoName};
use std::io;

pub(crate) use device::place_model;
pub use device::{ChosenDevice, assume_device, choose_device};
pub use fetch::{
    PINS, archive_name, earlier_model, fetched_images, locked_names, name_earlier_model,
    remote_name, set_earlier_model,
};

pub(crate) use crate::training::features::{SharedFeatures, SharedFile};
pub(crate) use remotes::{Remote, RemoteError, Remotes, Web, message, remote_at};

/// All kinds.
pub static KINDS: &Kinds = &[
    KindRef::new(&fetch::Fetch),
    KindRef::new(&explore::Explore),
    KindRef::new(&preprocess::Preprocess),
    KindRef::new(&train::Train),
    KindRef::new(&evaluate::Evaluate),
    KindRef::new(&command::Command),
];

/// Whether stages of this kind produce models that can classify images; weights from `fetch` only
/// start a training.
pub fn makes_models(kind: &str) -> bool {
    kind == train::Train.name()
}

/// The memo's entries that the checkpoint of a stage with this key can have. The first leads to the
/// others.
pub fn checkpoint_entries(key: Digest) -> [MemoName; 3] {
    crate::training::checkpoint_entries(key)
}

/// Removes the checkpoint of a stage with this key, if there is one.
///
/// # Errors
/// If a file can't be removed.
pub fn clear_checkpoint(memo: &Memo, key: Digest) -> io::Result<()> {
    crate::training::clear_checkpoint(memo, key)
}

#[cfg(test)]
mod tests;
