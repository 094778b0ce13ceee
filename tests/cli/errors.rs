//! Requests that are fine and yet can't be met: a clear sentence, what to do, exit code 1, and no artifact.

use crate::support::{Desk, Ran};

/// Runs `tiny.toml`, which must fail in `stage`, leaving no artifact of it; returns what was said.
fn fails(desk: &Desk, stage: &str) -> Ran {
    let ran = desk.pipe(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    let status = desk.ok(&["status", "tiny.toml", "--json"]).json();
    let stages = status["stages"].as_array().unwrap();
    let state = stages.iter().find(|planned| planned["stage"] == stage).unwrap();
    assert_ne!(state["state"], "fresh", "{stage} left an artifact: {ran}");
    ran
}

#[test]
fn a_missing_folder() {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", "path:images", "path:nowhere");
    let ran = desk.pipe(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(
        ran.stderr.starts_with("error: stage `fetch`: ") && ran.stderr.contains("nowhere"),
        "{ran}"
    );
}

#[test]
fn a_folder_without_images() {
    let desk = Desk::tiny();
    desk.write("empty/notes.txt", "no images here");
    desk.edit("tiny.toml", "path:images", "path:empty");
    let ran = desk.pipe(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.stderr.contains("no images"), "{ran}");
}

#[test]
fn one_class() {
    let desk = Desk::tiny();
    std::fs::remove_dir_all(desk.path("images")).unwrap();
    desk.images("images", &["disc"], 12);
    let ran = fails(&desk, "preprocess");
    assert!(ran.stderr.contains("only one class"), "{ran}");
}

#[test]
fn a_class_with_one_image() {
    let desk = Desk::tiny();
    std::fs::copy(desk.path("images/0_disc.png"), desk.path("images/99_other.png")).unwrap();
    let bytes = std::fs::read(desk.path("images/1_bar.png")).unwrap();
    desk.write("images/99_other.png", bytes);
    let ran = fails(&desk, "preprocess");
    assert!(ran.stderr.contains("other"), "{ran}");
}

#[test]
fn an_empty_split() {
    let desk = Desk::tiny();
    desk.edit(
        "tiny.toml",
        "train = 0.5, validation = 0.25, test = 0.25",
        "train = 0.98, validation = 0.01, test = 0.01",
    );
    let ran = fails(&desk, "preprocess");
    assert!(ran.stderr.contains("split"), "{ran}");
}

#[test]
fn a_pattern_that_fits_almost_nothing_shows_names() {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", r"^(?<index>\d+)_(?<class>\w+)$", r"^(?<class>[a-z]+)-\d+$");
    let ran = fails(&desk, "preprocess");
    let shown =
        ["0_disc", "1_bar", "2_frame"].iter().filter(|name| ran.stderr.contains(**name)).count();
    assert!(shown > 0, "some of the names are shown: {ran}");
}

#[test]
fn unreadable_images_are_listed_and_left_out() {
    let desk = Desk::tiny();
    desk.images("images", &["disc", "bar", "frame"], 10);
    desk.write("images/900_disc.png", "not an image");
    let ran = desk.ok(&["run", "tiny.toml", "--until", "preprocess"]);
    assert!(ran.stderr.contains("900_disc.png"), "{ran}");
    assert!(ran.stderr.contains("warning"), "{ran}");
    // The warning is said again when nothing runs.
    let again = desk.ok(&["run", "tiny.toml", "--until", "preprocess"]);
    assert!(again.stderr.contains("900_disc.png"), "{again}");
    for index in 901..906 {
        desk.write(&format!("images/{index}_bar.png"), format!("no image {index}"));
    }
    let ran = fails(&desk, "preprocess");
    assert!(ran.stderr.contains("max_rejected"), "{ran}");
}

#[test]
fn failed_runs_are_recorded_and_the_rest_is_kept() {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", r"(?<class>\w+)", r"(?<class>x+)");
    let ran = fails(&desk, "preprocess");
    assert!(
        ran.stdout.contains("failed after") && ran.stdout.contains("completed: fetch"),
        "{ran}"
    );
    assert!(ran.stderr.contains("skipped"), "{ran}");
    let runs = desk.ok(&["runs", "--json"]).json();
    assert_eq!((&runs[0]["status"], &runs[0]["ran"][0]), (&"failed".into(), &"fetch".into()));
    assert!(desk.ok(&["show", "@0"]).stdout.contains("failed: stage `"));
    // Mended, it goes on from there.
    desk.edit("tiny.toml", r"(?<class>x+)", r"(?<class>\w+)");
    let mended = desk.events(&["tiny.toml", "--until", "preprocess"]);
    assert_eq!(
        (mended.with_outcome("fresh"), mended.with_outcome("ran")),
        (vec!["fetch".into()], vec!["preprocess".into()])
    );
}

#[test]
fn a_timeout_stops_a_stage() {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", "epochs = 1\n", "epochs = 5000\ntimeout = 1.5\n");
    let ran = fails(&desk, "train");
    assert!(ran.stderr.contains("1.5"), "{ran}");
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let desk = Desk::tiny();
    desk.ok(&["run", "tiny.toml", "--until", "fetch"]);
    let ran = desk.pipe(&["cache", "du", "--cache", "tiny.toml"]);
    assert!(ran.code == 2 || ran.code == 1, "a file is no store: {ran}");
    let ran = desk.pipe(&["runs", "--cache", "nowhere"]);
    assert_eq!((ran.code, desk.path("nowhere").exists()), (2, false), "{ran}");
}
