//! Helpers that every room needs: numbers and lists in sentences, the nearest name to a misspelled one, and which files
//! are images. A leaf: it imports nothing of the crate, and everything may import it.

pub mod image_files;
mod nearest;
pub mod number;
pub mod words;

pub use nearest::nearest;
