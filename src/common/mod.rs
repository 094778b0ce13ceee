//! Helpers for every room: formatting of numbers and lists, "did you mean" suggestions, and which
//! files are images. A leaf: it imports nothing of the crate.

pub(crate) mod image_files;
mod nearest;
pub(crate) mod number;
pub(crate) mod words;

pub(crate) use nearest::nearest;
