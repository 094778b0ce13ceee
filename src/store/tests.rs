//! A store as its users see it: what is committed is found again, whole or not at all.

use super::*;
use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Home {
        Home { folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Store {
        Store::open(self.folder.path()).unwrap()
    }
}

fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn slot(store: &Store, name: &str) -> Slot {
    match store.enter(&key(name), false, &mut || panic!("nobody else is there")).unwrap() {
        Entry::Miss(slot) => slot,
        Entry::Hit(_) => panic!("a hit"),
    }
}

fn fill(slot: &Slot) {
    std::fs::create_dir_all(slot.path().join("deep/er")).unwrap();
    std::fs::write(slot.path().join("deep/er/b"), b"two").unwrap();
    std::fs::write(slot.path().join("a"), b"one").unwrap();
}

fn make(store: &Store, name: &str) -> Artifact {
    let slot = slot(store, name);
    fill(&slot);
    slot.commit(b"{\"log\":1}\n").unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map(|entries| {
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        })
        .unwrap_or_default();
    names.sort_unstable();
    names
}

#[test]
fn what_is_committed_is_found_again() {
    let home = Home::new();
    let made = make(&home.open(), "k");
    let store = home.open();
    let found = store.lookup(&key("k")).unwrap().unwrap();
    assert_eq!(found.digest, made.digest);
    assert_eq!(found.size(), 6);
    let paths: Vec<_> = found.manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a", "deep/er/b"]);
    assert_eq!(std::fs::read(found.file("deep/er/b")).unwrap(), b"two");
    assert_eq!(std::fs::metadata(found.file("a")).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(store.log(&key("k")).unwrap(), b"{\"log\":1}\n");
    assert_eq!(store.artifact(&made.digest).unwrap().unwrap().digest, made.digest);
    found.verify().unwrap();
    assert!(store.lookup(&key("other")).unwrap().is_none());
    assert!(store.take_notes().is_empty());
    assert!(names(&store.root().join("slots")).is_empty());
}

#[test]
fn equal_content_is_one_artifact_and_parts_see_only_what_they_read() {
    let home = Home::new();
    let store = home.open();
    let (one, two) = (make(&store, "k"), make(&store, "l"));
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
fn a_slot_that_is_not_committed_leaves_nothing() {
    let home = Home::new();
    let store = home.open();
    fill(&slot(&store, "k"));
    assert!(store.lookup(&key("k")).unwrap().is_none());
    assert!(names(&store.root().join("slots")).is_empty());
}

#[test]
fn an_artifact_holds_files_with_plain_names_alone() {
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
fn a_kill_at_any_step_of_a_commit_leaves_nothing_or_all() {
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
        make(&store, "k").verify().unwrap();
        assert!(names(&store.root().join("slots")).is_empty(), "what the kill left is gone");
        assert!(store.take_notes().is_empty(), "step {steps}");
        steps += 1;
    }
}

#[test]
fn every_truncation_of_an_artifact_or_a_key_is_noticed_said_and_made_again() {
    let home = Home::new();
    let store = home.open();
    let artifact = make(&store, "k");
    let damaged = store.root().join("damaged");
    for path in [artifact.file("manifest.json"), artifact.file("a"), store.key_path(&key("k"))] {
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(store.lookup(&key("k")).unwrap().is_none(), "{path:?} {length}");
            let notes = store.take_notes();
            assert!(notes.len() == 1 && notes[0].contains("damaged"), "{notes:?}");
            // Back to where it was, for the next length: committing each time would take long.
            let aside = damaged.join(&names(&damaged)[0]);
            std::fs::rename(
                aside,
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
        assert_eq!(make(&store, "k").digest, artifact.digest);
        assert!(store.take_notes().is_empty());
    }
}

#[test]
fn missing_files_changed_bytes_and_changed_times() {
    let home = Home::new();
    let store = home.open();
    let artifact = make(&store, "k");
    let writable =
        |path: &Path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
    let path = artifact.file("a");
    writable(&path);
    std::fs::write(&path, b"one").unwrap();
    assert!(
        store.lookup(&key("k")).unwrap().is_some(),
        "another time alone, as after a copy, is no damage"
    );
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o444,
        "and is put right"
    );
    writable(&path);
    std::fs::write(&path, b"eno").unwrap();
    assert!(store.lookup(&key("k")).unwrap().is_none());
    assert!(store.take_notes()[0].contains("the content of a "));
    let artifact = make(&store, "k");
    std::fs::remove_file(artifact.file("deep/er/b")).unwrap();
    assert!(store.lookup(&key("k")).unwrap().is_none());
    assert!(store.take_notes()[0].contains("deep/er/b is missing"));
    let artifact = make(&store, "k");
    std::fs::remove_file(artifact.file("manifest.json")).unwrap();
    assert!(store.lookup(&key("k")).unwrap().is_none());
    assert!(store.take_notes()[0].contains("manifest.json is missing"));
}

#[test]
fn verify_finds_what_times_do_not_tell() {
    let home = Home::new();
    let store = home.open();
    let artifact = make(&store, "k");
    let path = artifact.file("a");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(&path, b"eno").unwrap();
    artifact::settle(&std::fs::File::open(&path).unwrap()).unwrap();
    assert!(store.lookup(&key("k")).unwrap().is_some());
    assert!(artifact.verify().is_err());
    let verified = store.verify(&mut |_| true).unwrap();
    assert_eq!((verified.artifacts, verified.damaged.len()), (1, 1));
    assert!(store.lookup(&key("k")).unwrap().is_none());
    assert!(matches!(make(&store, "k").verify(), Ok(())));
    assert!(matches!(store.verify(&mut |_| false), Err(StoreError::Cancelled)));
}

#[test]
fn many_who_want_the_same_make_it_once() {
    let home = Home::new();
    let made = std::sync::atomic::AtomicU32::new(0);
    let digests: HashSet<Digest> = std::thread::scope(|scope| {
        let work = || {
            let store = home.open();
            match store.enter(&key("k"), false, &mut || true).unwrap() {
                Entry::Hit(artifact) => artifact.digest,
                Entry::Miss(slot) => {
                    made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    fill(&slot);
                    slot.commit(b"").unwrap().digest
                }
            }
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((digests.len(), made.into_inner()), (1, 1));
}

#[test]
fn whoever_waits_can_give_up_and_force_makes_again() {
    let home = Home::new();
    let store = home.open();
    let held = slot(&store, "k");
    let mut asked = 0;
    let gave_up = store.enter(&key("k"), false, &mut || {
        asked += 1;
        asked < 3
    });
    assert!(matches!(gave_up, Err(StoreError::Cancelled)));
    fill(&held);
    held.commit(b"first").unwrap();
    let Entry::Miss(again) = store.enter(&key("k"), true, &mut || true).unwrap() else {
        panic!("a hit")
    };
    std::fs::write(again.path().join("a"), b"other").unwrap();
    again.commit(b"second").unwrap();
    assert!(store.take_notes()[0].contains("other bytes"));
    assert_eq!(store.log(&key("k")).unwrap(), b"second");
}

#[test]
fn a_newer_store_is_refused_and_a_damaged_format_is_put_right() {
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
fn usage_counts_what_is_there() {
    let home = Home::new();
    let store = home.open();
    make(&store, "k");
    make(&store, "l");
    store.memo().put("features", "x", b"1").unwrap();
    let usage = store.usage().unwrap();
    assert_eq!((usage.artifacts.count, usage.keys.count, usage.runs.count), (1, 2, 0));
    assert_eq!(usage.memo["features"].count, 1);
    assert!(usage.total() > 6);
}

#[test]
fn gc_keeps_what_is_named_or_young_and_waits_for_nobody() {
    let home = Home::new();
    let store = home.open();
    let made = make(&store, "named");
    let other = slot(&store, "unnamed");
    std::fs::write(other.path().join("a"), b"other").unwrap();
    let other = other.commit(b"").unwrap();
    store.memo().put("b", "k", b"1").unwrap();
    std::fs::create_dir_all(store.root().join("slots/left-over")).unwrap();
    std::fs::create_dir_all(store.runs_folder().join("run")).unwrap();

    let mut keep = Keep { younger_than: Duration::from_secs(3600), ..Keep::default() };
    let second = home.open();
    assert!(matches!(store.gc(&keep, false), Err(StoreError::Locked { .. })));
    drop(second);
    store.gc(&keep, false).unwrap();
    assert!(
        store.lookup(&key("unnamed")).unwrap().is_some() && store.memo().get("b", "k").is_some()
    );
    assert!(names(&store.root().join("slots")).is_empty());

    keep = Keep { keys: HashSet::from([key("named")]), ..Keep::default() };
    let would = store.gc(&keep, true).unwrap();
    assert_eq!(
        (would.artifacts.count, store.lookup(&key("unnamed")).unwrap().is_some()),
        (1, true)
    );
    assert_eq!(store.gc(&keep, false).unwrap().artifacts.count, 1);
    assert!(
        store.lookup(&key("unnamed")).unwrap().is_none()
            && store.artifact(&other.digest).unwrap().is_none()
    );
    assert!(store.lookup(&key("named")).unwrap().is_some() && store.memo().get("b", "k").is_none());
    assert_eq!(names(&store.runs_folder()), ["run"]);

    keep = Keep { digests: HashSet::from([made.digest]), ..Keep::default() };
    store.gc(&keep, false).unwrap();
    assert!(store.lookup(&key("named")).unwrap().is_some(), "the key of a named artifact stays");
    store.gc(&Keep::default(), false).unwrap();
    assert!(store.lookup(&key("named")).unwrap().is_none());
    assert!(store.take_notes().is_empty());
}
