//! Helpers for every module: formatting of numbers, lists and text from outside, "did you mean"
//! suggestions, which files are images or can't be read to their end, how folders of images are laid
//! out, the kind of this machine, and atomic replacement of files. A leaf: it imports nothing of the crate.

pub(crate) mod csv_text;
pub(crate) mod empty_folders;
pub(crate) mod image_files;
pub(crate) mod layout;
pub(crate) mod machine;
pub(crate) mod markdown;
mod nearest;
pub(crate) mod number;
pub(crate) mod replace;
pub(crate) mod special_file;
pub(crate) mod table_text;
pub(crate) mod visible;
pub(crate) mod words;

pub(crate) use nearest::{nearest, synonym};
