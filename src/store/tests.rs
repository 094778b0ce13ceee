//! Tests of the store through its public interface: commits, damage and locks.

use super::*;
use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;

pub(super) struct Home {
    pub(super) folder: tempfile::TempDir,
}

impl Home {
    pub(super) fn new() -> Home {
        Home { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn open(&self) -> Store {
        Store::open(self.folder.path()).unwrap()
    }
}

pub(super) fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

pub(super) fn slot(store: &Store, name: &str) -> Slot {
    match store.enter(&key(name), false, &mut || panic!("the key is locked")).unwrap() {
        Entry::Miss(slot) => slot,
        Entry::Hit(_) => panic!("a hit"),
    }
}

fn fill(slot: &Slot) {
    std::fs::create_dir_all(slot.path().join("deep/er")).unwrap();
    std::fs::write(slot.path().join("deep/er/b"), b"two").unwrap();
    std::fs::write(slot.path().join("a"), b"one").unwrap();
}

pub(super) fn build(store: &Store, name: &str) -> Artifact {
    let slot = slot(store, name);
    fill(&slot);
    slot.commit(b"{\"log\":1}\n").unwrap()
}

pub(super) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map(|entries| {
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        })
        .unwrap_or_default();
    names.sort_unstable();
    names
}

#[test]
fn a_committed_artifact_is_found() {
    let home = Home::new();
    let built = build(&home.open(), "k");
    let store = home.open();
    let found = store.lookup(&key("k")).unwrap().unwrap();
    assert_eq!(found.digest, built.digest);
    assert_eq!(found.size(), 6);
    let paths: Vec<_> = found.manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a", "deep/er/b"]);
    assert_eq!(std::fs::read(found.file("deep/er/b")).unwrap(), b"two");
    assert_eq!(std::fs::metadata(found.file("a")).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(store.log(&key("k")).unwrap(), b"{\"log\":1}\n");
    assert_eq!(store.artifact(&built.digest).unwrap().unwrap().digest, built.digest);
    found.verify().unwrap();
    assert!(store.lookup(&key("other")).unwrap().is_none());
    assert!(store.take_notes().is_empty());
    assert!(names(&store.root().join("slots")).is_empty());
}

#[test]
fn equal_content_is_one_artifact_and_partial_digests_ignore_other_files() {
    let home = Home::new();
    let store = home.open();
    let (one, two) = (build(&store, "k"), build(&store, "l"));
    assert_eq!(one.digest, two.digest);
    let slot = slot(&store, "m");
    fill(&slot);
    std::fs::write(slot.path().join("history"), b"new").unwrap();
    let three = slot.commit(b"").unwrap();
    assert_ne!(three.digest, one.digest);
    assert_eq!(three.part(&["a"]), one.part(&["a"]));
    assert_eq!(three.part(&["deep/"]), one.part(&["deep/"]));
    assert_ne!(three.part(&["history"]), one.part(&["history"]));
    assert_eq!(one.part(&[]), one.digest);
}

#[test]
fn a_slot_without_a_commit_leaves_nothing() {
    let home = Home::new();
    let store = home.open();
    fill(&slot(&store, "k"));
    assert!(store.lookup(&key("k")).unwrap().is_none());
    assert!(names(&store.root().join("slots")).is_empty());
}

#[test]
fn links_and_reserved_or_non_utf8_names_are_refused() {
    let home = Home::new();
    let store = home.open();
    let refused = |spoil: fn(&Path)| {
        let slot = slot(&store, "k");
        spoil(slot.path());
        slot.commit(b"").unwrap_err().to_string()
    };
    assert!(
        refused(|path| std::os::unix::fs::symlink("/", path.join("link")).unwrap())
            .contains("neither")
    );
    assert!(
        refused(|path| std::fs::write(path.join("manifest.json"), "").unwrap())
            .contains("manifest.json")
    );
    let not_utf8 = |path: &Path| {
        use std::os::unix::ffi::OsStrExt;
        std::fs::write(path.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
    };
    assert!(refused(not_utf8).contains("UTF-8"));
    assert!(store.lookup(&key("k")).unwrap().is_none());
}

#[test]
fn a_kill_at_any_step_of_a_commit_leaves_nothing_or_the_whole_artifact() {
    let mut steps = 0;
    loop {
        let home = Home::new();
        let finished = fault::kill_after(steps, || {
            let slot = slot(&home.open(), "k");
            fill(&slot);
            slot.commit(b"log").is_ok()
        });
        let store = home.open();
        match store.lookup(&key("k")).unwrap() {
            Some(artifact) => {
                assert!(finished, "step {steps}");
                artifact.verify().unwrap();
            }
            None => assert!(!finished, "step {steps}"),
        }
        assert_eq!(
            store.verify(&mut |_| true).unwrap().damaged,
            Vec::<String>::new(),
            "step {steps}"
        );
        if finished {
            assert!(steps >= 6, "{steps}");
            return;
        }
        build(&store, "k").verify().unwrap();
        assert!(names(&store.root().join("slots")).is_empty(), "leftovers of the kill are removed");
        assert!(store.take_notes().is_empty(), "step {steps}");
        steps += 1;
    }
}

#[test]
fn every_truncated_artifact_or_key_is_noticed_reported_and_rebuilt() {
    let home = Home::new();
    let store = home.open();
    let artifact = build(&store, "k");
    let damaged = store.root().join("damaged");
    for path in [artifact.file("manifest.json"), artifact.file("a"), store.key_path(&key("k"))] {
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(store.lookup(&key("k")).unwrap().is_none(), "{path:?} {length}");
            let notes = store.take_notes();
            assert!(notes.len() == 1 && notes[0].contains("damaged"), "{notes:?}");
            // Moved back for the next length: committing each time would take long.
            let quarantined = damaged.join(&names(&damaged)[0]);
            std::fs::rename(
                quarantined,
                if path.parent() == Some(&artifact.path) { &artifact.path } else { &path },
            )
            .unwrap();
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, &bytes).unwrap();
            assert!(store.lookup(&key("k")).unwrap().is_some());
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(store.lookup(&key("k")).unwrap().is_none());
        assert_eq!(store.take_notes().len(), 1);
        std::fs::remove_dir_all(&damaged).unwrap();
        assert_eq!(build(&store, "k").digest, artifact.digest);
        assert!(store.take_notes().is_empty());
    }
}

#[test]
fn missing_and_changed_files_are_noticed_and_changed_times_are_restored() {
    let home = Home::new();
    let store = home.open();
    let artifact = build(&store, "k");
    let writable =
        |path: &Path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
    let path = artifact.file("a");
    writable(&path);
    std::fs::write(&path, b"one").unwrap();
    assert!(
        store.lookup(&key("k")).unwrap().is_some(),
        "another time without another content is no damage"
    );
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o444,
        "and is restored"
    );
    writable(&path);
    std::fs::write(&path, b"eno").unwrap();
    assert!(store.lookup(&key("k")).unwrap().is_none());
    assert!(store.take_notes()[0].contains("the content of a "));
    let artifact = build(&store, "k");
    std::fs::remove_file(artifact.file("deep/er/b")).unwrap();
    assert!(store.lookup(&key("k")).unwrap().is_none());
    assert!(store.take_notes()[0].contains("deep/er/b is missing"));
    let artifact = build(&store, "k");
    std::fs::remove_file(artifact.file("manifest.json")).unwrap();
    assert!(store.lookup(&key("k")).unwrap().is_none());
    assert!(store.take_notes()[0].contains("manifest.json is missing"));
}

#[test]
fn verify_finds_changes_that_times_do_not_show() {
    let home = Home::new();
    let store = home.open();
    let artifact = build(&store, "k");
    let path = artifact.file("a");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(&path, b"eno").unwrap();
    artifact::mark_committed(&std::fs::File::open(&path).unwrap()).unwrap();
    assert!(store.lookup(&key("k")).unwrap().is_some());
    assert!(artifact.verify().is_err());
    let verified = store.verify(&mut |_| true).unwrap();
    assert_eq!((verified.artifacts, verified.damaged.len()), (1, 1));
    assert!(store.lookup(&key("k")).unwrap().is_none());
    assert!(matches!(build(&store, "k").verify(), Ok(())));
    assert!(matches!(store.verify(&mut |_| false), Err(StoreError::Cancelled)));
}

#[test]
fn concurrent_builds_of_one_key_build_once() {
    let home = Home::new();
    let builds = std::sync::atomic::AtomicU32::new(0);
    let digests: HashSet<Digest> = std::thread::scope(|scope| {
        let work = || {
            let store = home.open();
            match store.enter(&key("k"), false, &mut || true).unwrap() {
                Entry::Hit(artifact) => artifact.digest,
                Entry::Miss(slot) => {
                    builds.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    fill(&slot);
                    slot.commit(b"").unwrap().digest
                }
            }
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((digests.len(), builds.into_inner()), (1, 1));
}

#[test]
fn waiting_can_be_cancelled_and_force_rebuilds() {
    let home = Home::new();
    let store = home.open();
    let held = slot(&store, "k");
    let mut calls = 0;
    let cancelled = store.enter(&key("k"), false, &mut || {
        calls += 1;
        calls < 3
    });
    assert!(matches!(cancelled, Err(StoreError::Cancelled)));
    fill(&held);
    held.commit(b"first").unwrap();
    let Entry::Miss(again) = store.enter(&key("k"), true, &mut || true).unwrap() else {
        panic!("a hit")
    };
    std::fs::write(again.path().join("a"), b"other").unwrap();
    let first = store.last_build(&key("k")).unwrap().unwrap();
    assert_eq!(first.machine, None);
    let origin = Origin { machine: Some("here".to_owned()), ..Origin::default() };
    let second = again.built_by(origin).commit(b"second").unwrap();
    let now = store.last_build(&key("k")).unwrap().unwrap();
    assert_eq!((now.artifact, now.machine.as_deref()), (second.digest, Some("here")));
    assert_eq!(store.remains(&first.artifact).unwrap().digest, first.artifact);
    assert_eq!(store.log(&key("k")).unwrap(), b"second");
}

#[test]
fn a_newer_store_is_refused_and_a_truncated_format_file_is_restored() {
    let home = Home::new();
    let format = home.open().root().join("format");
    for length in 0..FORMAT.len() {
        std::fs::write(&format, &FORMAT[..length]).unwrap();
        home.open();
        assert_eq!(std::fs::read_to_string(&format).unwrap(), FORMAT);
    }
    std::fs::write(&format, "pipe store 2\n").unwrap();
    let error = Store::open(home.folder.path()).unwrap_err();
    assert!(error.is_fault_of_store() && error.to_string().contains("newer"), "{error}");
}

#[test]
fn usage_counts_entries_and_bytes() {
    let home = Home::new();
    let store = home.open();
    build(&store, "k");
    build(&store, "l");
    store.memo().put("features", "x", b"1").unwrap();
    let usage = store.usage().unwrap();
    assert_eq!((usage.artifacts.count, usage.keys.count, usage.runs.count), (1, 2, 0));
    assert_eq!(usage.memo["features"].count, 1);
    assert!(usage.total() > 6);
}

#[test]
fn a_file_that_nobody_committed_is_moved_aside_and_the_artifact_stays() {
    let home = Home::new();
    let store = home.open();
    let artifact = build(&store, "k");
    std::fs::write(artifact.file("deep/other"), b"x").unwrap();
    std::fs::create_dir_all(artifact.file("empty/folder")).unwrap();
    std::os::unix::fs::symlink("a", artifact.file("link")).unwrap();
    assert_eq!(artifact.strays(), ["deep/other", "empty", "link"].map(PathBuf::from));
    assert_eq!(store.verify(&mut |_| true).unwrap().damaged.len(), 3);
    assert_eq!(store.verify(&mut |_| true).unwrap().damaged, Vec::<String>::new());
    assert_eq!(store.lookup(&key("k")).unwrap().unwrap().digest, artifact.digest);
}

#[test]
fn whatever_is_in_place_of_a_folder_is_moved_aside_when_the_store_is_opened() {
    let home = Home::new();
    let artifact = build(&home.open(), "k");
    home.open().memo().put("b", "k", b"1").unwrap();
    let root = home.open().root().to_owned();
    let shard = |folder: &str, digest: &Digest| format!("{folder}/{}", &digest.to_string()[..2]);
    let folders = [
        "artifacts",
        "keys",
        "memo",
        "locks",
        "slots",
        "damaged",
        "memo/b_",
        &shard("artifacts", &artifact.digest),
        &shard("keys", &key("k")),
    ];
    for folder in folders {
        for is_link in [false, true] {
            let path = root.join(folder);
            std::fs::remove_dir_all(&path).unwrap();
            match is_link {
                true => std::os::unix::fs::symlink("nowhere", &path).unwrap(),
                false => std::fs::write(&path, b"").unwrap(),
            }
            let store = home.open();
            assert_eq!(store.take_notes().len(), 1, "{folder}");
            if store.lookup(&key("k")).unwrap().is_none() {
                build(&store, "k");
            }
            store.memo().put("b", "k", b"1").unwrap();
            assert!(store.memo().get("b", "k").is_some(), "{folder}");
            std::fs::create_dir_all(&path).unwrap();
        }
    }
    assert!(home.open().verify(&mut |_| true).unwrap().damaged.is_empty());
}
