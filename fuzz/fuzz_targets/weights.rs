//! Any bytes as a file of weights: the pickle scan, zip archives, legacy `.pth` streams, and the choice between formats.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pipe::fuzzing::read_weights;
use std::cell::LazyCell;
use tempfile::TempDir;

thread_local! {
    static FOLDER: LazyCell<TempDir> = LazyCell::new(|| tempfile::tempdir().expect("a temporary folder"));
}

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.with(|folder| folder.path().join("weights.pth"));
    std::fs::write(&path, bytes).expect("the temporary folder is writable");
    let _ = read_weights(&path);
});
