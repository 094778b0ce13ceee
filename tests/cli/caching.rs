//! Which stages run again after a change, and the reasons reported for it.

use crate::support::{Desk, STAGES};

#[test]
fn a_second_run_does_nothing_and_says_so() {
    let desk = Desk::trained();
    desk.ok(&["run", "tiny.toml"]).snapshot("second_run");
    // A run in which nothing ran is not recorded.
    assert_eq!(desk.ok(&["runs", "--json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn a_change_reruns_what_it_affects_and_names_it() {
    let desk = Desk::tiny();
    let first = desk.events(&["tiny.toml"]);
    assert_eq!(first.with_outcome("ran"), sorted(&STAGES));
    first.snapshot_reasons("reasons_of_a_first_run");

    desk.edit("tiny.toml", "epochs = 1", "epochs = 2");
    let longer = desk.events(&["tiny.toml"]);
    assert_eq!(longer.with_outcome("ran"), ["evaluate", "train"]);
    assert_eq!(longer.with_outcome("fresh"), ["explore", "fetch", "preprocess"]);
    longer.snapshot_reasons("reasons_after_a_change");

    // Back again: every artifact still exists.
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
    assert_eq!(desk.events(&["tiny.toml"]).with_outcome("fresh"), sorted(&STAGES));
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
    // Nor do the folder of the images and the name of the file matter.
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
fn force_runs_fresh_stages() {
    let desk = Desk::tiny();
    let until = ["tiny.toml", "--until", "preprocess"];
    let first = desk.events(&until);
    let forced = desk.events(&[&until[..], &["--force=preprocess"]].concat());
    assert_eq!(forced.with_outcome("ran"), ["preprocess"]);
    assert_eq!(forced.digests(), first.digests());
    forced.snapshot_reasons("reasons_of_a_forced_stage");
    let all = desk.events(&[&until[..], &["--force"]].concat());
    assert_eq!(all.with_outcome("ran"), ["fetch", "preprocess"]);
    let from = desk.events(&["tiny.toml", "--until", "preprocess", "--from", "fetch"]);
    assert_eq!(from.with_outcome("ran"), ["fetch", "preprocess"]);
    from.snapshot_reasons("reasons_from_a_stage_on");
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
    grown.snapshot_reasons("reasons_after_new_images");
}

#[test]
fn status_why_and_dry_run_say_what_would_run() {
    let desk = Desk::tiny();
    desk.ok(&["status", "tiny.toml"]).snapshot("status_before_the_first_run");
    let desk = Desk::trained();
    desk.edit("tiny.toml", "epochs = 1", "epochs = 2");
    let dry = desk.ok(&["run", "tiny.toml", "--dry-run"]);
    assert_eq!(dry.stdout, desk.ok(&["status", "tiny.toml"]).stdout);
    dry.snapshot("dry_run_after_a_change");
    let json = desk.ok(&["status", "tiny.toml", "--json"]);
    assert_eq!(json.json()["stages"][3]["state"], "dirty");
    json.snapshot("status_as_json");
    desk.ok(&["why", "tiny.toml", "train"]).snapshot("why_dirty");
    desk.ok(&["why", "tiny.toml", "fetch"]).snapshot("why_fresh");
}

#[test]
fn a_damaged_artifact_is_noticed_and_made_again() {
    let desk = Desk::tiny();
    let first = desk.events(&["tiny.toml", "--until", "preprocess"]);
    desk.ok(&["cache", "verify"]).snapshot("verify_a_sound_store");
    let (path, _) = records(&desk).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let verified = desk.pipe(&["cache", "verify"]);
    assert_eq!(verified.code, 3, "{verified}");
    verified.snapshot("verify_a_damaged_store");
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
    desk.ok(&["cache", "du"]).snapshot("du");
    let collect = ["cache", "gc", "--keep-days", "0"];
    desk.ok(&collect).snapshot("gc_that_keeps_the_last_runs");
    let all = [&collect[..], &["--keep-runs", "0"]].concat();
    desk.ok(&[&all[..], &["--dry-run"]].concat()).snapshot("gc_as_a_dry_run");
    assert_eq!(desk.ok(&["cache", "du", "--json"]).json()["artifacts"]["count"], 2);
    desk.ok(&all).snapshot("gc_of_everything");
    assert_eq!(desk.ok(&["cache", "du", "--json"]).json()["artifacts"]["count"], 0);
    assert_eq!(
        desk.ok(&["runs", "--json"]).json().as_array().unwrap().len(),
        1,
        "runs are never collected"
    );
    desk.ok(&["run", "tiny.toml", "--until", "preprocess"]);
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    names.sort();
    names
}

/// Changes a byte in the middle of a file of a stage's artifact, so that only its content shows it.
fn flip(desk: &Desk, stage: &str, name: &str) {
    let why = desk.ok(&["why", "tiny.toml", stage, "--json"]).json();
    let path = desk.path(why["artifact"].as_str().unwrap()).join(name);
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
}

#[test]
fn damaged_bytes_are_never_believed() {
    let desk = Desk::trained();
    let first = desk.events(&["tiny.toml"]).digests();
    flip(&desk, "train", "model.safetensors");
    let predicted = desk.pipe(&["predict", "@0", "images/0_disc.png"]);
    assert_eq!(predicted.code, 1, "{predicted}");
    predicted.snapshot("predicting_with_a_damaged_model");
    let again = desk.events(&["tiny.toml"]);
    assert_eq!(again.with_outcome("ran"), ["train"]);
    assert_eq!(again.digests(), first);
    for (file, stages) in [
        ("records.bin", vec!["evaluate", "preprocess"]),
        ("samples.tsv", vec!["evaluate", "preprocess"]),
        ("input.json", vec!["evaluate", "preprocess"]),
    ] {
        flip(&desk, "preprocess", file);
        let healed = desk.events(&["tiny.toml", "--force=evaluate"]);
        assert_eq!(healed.with_outcome("ran"), stages, "{file}");
        assert_eq!(healed.digests(), first, "{file}");
    }
    flip(&desk, "preprocess", "samples.tsv");
    desk.ok(&["run", "tiny.toml", "--force=evaluate"]).snapshot("damage_found_by_a_run");
    desk.ok(&["cache", "verify"]).snapshot("a_store_that_healed");
}

/// A disk that damages what was checked a moment ago: what was made from it isn't believed either.
#[test]
fn what_was_made_from_damaged_files_is_made_again() {
    let desk = Desk::trained();
    let first = desk.events(&["tiny.toml"]).digests();
    flip(&desk, "preprocess", "samples.tsv");
    let verified = desk.pipe(&["cache", "verify"]);
    assert_eq!(verified.code, 3);
    verified.snapshot("verify_finds_what_was_made_from_damage");
    desk.ok(&["cache", "verify"]);
    let again = desk.events(&["tiny.toml"]);
    assert_eq!(again.with_outcome("ran"), ["evaluate", "preprocess", "train"]);
    assert_eq!(again.digests(), first);
    // A file that no stage reads says nothing of others.
    flip(&desk, "preprocess", "rejected.csv");
    assert_eq!(desk.pipe(&["cache", "verify"]).code, 3);
    assert_eq!(desk.events(&["tiny.toml"]).with_outcome("ran"), ["preprocess"]);
}
