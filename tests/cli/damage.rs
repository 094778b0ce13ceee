//! Damage to a store, file by file and folder by folder: none of it is believed, and the next run ends
//! with the outputs of a fresh store.

use crate::support::Desk;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Changes a byte in the middle of a file, so that only its content shows it.
fn flip(path: &Path) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// The folder of a run's record.
fn record(desk: &Desk, run: &str) -> PathBuf {
    desk.path(desk.ok(&["show", run, "--json"]).json()["folder"].as_str().unwrap())
}

fn accuracy(desk: &Desk, run: &str) -> Value {
    desk.ok(&["show", run, "--json"]).json()["evaluations"][0]["metrics"]["accuracy"].clone()
}

#[test]
fn a_changed_file_of_a_record_is_not_believed_and_restored() {
    let desk = Desk::trained();
    let before = accuracy(&desk, "@0");
    desk.ok(&["cache", "verify"]).snapshot("verify_sound_records");
    let folder = record(&desk, "@0");
    flip(&folder.join("results/evaluate/metrics.json"));
    fs::remove_file(folder.join("results/train/history.csv")).unwrap();
    assert_eq!(accuracy(&desk, "@0"), before, "that of the artifact");
    let log = desk.ok(&["log", "@0", "fetch"]);
    desk.snapshot("warnings_about_a_record", &log.stderr);
    assert_eq!(desk.ok(&["run", "tiny.toml"]).code, 0);
    let verified = desk.pipe(&["cache", "verify"]);
    assert_eq!(verified.code, 3, "{verified}");
    verified.snapshot("verify_a_record_that_is_repaired");
    assert_eq!(desk.ok(&["cache", "verify"]).stderr, "");
    assert_eq!(desk.ok(&["log", "@0", "fetch"]).stderr, "");

    // Without the artifact nothing is left to show, and that is said.
    desk.ok(&["cache", "gc", "--keep-runs", "0", "--keep-days", "0"]);
    flip(&folder.join("results/evaluate/metrics.json"));
    assert_eq!(accuracy(&desk, "@0"), Value::Null);
    let verified = desk.pipe(&["cache", "verify"]);
    assert_eq!(verified.code, 3, "{verified}");
    verified.snapshot("verify_a_record_that_stays_damaged");
    desk.ok(&["runs", "rm", "@0"]);
    assert_eq!(desk.ok(&["cache", "verify"]).stderr, "");
}

#[test]
fn a_changed_record_is_shown_as_damaged_and_recorded_again() {
    let desk = Desk::trained();
    let before = accuracy(&desk, "@0");
    let folder = record(&desk, "@0");
    let text = fs::read_to_string(folder.join("run.json")).unwrap();
    // A value that parses as well.
    fs::write(folder.join("run.json"), text.replace("\"seed\": 42", "\"seed\": 43")).unwrap();
    let show = desk.pipe(&["show", folder.file_name().unwrap().to_str().unwrap()]);
    assert_eq!(show.code, 3, "{show}");
    show.snapshot("show_a_changed_record");
    assert_eq!(desk.ok(&["runs", "--json"]).json()[0]["status"], "unreadable");
    // Every stage is up to date, and no run shows their outputs.
    desk.ok(&["run", "tiny.toml"]).snapshot("outputs_of_no_record");
    assert_eq!(accuracy(&desk, "@0"), before);
    desk.ok(&["run", "tiny.toml"]).snapshot("outputs_that_were_recorded");
    assert_eq!(desk.ok(&["runs", "--json"]).json().as_array().unwrap().len(), 2);
    assert_eq!(desk.pipe(&["cache", "verify"]).code, 3);
    desk.ok(&["runs", "rm", folder.file_name().unwrap().to_str().unwrap()]);
    assert_eq!(desk.ok(&["cache", "verify"]).stderr, "");
}

