//! What runs again, and why: nothing without a reason, and the reason by name.

use crate::support::{Desk, STAGES, steady};

#[test]
fn a_second_run_does_nothing_and_says_so() {
    let desk = Desk::trained();
    let id = desk.ok(&["runs", "--json"]).json()[0]["run"].as_str().unwrap().to_owned();
    let second = desk.ok(&["run", "tiny.toml"]);
    assert!(
        second.stdout.starts_with(&format!("nothing to do: same outputs as run {id} (accuracy ")),
        "{second}"
    );
    assert_eq!(second.stdout.lines().count(), 1, "{second}");
    assert_eq!(second.stderr, "", "{second}");
    // A run in which nothing ran makes no record.
    assert_eq!(desk.ok(&["runs", "--json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn a_change_reruns_what_it_affects_and_names_it() {
    let desk = Desk::tiny();
    let first = desk.events(&["tiny.toml"]);
    assert_eq!(first.with_outcome("ran"), sorted(&STAGES));
    assert_eq!(first.reasons("train"), ["never ran before"]);

    desk.edit("tiny.toml", "epochs = 1", "epochs = 2");
    let longer = desk.events(&["tiny.toml"]);
    assert_eq!(longer.with_outcome("ran"), ["evaluate", "train"]);
    assert_eq!(longer.with_outcome("fresh"), ["explore", "fetch", "preprocess"]);
    assert_eq!(longer.reasons("train"), ["epochs: 1 -> 2"]);
    assert!(longer.reasons("evaluate")[0].contains("`model`"), "{:?}", longer.reasons("evaluate"));

    // Back again: everything is there already.
    let back = desk.events(&["tiny.toml", "--set", "stages.train.epochs=1"]);
    assert_eq!(back.with_outcome("fresh"), sorted(&STAGES));
    assert_eq!(back.digests(), first.digests());
}

#[test]
fn comments_order_and_defaults_written_out_change_nothing() {
    let desk = Desk::trained();
    desk.edit(
        "tiny.toml",
        "backbone = \"resnet18\"\nepochs = 1",
        "# the same\nepochs = 1\nbackbone = \"resnet18\"",
    );
    desk.edit("tiny.toml", "[stages.fetch]\n", "[stages.fetch]\ntimeout = 600\n");
    let ran = desk.ok(&["run", "tiny.toml"]);
    assert!(ran.stdout.starts_with("nothing to do: same outputs as run "), "{ran}");
}

#[test]
fn a_renamed_class_relinks_records_and_trains_again() {
    let desk = Desk::tiny();
    desk.events(&["tiny.toml", "--until", "preprocess"]);
    desk.edit(
        "tiny.toml",
        "[stages.fetch]",
        "class_names = { disc = \"round\" }\n\n[stages.fetch]",
    );
    let named = desk.events(&["tiny.toml", "--until", "preprocess"]);
    assert_eq!(named.with_outcome("ran"), ["preprocess"]);
    let records = records(&desk);
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!(
        records[0].1, records[1].1,
        "records.bin is one file in both artifacts: {records:?}"
    );
}

/// Every `records.bin` in the store: its path and inode.
fn records(desk: &Desk) -> Vec<(std::path::PathBuf, u64)> {
    use std::os::unix::fs::MetadataExt;
    let entries = walkdir::WalkDir::new(desk.path("cache")).into_iter().map(|entry| entry.unwrap());
    let in_artifacts =
        |path: &std::path::Path| path.components().any(|part| part.as_os_str() == "artifacts");
    let found =
        entries.filter(|entry| entry.file_name() == "records.bin" && in_artifacts(entry.path()));
    found.map(|entry| (entry.path().to_owned(), entry.metadata().unwrap().ino())).collect()
}

#[test]
fn two_stores_give_the_same_bytes_whatever_the_threads() {
    let desk = Desk::tiny();
    let first = desk.events(&["tiny.toml", "--cache", "one", "--threads", "1"]);
    let second = desk.events(&["tiny.toml", "--cache", "two", "--threads", "3", "--jobs", "1"]);
    assert_eq!(first.digests().len(), STAGES.len());
    assert_eq!(first.digests(), second.digests());
    // Where the images lie and what the file is called doesn't matter either.
    std::fs::rename(desk.path("images"), desk.path("elsewhere")).unwrap();
    let moved = desk.events(&[
        "tiny.toml",
        "--cache",
        "one",
        "--set",
        "stages.fetch.source=path:elsewhere",
    ]);
    assert_eq!(moved.with_outcome("fresh"), sorted(&STAGES));
}

#[test]
fn force_runs_what_is_fresh() {
    let desk = Desk::tiny();
    let until = ["tiny.toml", "--until", "preprocess"];
    let first = desk.events(&until);
    let forced = desk.events(&[&until[..], &["--force=preprocess"]].concat());
    assert_eq!(forced.with_outcome("ran"), ["preprocess"]);
    assert_eq!(forced.digests(), first.digests());
    let all = desk.events(&[&until[..], &["--force"]].concat());
    assert_eq!(all.with_outcome("ran"), ["fetch", "preprocess"]);
    let from = desk.events(&["tiny.toml", "--until", "preprocess", "--from", "fetch"]);
    assert_eq!(from.with_outcome("ran"), ["fetch", "preprocess"]);
}

#[test]
fn a_new_image_is_noticed_and_a_touched_one_is_not() {
    let desk = Desk::tiny();
    desk.events(&["tiny.toml", "--until", "preprocess"]);
    let bytes = std::fs::read(desk.path("images/0_disc.png")).unwrap();
    desk.write("images/0_disc.png", &bytes);
    let touched = desk.events(&["tiny.toml", "--until", "preprocess"]);
    assert_eq!(touched.with_outcome("fresh"), ["fetch", "preprocess"]);
    desk.images("images", &["disc", "bar", "frame"], 9);
    let grown = desk.events(&["tiny.toml", "--until", "preprocess"]);
    assert_eq!(grown.with_outcome("ran"), ["fetch", "preprocess"]);
}

#[test]
fn status_and_dry_run_say_what_would_run() {
    let desk = Desk::tiny();
    let nothing_yet = desk.ok(&["status", "tiny.toml"]);
    assert_eq!(
        nothing_yet.stdout,
        "\
stage       kind        state    why
fetch       fetch       dirty    never ran before
explore     explore     pending  needs fetch
preprocess  preprocess  pending  needs fetch
train       train       pending  needs preprocess
evaluate    evaluate    pending  needs preprocess, train

train: training images are augmented by random resized crops (60 to 100 % of the area), horizontal flips

1 stage would run; 4 pending stages may turn out fresh if no input changes
"
    );
    let desk = Desk::trained();
    desk.edit("tiny.toml", "epochs = 1", "epochs = 2");
    let dry = desk.ok(&["run", "tiny.toml", "--dry-run"]);
    assert_eq!(dry.stdout, desk.ok(&["status", "tiny.toml"]).stdout);
    assert_eq!(
        dry.stdout,
        "\
stage       kind        state    why
fetch       fetch       fresh
explore     explore     fresh
preprocess  preprocess  fresh
train       train       dirty    epochs: 1 -> 2
evaluate    evaluate    pending  needs train

train: training images are augmented by random resized crops (60 to 100 % of the area), horizontal flips

1 stage would run; 1 pending stage may turn out fresh if no input changes
"
    );
    let json = desk.ok(&["status", "tiny.toml", "--json"]).json();
    assert_eq!(json["stages"][3]["state"], "dirty");
    assert_eq!(json["stages"][3]["reasons"][0], "epochs: 1 -> 2");
    let why = desk.ok(&["why", "tiny.toml", "train"]);
    assert!(why.stdout.starts_with("train is dirty\n  epochs: 1 -> 2\n"), "{why}");
    assert!(why.stdout.contains("epochs = 2"), "{why}");
    let fresh = desk.ok(&["why", "tiny.toml", "fetch"]);
    assert!(
        fresh.stdout.starts_with("fetch is fresh\n  nothing that affects its output changed"),
        "{fresh}"
    );
}

#[test]
fn a_damaged_artifact_is_noticed_and_made_again() {
    let desk = Desk::tiny();
    let first = desk.events(&["tiny.toml", "--until", "preprocess"]);
    let (path, _) = records(&desk).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let verified = desk.pipe(&["cache", "verify"]);
    assert_eq!(verified.code, 3, "{verified}");
    assert!(verified.stderr.contains("records.bin"), "{verified}");
    let again = desk.events(&["tiny.toml", "--until", "preprocess"]);
    assert_eq!(again.with_outcome("ran"), ["preprocess"]);
    assert_eq!(again.digests(), first.digests());
    assert_eq!(desk.pipe(&["cache", "verify"]).code, 0);
}

#[test]
fn the_store_is_measured_and_collected() {
    let desk = Desk::tiny();
    desk.ok(&["run", "tiny.toml", "--until", "preprocess"]);
    let usage = desk.ok(&["cache", "du", "--json"]).json();
    assert_eq!(usage["artifacts"]["count"], 2);
    assert_eq!(usage["runs"]["count"], 1);
    let du = desk.ok(&["cache", "du"]);
    assert!(du.stdout.lines().any(|line| line.starts_with("artifacts ")), "{du}");
    let kept = desk.ok(&["cache", "gc", "--keep-days", "0"]);
    assert!(kept.stdout.starts_with("0 artifacts removed"), "{}", steady(&kept.stdout, &desk));
    let would = desk.ok(&["cache", "gc", "--keep-days", "0", "--keep-runs", "0", "--dry-run"]);
    assert!(would.stdout.starts_with("2 artifacts would be removed"), "{would}");
    desk.ok(&["cache", "gc", "--keep-days", "0", "--keep-runs", "0"]);
    assert_eq!(desk.ok(&["cache", "du", "--json"]).json()["artifacts"]["count"], 0);
    assert_eq!(
        desk.ok(&["runs", "--json"]).json().as_array().unwrap().len(),
        1,
        "runs are no cache"
    );
    desk.ok(&["run", "tiny.toml", "--until", "preprocess"]);
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    names.sort();
    names
}
