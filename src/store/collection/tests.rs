//! Tests of garbage collection on stores: what stays, limits that are kept, and kills.

use super::*;
use crate::store::tests::{Home, build, key, names, slot};
use proptest::prelude::*;

fn collect(store: &Store, keep: &Keep) -> Result<Collection, StoreError> {
    store.exclusively(|exclusive| exclusive.collect(keep, None))
}

fn artifacts(collection: &Collection) -> usize {
    let parts = collection.removed.iter().map(|removed| &removed.item.part);
    parts.filter(|part| matches!(part, Part::Artifact(_))).count()
}

/// An artifact of `bytes` bytes.
fn sized(store: &Store, name: &str, bytes: usize) -> Digest {
    let slot = slot(store, name);
    std::fs::write(slot.path().join("a"), name.repeat(bytes / name.len())).unwrap();
    slot.commit(b"").unwrap().digest
}

#[test]
fn gc_keeps_named_and_young_entries_and_needs_the_exclusive_lock() {
    let home = Home::new();
    let store = home.open();
    let kept = build(&store, "named");
    let other = slot(&store, "unnamed");
    std::fs::write(other.path().join("a"), b"other").unwrap();
    let other = other.commit(b"").unwrap();
    store.memo().put("b", "k", b"1").unwrap();
    std::fs::create_dir_all(store.root().join("slots/left-over")).unwrap();
    std::fs::create_dir_all(store.runs_folder().join("run")).unwrap();

    let mut keep = Keep { younger_than: Duration::from_secs(3600), ..Keep::default() };
    let second = home.open();
    assert!(matches!(collect(&store, &keep), Err(StoreError::Locked { .. })));
    let planned = store.plan_collection(&keep).unwrap();
    assert!(planned.is_in_use && planned.removed.is_empty());
    drop(second);
    collect(&store, &keep).unwrap();
    assert!(
        store.lookup(&key("unnamed")).unwrap().is_some() && store.memo().get("b", "k").is_some()
    );
    assert!(names(&store.root().join("slots")).is_empty());

    keep = Keep { keys: HashSet::from([key("named")]), ..Keep::default() };
    let planned = artifacts(&store.plan_collection(&keep).unwrap());
    assert_eq!((planned, store.lookup(&key("unnamed")).unwrap().is_some()), (1, true));
    assert_eq!(artifacts(&collect(&store, &keep).unwrap()), 1);
    assert!(
        store.lookup(&key("unnamed")).unwrap().is_none()
            && store.artifact(&other.digest).unwrap().is_none()
    );
    assert!(store.lookup(&key("named")).unwrap().is_some() && store.memo().get("b", "k").is_none());
    assert_eq!(names(&store.runs_folder()), ["run"]);

    keep = Keep { digests: HashSet::from([kept.digest]), ..Keep::default() };
    collect(&store, &keep).unwrap();
    assert!(store.lookup(&key("named")).unwrap().is_some(), "the key of a named artifact stays");
    collect(&store, &Keep::default()).unwrap();
    assert!(store.lookup(&key("named")).unwrap().is_none());
    assert!(store.take_notes().is_empty());
}

#[test]
fn only_what_was_confirmed_goes() {
    let home = Home::new();
    let store = home.open();
    let [one, other] = ["one", "other"].map(|name| sized(&store, name, 1000));
    let among = HashSet::from([Part::Artifact(one)]);
    let keep = Keep::default();
    let removed = store.exclusively(|exclusive| exclusive.collect(&keep, Some(&among))).unwrap();
    assert_eq!(removed.removed.len(), 1);
    assert_eq!(removed.after(), store.plan_collection(&keep).unwrap().before);
    assert_eq!(store.artifacts(), [other]);
}

#[test]
fn parts_of_an_entry_go_with_it() {
    let home = Home::new();
    let store = home.open();
    let file = home.folder.path().join("file");
    for name in ["header", "tensors"] {
        store.memo().put("b", name, b"1").unwrap();
    }
    std::fs::write(&file, [7; 5000]).unwrap();
    store.memo().link("b", "tensors", &file).unwrap();
    let [header, tensors] = ["header", "tensors"].map(|name| MemoName::of("b", name));
    let parts = HashMap::from([(tensors, header.clone())]);
    let kept = Keep { parts: parts.clone(), memo: HashSet::from([header]), ..Keep::default() };
    assert!(collect(&store, &kept).unwrap().removed.is_empty());
    let removed = collect(&store, &Keep { parts, ..Keep::default() }).unwrap().removed;
    assert_eq!(removed.len(), 1);
    assert!(removed[0].bytes > 5000);
    assert!(store.memo().files().unwrap().is_empty());
}

#[test]
fn a_bucket_can_be_kept_whatever_its_age() {
    let home = Home::new();
    let store = home.open();
    store.memo().put("hub pins", "k", b"1").unwrap();
    let keep = Keep { buckets: vec!["hub pins"], max_bytes: Some(0), ..Keep::default() };
    assert!(collect(&store, &keep).unwrap().removed.is_empty());
    assert!(store.memo().get("hub pins", "k").is_some());
}

#[test]
fn a_collection_killed_at_any_step_leaves_whole_artifacts_and_the_next_one_ends_it() {
    for step in 0..40 {
        let home = Home::new();
        let store = home.open();
        let kept = sized(&store, "kept", 3000);
        for name in ["one", "two", "three"] {
            sized(&store, name, 2000);
        }
        store.memo().put("b", "k", b"1").unwrap();
        std::fs::create_dir_all(store.root().join("slots/left-over")).unwrap();
        let keep = Keep { digests: HashSet::from([kept]), ..Keep::default() };
        let killed = fault::kill_after(step, || collect(&store, &keep));
        assert!(store.verify(&mut |_| true).unwrap().damaged.is_empty(), "step {step}");
        collect(&store, &keep).unwrap();
        assert_eq!(store.artifacts(), [kept], "step {step}");
        assert!(store.lookup(&key("kept")).unwrap().is_some());
        assert!(names(&store.root().join("slots")).is_empty());
        assert!(collect(&store, &keep).unwrap().removed.is_empty(), "step {step}");
        if killed.is_ok() {
            assert!(step > 8, "a kill at every step was tried");
            return;
        }
    }
    panic!("the collection takes more steps than were tried");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_limit_holds_and_nothing_that_is_kept_goes(
        sizes in proptest::collection::vec((500..6000usize, any::<bool>()), 1..7),
        limit in 0..20_000u64,
    ) {
        let home = Home::new();
        let store = home.open();
        let mut kept = HashSet::new();
        for (at, (bytes, is_kept)) in sizes.iter().enumerate() {
            let digest = sized(&store, &format!("stage {at}"), *bytes);
            if *is_kept {
                kept.insert(digest);
            }
        }
        let keep = Keep {
            digests: kept.clone(),
            younger_than: Duration::from_secs(3600),
            max_bytes: Some(limit),
            ..Keep::default()
        };
        let planned = store.plan_collection(&keep).unwrap();
        let collected = collect(&store, &keep).unwrap();
        prop_assert_eq!((planned.freed(), planned.before), (collected.freed(), collected.before));
        let left: HashSet<Digest> = store.artifacts().into_iter().collect();
        prop_assert!(kept.is_subset(&left));
        let after = store.plan_collection(&keep).unwrap();
        prop_assert_eq!(after.before, collected.after());
        prop_assert!(after.before <= limit || left == kept);
        prop_assert!(after.removed.is_empty());
    }
}
