//! Any bytes as an artifact's manifest, under the digest that they have, so that the parser behind the digest is reached.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pipe::fuzzing::{Digest, Store};
use std::cell::LazyCell;
use tempfile::TempDir;

thread_local! {
    static STORE: LazyCell<(TempDir, Store)> = LazyCell::new(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path()).expect("a store in it");
        (folder, store)
    });
}

fuzz_target!(|bytes: &[u8]| {
    STORE.with(|home| {
        let (_, store) = &**home;
        let digest = Digest::of(bytes);
        let name = digest.to_string();
        let folder = store.root().join("artifacts").join(&name[..2]).join(&name);
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        std::fs::write(folder.join("manifest.json"), bytes).expect("the temporary folder is writable");
        if let Ok(Some(artifact)) = store.artifact(&digest) {
            let is_inside = |path: &str| path.split('/').all(|part| !matches!(part, "" | "." | ".."));
            assert!(artifact.manifest.files.iter().all(|file| is_inside(&file.path)));
        }
        let _ = store.take_notes();
        // A damaged artifact is moved, any other stays.
        let _ = std::fs::remove_dir_all(folder);
        let _ = std::fs::remove_dir_all(store.root().join("damaged"));
    });
});
