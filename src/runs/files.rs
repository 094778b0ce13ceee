//! Reading and writing of the small files of a run.

use std::fs;
use std::path::Path;

pub(super) use crate::common::replace::replace_file as write;

/// Reads a file of at most `limit` bytes; `None` where it is missing or longer.
pub(super) fn read_small(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let length = fs::metadata(path).ok().filter(|metadata| metadata.is_file())?.len();
    if length <= limit { fs::read(path).ok() } else { None }
}
