//! Tests of damage in the store that a run comes upon.

use super::*;
use crate::random::Stream;
use crate::store::Digest;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

/// Changes a byte of a file of the artifact of stage `of`, so that only its content shows it.
fn flip(run: &Run, of: &str, name: &str) {
    let stage = run.report.stages.iter().find(|stage| stage.stage == of).unwrap();
    flip_file(&stage.artifact.as_ref().unwrap().file(name));
}

/// Changes the first byte of a file; its time stays.
pub(super) fn flip_file(path: &Path) {
    let time: SystemTime = std::fs::metadata(path).unwrap().modified().unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn damaged_inputs_are_noticed_before_they_are_read_and_rebuilt() {
    let home = Home::new();
    let first = home.run(CHAIN);
    flip(&first, "a", "text");
    let changed = CHAIN.replace("\"b\"", "\"B\"").replace("above = \"B\"", "above = \"b\"");
    let run = home.run(&changed);
    assert_eq!(run.outcomes(), "a ran, b ran, c ran");
    assert_eq!(run.text("c"), "plainBc");
    assert!(run.reasons("a")[0].to_string().contains("was damaged"), "{:?}", run.reasons("a"));
    assert_eq!(run.messages().iter().filter(|text| text.contains("was damaged")).count(), 1);
    let starts = run.events.iter().filter_map(|event| match event {
        Event::StageStarted { stage, reasons, .. } if stage == "b" => Some(reasons.clone()),
        _ => None,
    });
    let starts: Vec<Vec<String>> = starts.collect();
    assert_eq!(starts.len(), 2);
    assert_eq!(starts[0], starts[1], "its input was rebuilt, its reason is the same");
    assert_eq!(home.run(&changed).outcomes(), "a fresh, b fresh, c fresh");
    assert_eq!(home.leftovers(), 0);
}

#[test]
fn damage_is_followed_up_to_where_it_began() {
    let home = Home::new();
    let first = home.run(CHAIN);
    flip(&first, "a", "text");
    flip(&first, "b", "text");
    let run = home.run(&changed_chain());
    assert_eq!(run.outcomes(), "a ran, b ran, c ran");
    assert_eq!(run.text("c"), "plainbC");
}

#[test]
fn files_that_are_not_read_are_looked_at_only_after_a_failure() {
    let home = Home::new();
    let text = CHAIN.replace("text = \"b\"", "text = \"b\"\nact = \"ACT\"");
    let first = home.run(&text.replace("kind = \"write\"", "kind = \"write\"\naside = \"x\""));
    assert_eq!(first.outcomes(), "a ran, b ran, c ran");
    flip(&first, "a", "aside");
    let text = text.replace("kind = \"write\"", "kind = \"write\"\naside = \"x\"");
    let text = text.replace("\"b\"\nact", "\"B\"\nact");
    let run = home.run(&text.replace("ACT", "fail"));
    assert_eq!(run.outcomes(), "a ran, b failed, c skipped");
    assert_eq!(run.error("b"), "it failed\ndo better");
    assert_eq!(home.run(&text.replace("ACT", "")).outcomes(), "a fresh, b ran, c ran");
}

#[test]
fn an_artifact_that_disappears_during_a_run_is_made_again() {
    let home = Home::new();
    let first = home.run(CHAIN);
    let artifact = first.report.stages[1].artifact.clone().unwrap();
    let cancel = CancellationToken::new();
    let text = changed_chain();
    let (graph, store) = (home.graph(&text).unwrap(), home.store());
    let plan = plan(&graph, &store, &Options::default(), &home, &cancel).unwrap();
    std::fs::remove_dir_all(&artifact.path).unwrap();
    let launcher = InProcessLauncher(KINDS);
    let mut handler = |_: &Event| {};
    let options = Options::default();
    let report =
        execute_with(&launcher, &graph, plan, &store, &options, &cancel, &mut handler).unwrap();
    let run = Run { report, events: Vec::new() };
    assert_eq!(run.outcomes(), "a fresh, b ran, c ran");
    assert_eq!(run.text("c"), "plainbC");
}

/// The ways in which a file is damaged.
const DAMAGES: [&str; 6] = ["first byte", "middle byte", "last byte", "cut", "deleted", "a folder"];

/// Damages a file; times and modes stay, so that only its content shows it.
fn damage(path: &Path, how: &str) {
    let time = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    std::fs::remove_file(path).unwrap();
    let at = match how {
        "first byte" => 0,
        "middle byte" => bytes.len() / 2,
        "last byte" => bytes.len().saturating_sub(1),
        "cut" => {
            bytes.truncate(bytes.len() / 2);
            0
        }
        "deleted" => return,
        _ => return std::fs::create_dir_all(path.join("inside")).unwrap(),
    };
    if how != "cut"
        && let Some(byte) = bytes.get_mut(at)
    {
        *byte ^= 0x10;
    }
    std::fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// [`CHAIN`], of whose outputs all but the last are read.
fn changed_chain() -> String {
    CHAIN.replace("\"c\"\n    needs", "\"C\"\n    needs")
}

/// A run, a check of the store and another run end as a run with a fresh store.
fn assert_recovers(home: &Home, place: &str) {
    static FRESH: OnceLock<Vec<Digest>> = OnceLock::new();
    let text = changed_chain();
    let digests =
        |run: &Run| run.report.stages.iter().map(|stage| stage.digest.unwrap()).collect::<Vec<_>>();
    let fresh = FRESH.get_or_init(|| digests(&Home::new().run(&text)));
    let run = home.run(&text);
    assert_eq!(run.report.outcome, RunOutcome::Ok, "{place}");
    assert_eq!(digests(&run), *fresh, "{place}");
    assert_eq!(run.text("c"), "plainbC", "{place}");
    // What no stage has read is found by a check, and then all is sound.
    home.store().verify(&mut |_| true).unwrap();
    assert_eq!(digests(&home.run(&text)), *fresh, "{place}");
    assert!(home.store().verify(&mut |_| true).unwrap().damaged.is_empty(), "{place}");
}

/// Every file of a store, in every way: what a later run makes of the store is what it makes of a
/// fresh one.
#[test]
fn after_any_damage_a_run_ends_as_with_a_fresh_store() {
    let home = Home::new();
    home.run(CHAIN);
    let store = home.path("cache");
    let files = walkdir::WalkDir::new(&store).sort_by_file_name().into_iter();
    let files = files.map(|entry| entry.unwrap()).filter(|entry| entry.file_type().is_file());
    let files: Vec<PathBuf> =
        files.map(|entry| entry.path().strip_prefix(&store).unwrap().to_owned()).collect();
    assert!(files.len() > 12, "{files:?}");
    copy(&store, &home.path("whole"));
    for file in &files {
        for how in DAMAGES {
            std::fs::remove_dir_all(&store).unwrap();
            copy(&home.path("whole"), &store);
            damage(&store.join(file), how);
            let place = format!("{} {how}", file.display());
            assert_recovers(&home, &place);
        }
    }
}

/// The states in which a file is after a crash of a machine whose file system said that it had
/// synced it, and had not.
fn lose(path: &Path, how: u64) {
    let time = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    std::fs::remove_file(path).unwrap();
    match how {
        0 => return,
        1 => bytes.clear(),
        2 => bytes.fill(0),
        _ => bytes.truncate(bytes.len() / 3),
    }
    std::fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// Any files of a store at once, with names and folders that were written or weren't: what a later
/// run makes of it is what it makes of a fresh one.
#[test]
fn after_a_crash_on_a_disk_that_lies_about_syncing_a_run_ends_as_with_a_fresh_store() {
    let home = Home::new();
    home.run(CHAIN);
    let store = home.path("cache");
    copy(&store, &home.path("whole"));
    let paths = |root: &Path| -> Vec<PathBuf> {
        let entries = walkdir::WalkDir::new(root).min_depth(2).sort_by_file_name().into_iter();
        entries.map(|entry| entry.unwrap().into_path()).collect()
    };
    for crash in 0..120 {
        let mut random = Stream::new(1, "crash", &[crash]);
        std::fs::remove_dir_all(&store).unwrap();
        copy(&home.path("whole"), &store);
        // A few files, or most of them.
        let share = if crash % 2 == 0 { 0.1 } else { 0.6 };
        for path in paths(&store) {
            if path.is_file() && random.chance(share) {
                lose(&path, random.below(4));
            } else if path.is_dir() && random.chance(share / 20.0) {
                std::fs::remove_dir_all(&path).unwrap();
            }
        }
        assert_recovers(&home, &format!("crash {crash}"));
    }
}

#[test]
fn leftovers_of_killed_processes_are_cleared() {
    let home = Home::new();
    home.run(CHAIN);
    let root = home.path("cache/v1");
    let other = Digest::of(b"another key");
    for folder in [format!("slots/{other}-1-0"), "jobs/run-abc".to_owned()] {
        std::fs::create_dir_all(root.join(&folder)).unwrap();
        std::fs::write(root.join(&folder).join("lock"), "").unwrap();
    }
    assert_eq!(home.leftovers(), 2);
    // A process that lives holds its own.
    let store = home.store();
    let held = Digest::of(b"a key in use");
    let entry = store.enter(&held, false, &mut || true).unwrap();
    let job_folder = store.job_folder().unwrap();
    assert_eq!(home.run(&changed_chain()).outcomes(), "a fresh, b fresh, c ran");
    assert_eq!(home.leftovers(), 2, "those in use");
    drop((entry, job_folder));
    assert_eq!(home.leftovers(), 0);
}
