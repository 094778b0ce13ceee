//! Ends that a store can come to by others' hands: a newer format, a manifest that was edited, an
//! artifact that was removed, a clock that was set back. Each has its sentence and exit code.

use crate::support::{Desk, Events};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Two stages that are quick to run.
const UNTIL: [&str; 3] = ["tiny.toml", "--until", "explore"];

/// The folder of a stage's artifact.
fn artifact(desk: &Desk, events: &Events, stage: &str) -> PathBuf {
    let digest = &events.digests()[stage];
    desk.path("cache/v1/artifacts").join(&digest[..2]).join(digest)
}

#[test]
fn a_newer_store_is_refused_by_each_command() {
    let desk = Desk::tiny();
    desk.events(&UNTIL);
    desk.write("cache/v1/format", "pipe store 2\n");
    for arguments in [
        &["run", "tiny.toml"][..],
        &["status", "tiny.toml"],
        &["runs"],
        &["show", "@0"],
        &["cache", "verify"],
        &["cache", "gc"],
    ] {
        let ran = desk.pipe(arguments);
        assert_eq!(ran.code, 3, "{ran}");
        let name = format!("newer_store_{}", arguments.join("_").replace(['@', '.'], ""));
        ran.snapshot(&name);
    }
    // Nothing was written to it.
    assert_eq!(desk.read("cache/v1/format"), "pipe store 2\n");
}

#[test]
fn a_manifest_that_was_edited_is_not_believed() {
    let desk = Desk::tiny();
    let first = desk.events(&UNTIL);
    let manifest = artifact(&desk, &first, "explore").join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap().replace("\"len\":", "\"len\":1");
    fs::remove_file(&manifest).unwrap();
    fs::write(&manifest, text).unwrap();
    desk.ok(&["run", "tiny.toml", "--until", "explore", "--dry-run"])
        .snapshot("plan_of_an_edited_manifest");
    desk.ok(&[&["run"], &UNTIL[..], &["--jobs", "1"]].concat())
        .snapshot("run_of_an_edited_manifest");
    let again = desk.events(&UNTIL);
    assert_eq!(again.digests(), first.digests());
    assert!(again.with_outcome("ran").is_empty());
}

#[test]
fn an_artifact_that_was_removed_is_made_again() {
    let desk = Desk::tiny();
    let first = desk.events(&UNTIL);
    fs::remove_dir_all(artifact(&desk, &first, "explore")).unwrap();
    desk.ok(&["run", "tiny.toml", "--until", "explore", "--dry-run"])
        .snapshot("plan_of_a_removed_artifact");
    desk.ok(&[&["run"], &UNTIL[..], &["--jobs", "1"]].concat())
        .snapshot("run_of_a_removed_artifact");
    assert_eq!(desk.events(&UNTIL).digests(), first.digests());
}

/// A clock that is set back leaves files, of the store and of the user, that are of the future.
#[test]
fn a_clock_that_was_set_back_hides_no_change() {
    let desk = Desk::tiny();
    let first = desk.events(&UNTIL);
    let future = SystemTime::now() + Duration::from_secs(10 * 365 * 24 * 3600);
    let store = walkdir::WalkDir::new(desk.path("cache")).into_iter().map(|entry| entry.unwrap());
    let images = walkdir::WalkDir::new(desk.path("images")).into_iter().map(|entry| entry.unwrap());
    let in_store =
        |path: &std::path::Path| path.strip_prefix(desk.path("cache/v1/artifacts")).is_ok();
    for entry in store.chain(images).filter(|entry| !in_store(entry.path())) {
        fs::File::open(entry.path()).unwrap().set_modified(future).unwrap();
    }
    let second = desk.events(&UNTIL);
    assert!(second.with_outcome("ran").is_empty());
    // A change at the present time is noticed, though the file was of the future.
    fs::copy(desk.path("images/1_bar.png"), desk.path("images/0_disc.png")).unwrap();
    let third = desk.events(&UNTIL);
    assert_eq!(third.with_outcome("ran"), ["explore", "fetch"]);
    assert_ne!(third.digests(), first.digests());
    // The latest run is the one that was last, not the one with the latest time.
    let shown = desk.ok(&["show", "@0", "--json"]).json();
    assert_eq!(shown["run"]["id"], third.end()["run"]);
    desk.ok(&["cache", "gc", "--yes"]);
    assert!(desk.events(&UNTIL).with_outcome("ran").is_empty());
}
