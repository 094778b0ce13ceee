//! Valid requests that can't be met: one sentence, what to do, exit code 1, and no artifact.

use crate::support::{Desk, Ran};

/// Runs `tiny.toml` up to `stage`, which must fail and leave no artifact.
fn fails(desk: &Desk, stage: &str) -> Ran {
    let ran = desk.pipe(&["run", "tiny.toml", "--jobs", "1", "--until", stage]);
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
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("missing_folder");
}

#[test]
fn a_folder_without_images() {
    let desk = Desk::tiny();
    desk.write("empty/notes.txt", "no images here");
    desk.edit("tiny.toml", "path:images", "path:empty");
    let ran = desk.pipe(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("no_images");
}

#[test]
fn one_class() {
    let desk = Desk::tiny();
    std::fs::remove_dir_all(desk.path("images")).unwrap();
    desk.images("images", &["disc"], 12);
    fails(&desk, "preprocess").snapshot("one_class");
}

#[test]
fn a_class_with_one_image() {
    let desk = Desk::tiny();
    std::fs::copy(desk.path("images/0_disc.png"), desk.path("images/99_other.png")).unwrap();
    let bytes = std::fs::read(desk.path("images/1_bar.png")).unwrap();
    desk.write("images/99_other.png", bytes);
    fails(&desk, "preprocess").snapshot("class_with_one_image");
}

#[test]
fn an_empty_split() {
    let desk = Desk::tiny();
    desk.edit(
        "tiny.toml",
        "train = 0.5, validation = 0.25, test = 0.25",
        "train = 0.98, validation = 0.01, test = 0.01",
    );
    fails(&desk, "preprocess").snapshot("empty_split");
}

#[test]
fn a_pattern_that_fits_almost_nothing_shows_names() {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", r"^(?<index>\d+)_(?<class>\w+)$", r"^(?<class>[a-z]+)-\d+$");
    fails(&desk, "preprocess").snapshot("pattern_that_fits_nothing");
}

#[test]
fn unreadable_images_are_listed_and_left_out() {
    let desk = Desk::tiny();
    desk.images("images", &["disc", "bar", "frame"], 10);
    desk.write("images/900_disc.png", "not an image");
    desk.ok(&["run", "tiny.toml", "--until", "preprocess"]).snapshot("an_unreadable_image");
    // The warning is repeated when nothing runs.
    desk.ok(&["run", "tiny.toml", "--until", "preprocess"]).snapshot("an_unreadable_image_again");
    for index in 901..906 {
        desk.write(&format!("images/{index}_bar.png"), format!("no image {index}"));
    }
    fails(&desk, "preprocess").snapshot("too_many_unreadable_images");
}

#[test]
fn failed_runs_are_recorded_and_the_rest_is_kept() {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", r"(?<class>\w+)", r"(?<class>x+)");
    let ran = desk.pipe(&["run", "tiny.toml", "--jobs", "1"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("failed_run");
    let runs = desk.ok(&["runs", "--json"]).json();
    assert_eq!((&runs[0]["status"], &runs[0]["ran"][0]), (&"failed".into(), &"fetch".into()));
    desk.ok(&["show", "@0"]).snapshot("show_a_failed_run");
    // Once the pattern is corrected, the run continues from there.
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
    // How far it came in that time depends on the machine.
    let ran = fails(&desk, "train").without("  train ");
    ran.masking(&[("train: a checkpoint .*\n", "")]).snapshot("timeout");
}

#[test]
fn a_folder_that_is_no_store_is_refused() {
    let desk = Desk::tiny();
    let ran = desk.pipe(&["cache", "du", "--cache", "tiny.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("a_file_as_the_store");
    let ran = desk.pipe(&["runs", "--cache", "nowhere"]);
    assert_eq!((ran.code, desk.path("nowhere").exists()), (2, false), "{ran}");
    ran.snapshot("a_store_that_does_not_exist");
    let ran = desk.pipe(&["run", "tiny.toml", "--cache", "tiny.toml/store"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("a_store_that_cannot_be_created");
}

/// What can be known is said before the first stage runs.
#[test]
fn wrong_requests_are_refused_before_anything_runs() {
    let desk = Desk::tiny();
    let set = |pair: &'static str| ["run", "tiny.toml", "--set", pair];
    for (name, arguments) in [
        ("device_without_cuda", &["run", "tiny.toml", "--device", "cuda"][..]),
        ("backbone_for_larger_images", &set("stages.train.backbone=inception_v3")),
        ("frozen_without_weights", &set("stages.train.freeze=all")),
        ("learning_rate_by_another_name", &set("stages.train.lr=0.1")),
        ("word_of_another_tool", &set("stages.train.early_stopping={monitor=\"val_loss\"}")),
    ] {
        let ran = desk.pipe(arguments);
        assert_eq!((ran.code, desk.path("cache").exists()), (2, false), "{ran}");
        ran.snapshot(name);
    }
}
