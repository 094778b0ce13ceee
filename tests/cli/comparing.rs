//! Comparisons that lack something: results of one run, classes without images, artifacts that were
//! collected, a run that is still going on; damaged results and records; values that aren't numbers.

use crate::records::{settle_on, two_runs};
use crate::support::{Desk, wait_for};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

fn folder(desk: &Desk, run: &str) -> PathBuf {
    desk.path(desk.ok(&["show", run, "--json"]).json()["folder"].as_str().unwrap())
}

/// The notes of a comparison as JSON, and a page of it.
fn notes(desk: &Desk, first: &str, second: &str) -> Vec<Value> {
    desk.ok(&["report", first, second, "--output", "both.html"]);
    desk.ok(&["diff", first, second, "--json"]).json()["notes"].as_array().unwrap().clone()
}

#[test]
fn a_run_without_metrics() {
    let desk = two_runs();
    let smaller = ["--set", "stages.preprocess.size=24", "--until", "preprocess"];
    desk.ok(&[&["run", "tiny.toml"], &smaller[..]].concat());
    desk.ok(&["diff", "@1", "@0"]).snapshot("diff_with_a_run_without_metrics");
    assert_eq!(notes(&desk, "@1", "@0").len(), 2);
    let gate = desk.pipe(&["diff", "@1", "@0", "--gate"]);
    assert_eq!(gate.code, 1, "{gate}");
}

#[test]
fn a_class_without_test_images() {
    let desk = two_runs();
    settle_on(&desk, "@1", (0..60).filter(|image| image % 3 != 2), &|image| image % 5 != 0);
    settle_on(&desk, "@0", (0..60).filter(|image| image % 3 != 2), &|image| image % 4 != 0);
    desk.ok(&["diff", "@1", "@0"]).snapshot("diff_with_a_class_without_images");
    let json = desk.ok(&["diff", "@1", "@0", "--json"]).json();
    let classes = json["splits"][0]["classes"].as_array().unwrap();
    assert_eq!(
        (&classes[2]["class"], &classes[2]["f1_difference"]),
        (&"frame".into(), &Value::Null)
    );
}

#[test]
fn damaged_results_are_left_out_and_named() {
    let desk = two_runs();
    let results = folder(&desk, "@0").join("results");
    for (name, file) in [
        ("diff_with_damaged_predictions", "evaluate/predictions.csv"),
        ("diff_with_damaged_metrics", "evaluate/metrics.json"),
        ("diff_with_a_damaged_history", "train/history.csv"),
    ] {
        let file = results.join(file);
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() - 30]).unwrap();
        desk.ok(&["diff", "@1", "@0"]).snapshot(name);
        assert_eq!(notes(&desk, "@1", "@0").len(), 1);
        fs::write(&file, whole).unwrap();
    }
    assert!(notes(&desk, "@1", "@0").is_empty());
}

#[test]
fn values_that_are_no_numbers() {
    let desk = two_runs();
    let results = folder(&desk, "@0").join("results");
    for (file, from) in [("evaluate/predictions.csv", "0.75"), ("train/history.csv", "0.75")] {
        let file = results.join(file);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from));
        fs::write(&file, text.replace(from, "NaN")).unwrap();
    }
    desk.ok(&["diff", "@1", "@0"]).snapshot("diff_with_nan");
    assert!(notes(&desk, "@1", "@0").is_empty());
    assert!(!desk.read("both.html").contains(">NaN"));
}

#[test]
fn a_damaged_record_is_skipped() {
    let desk = two_runs();
    let damaged = folder(&desk, "@1");
    let id = damaged.file_name().unwrap().to_str().unwrap().to_owned();
    desk.ok(&["runs", "name", "@0", "the-second"]);
    let again = ["run", "tiny.toml", "--set", "stages.train.batch_size=4", "--name", "base"];
    desk.ok(&again);
    fs::write(damaged.join("run.json"), "{ \"format\": 2,").unwrap();
    let listed = desk.ok(&["runs", "--json"]).json();
    assert_eq!(
        (&listed[2]["run"], &listed[2]["status"]),
        (&id.as_str().into(), &"unreadable".into())
    );
    assert!(listed[2]["problem"].is_string());
    let compared = desk.ok(&["diff", "base", &id, "the-second", "--json"]);
    assert!(compared.json()["second"]["run"] != id.as_str());
    assert!(!compared.stderr.is_empty(), "a warning names the damaged run");
    let refused = desk.pipe(&["diff", "base", &id]);
    assert_eq!(refused.code, 3, "{refused}");
}

/// A comparison needs nothing but the records.
#[test]
fn artifacts_that_were_collected_aren_t_missed() {
    let desk = two_runs();
    settle_on(&desk, "@0", 0..60, &|image| image % 10 != 0);
    settle_on(&desk, "@1", 0..60, &|image| image % 2 == 0);
    let compare = || desk.ok(&["diff", "@1", "@0", "--json"]).json();
    let before = compare();
    desk.ok(&["cache", "gc", "--keep-runs", "0", "--keep-days", "0"]);
    assert_eq!(compare(), before);
    assert!(notes(&desk, "@1", "@0").is_empty());
}

#[test]
fn a_run_that_is_still_going_on() {
    let desk = two_runs();
    desk.edit("tiny.toml", "epochs = 1", "epochs = 9000");
    let mut run = desk.start(&["run", "tiny.toml"]);
    let trains = || {
        let has_begun = desk.ok(&["runs", "--json"]).json().as_array().unwrap().len() == 3;
        let events = || folder(&desk, "@0").join("results/train/events.out.tfevents.pipe");
        has_begun && fs::metadata(events()).is_ok_and(|file| file.len() > 300)
    };
    // TensorBoard sees the first epoch.
    wait_for("the first epoch", Duration::from_secs(200), trains);
    desk.ok(&["diff", "@1", "@0"]).snapshot("diff_with_a_run_still_going_on");
    let found = notes(&desk, "@1", "@0");
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(found.len(), 3, "{found:?}");
}
