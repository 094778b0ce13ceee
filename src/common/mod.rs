//! Helpers for every room: formatting of numbers and lists, "did you mean" suggestions, and which
//! files are images. A leaf: it imports nothing of the crate.

pub mod image_files;
mod nearest;
pub mod number;
pub mod words;

pub use nearest::nearest;