#[test]
fn outputs_without_a_record_are_recorded() {
    let desk = Desk::trained();
    let before = desk.ok(&["show", "@0", "--json"]).json();
    fs::remove_dir_all(desk.path("cache/v1/runs")).unwrap();
    let events = desk.events(&["tiny.toml"]);
    assert_eq!(events.with_outcome("ran"), Vec::<String>::new());
    let after = desk.ok(&["show", "@0", "--json"]).json();
    assert_eq!(events.end()["run"], after["run"]["id"]);
    assert_eq!(after["evaluations"], before["evaluations"]);
    assert!(desk.path(&format!("{}/report.html", after["folder"].as_str().unwrap())).exists());
    // A part of it is on record, too.
    desk.ok(&["run", "tiny.toml", "--until", "preprocess"]);
    assert_eq!(desk.ok(&["runs", "--json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn metrics_are_checked_before_they_are_shown() {
    let desk = Desk::trained();
    let first = desk.events(&["tiny.toml"]).digests();
    let why = desk.ok(&["why", "tiny.toml", "evaluate", "--json"]).json();
    flip(&desk.path(why["artifact"].as_str().unwrap()).join("metrics.json"));
    let again = desk.events(&["tiny.toml"]);
    assert_eq!(again.with_outcome("ran"), ["evaluate"]);
    assert_eq!(again.digests(), first);
    assert_eq!(desk.ok(&["cache", "verify"]).stderr, "");
}

#[test]
fn files_that_nobody_committed_are_moved_aside() {
    let desk = Desk::trained();
    let why = desk.ok(&["why", "tiny.toml", "train", "--json"]).json();
    let artifact = desk.path(why["artifact"].as_str().unwrap());
    fs::write(artifact.join("model.onnx"), "another model").unwrap();
    fs::create_dir_all(artifact.join("folder/deep")).unwrap();
    symlink("/nowhere", artifact.join("link")).unwrap();
    let verified = desk.pipe(&["cache", "verify"]);
    assert_eq!(verified.code, 3, "{verified}");
    verified.snapshot("verify_finds_strays");
    assert_eq!(desk.ok(&["cache", "verify"]).stderr, "");
    assert_eq!(desk.events(&["tiny.toml"]).with_outcome("ran"), Vec::<String>::new());
}

/// Two stages that are quick to run.
const UNTIL: [&str; 5] = ["tiny.toml", "--until", "explore", "--jobs", "1"];

/// The paths below a store, in a steady order: its files, or its folders.
fn below(store: &Path, folders: bool) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(store).min_depth(1).sort_by_file_name();
    let entries = entries.into_iter().map(|entry| entry.unwrap());
    let wanted = entries.filter(|entry| entry.file_type().is_dir() == folders);
    wanted.map(|entry| entry.path().strip_prefix(store).unwrap().to_owned()).collect()
}

/// A desk whose store has the outputs of [`UNTIL`], and their digests.
fn explored() -> (Desk, BTreeMap<String, String>) {
    let desk = Desk::tiny();
    let digests = desk.events(&UNTIL).digests();
    let moved = fs::rename(desk.path("cache"), desk.path("whole"));
    moved.unwrap();
    (desk, digests)
}

/// Puts a copy of the whole store in the place of the damaged one.
fn reset(desk: &Desk) {
    let _ = fs::remove_dir_all(desk.path("cache"));
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([desk.path("whole"), desk.path("cache")])
        .status();
    assert!(copied.unwrap().success());
}

/// After any damage a run ends with the outputs of a fresh store, and so does the next one.
fn assert_recovers(desk: &Desk, digests: &BTreeMap<String, String>, damage: &str) {
    let ran = desk.pipe(&[&["run"], &UNTIL[..], &["--json"]].concat());
    assert_eq!(ran.code, 0, "{damage}: {ran}");
    assert_eq!(ran.events().digests(), *digests, "{damage}");
    let forced = desk.pipe(&[&["run"], &UNTIL[..], &["--json", "--force=explore"]].concat());
    assert_eq!(forced.code, 0, "{damage}: {forced}");
    assert_eq!(forced.events().digests(), *digests, "{damage}");
}

/// A name and what is done to a file.
type Damage = (&'static str, fn(&Path));

#[test]
fn every_damaged_file_is_made_good_by_a_run() {
    let (desk, digests) = explored();
    let files = below(&desk.path("whole"), false);
    assert!(files.len() > 15, "{files:?}");
    for (index, file) in files.iter().enumerate() {
        let damages: [Damage; 5] = [
            ("flipped", |path| {
                if fs::metadata(path).unwrap().len() > 0 {
                    flip(path);
                }
            }),
            ("cut", |path| {
                let bytes = fs::read(path).unwrap();
                fs::remove_file(path).unwrap();
                fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            }),
            ("deleted", |path| fs::remove_file(path).unwrap()),
            ("a folder", |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir_all(path.join("inside")).unwrap();
            }),
            ("a link", |path| {
                fs::remove_file(path).unwrap();
                symlink("nowhere", path).unwrap();
            }),
        ];
        // Two of the five for each file take half a minute; all meet every kind of file.
        for offset in [0, 2] {
            let (name, damage) = damages[(index + offset) % damages.len()];
            reset(&desk);
            damage(&desk.path("cache").join(file));
            assert_recovers(&desk, &digests, &format!("{} {name}", file.display()));
        }
    }
}

#[test]
fn every_replaced_folder_is_made_good_by_a_run() {
    let (desk, digests) = explored();
    let folders = below(&desk.path("whole"), true);
    assert!(folders.len() > 15, "{folders:?}");
    let own = Path::new("v1");
    for (index, folder) in folders.iter().filter(|folder| *folder != own).enumerate() {
        reset(&desk);
        let path = desk.path("cache").join(folder);
        fs::remove_dir_all(&path).unwrap();
        let name = match index % 2 {
            0 => fs::write(&path, "in its place").map(|()| "a file"),
            _ => symlink("nowhere", &path).map(|()| "a link"),
        };
        assert_recovers(&desk, &digests, &format!("{} {}", folder.display(), name.unwrap()));
    }
    reset(&desk);
    fs::remove_dir_all(desk.path("cache/v1")).unwrap();
    symlink("nowhere", desk.path("cache/v1")).unwrap();
    let ran = desk.pipe(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("a_link_in_place_of_the_store");
}
