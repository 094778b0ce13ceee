//! Any bytes as a pipeline file, up to its diagnostics and how they are shown. The first line is an override.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pipe::fuzzing::load_pipeline;
use std::cell::LazyCell;
use tempfile::TempDir;

thread_local! {
    static FOLDER: LazyCell<TempDir> = LazyCell::new(|| tempfile::tempdir().expect("a temporary folder"));
}

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (first, file) = bytes.split_at(end);
    let overrides: Vec<String> =
        std::str::from_utf8(first).ok().filter(|text| !text.is_empty()).map(str::to_owned).into_iter().collect();
    let path = FOLDER.with(|folder| folder.path().join("pipeline.toml"));
    std::fs::write(&path, file).expect("the temporary folder is writable");
    match load_pipeline(&path, &overrides) {
        Ok(pipeline) => assert!(pipeline.stages.iter().all(|stage| !stage.name.is_empty())),
        Err(diagnostics) => drop(diagnostics.to_string()),
    }
});
