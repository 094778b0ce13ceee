//! The records of runs: the list of runs, one run in full, the difference of two, the log, the
//! files.

use crate::support::Desk;
use pipe::metrics::{EpochRow, Evaluation, PredictionWriter, Scorer, write_history};
use serde_json::{Value, json};
use std::fs;

const CLASSES: [&str; 3] = ["bar", "disc", "frame"];

/// Replaces the results of a run, which depend on the processor after so short a training, with
/// made-up ones in which one of `right` of six images is classified correctly.
fn settle(desk: &Desk, run: &str, right: usize) {
    let folder = desk.path(desk.ok(&["show", run, "--json"]).json()["folder"].as_str().unwrap());
    let classes = CLASSES.map(str::to_owned);
    let results = folder.join("results/evaluate");
    let file = fs::File::create(results.join("predictions.csv")).unwrap();
    let mut predictions = PredictionWriter::new(file, &classes).unwrap();
    let splits = ["validation", "test"].map(|split| {
        let mut scorer = Scorer::new(&classes);
        for image in 0..6 {
            let truth = image % 3;
            let mut probabilities = [0.125f32; 3];
            probabilities[if image < right { truth } else { (truth + 1) % 3 }] = 0.75;
            scorer.push(truth as u32, &probabilities).unwrap();
            let path = format!("{split}{image}.png");
            predictions.write(&path, split, Some(truth as u32), &probabilities).unwrap();
        }
        (split.to_owned(), scorer.finish().unwrap())
    });
    predictions.finish().unwrap();
    let evaluation = Evaluation::new(classes.to_vec(), splits.into_iter().collect());
    fs::write(results.join("metrics.json"), evaluation.to_json()).unwrap();
    let training = folder.join("results/train");
    let row = |epoch: u64| EpochRow {
        epoch,
        learning_rate: 0.1,
        train_loss: 1.0 / epoch as f64,
        train_accuracy: 0.5,
        validation_loss: Some(1.5 / epoch as f64),
        validation_accuracy: Some(right as f64 / 6.0),
    };
    let mut summary: Value =
        serde_json::from_slice(&fs::read(training.join("training.json")).unwrap()).unwrap();
    let epochs = summary["epochs_run"].as_u64().unwrap();
    summary["epoch"] = json!(epochs);
    fs::write(training.join("training.json"), summary.to_string()).unwrap();
    let rows: Vec<EpochRow> = (1..=epochs).map(row).collect();
    fs::write(training.join("history.csv"), write_history(&rows).unwrap()).unwrap();
}

/// Two trainings, of one epoch and of two.
fn two_runs() -> Desk {
    let desk = Desk::trained();
    desk.ok(&["run", "tiny.toml", "--set", "stages.train.epochs=2"]);
    settle(&desk, "@1", 2);
    settle(&desk, "@0", 5);
    desk
}

#[test]
fn runs_are_listed_and_shown() {
    let desk = two_runs();
    desk.ok(&["runs"]).snapshot("runs");
    desk.ok(&["runs", "--limit", "1"]).snapshot("the_last_run");
    desk.ok(&["show", "@0"]).snapshot("show");
    let runs = desk.ok(&["runs", "--json"]);
    runs.snapshot("runs_as_json");
    let id = runs.json()[0]["run"].as_str().unwrap().to_owned();
    assert_eq!(desk.ok(&["show", &id[..5], "--json"]).json()["run"]["id"], id.as_str());
    let ran = desk.pipe(&["show", "@7"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("show_a_run_that_does_not_exist");
}

#[test]
fn two_runs_are_compared() {
    let desk = two_runs();
    desk.ok(&["diff", "@1", "@0"]).snapshot("diff");
    let json = desk.ok(&["diff", "@1", "@0", "--json"]).json();
    let train =
        json["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == "train").unwrap();
    assert_eq!(
        (&train["parameters"][0]["key"], &train["output_changed"]),
        (&"epochs".into(), &true.into())
    );
    desk.ok(&["diff", "@0", "@0"]).snapshot("diff_of_a_run_and_itself");
    desk.ok(&["report", "@1", "@0", "--output", "both.html"]);
    assert!(desk.path("both.html").exists());
}

#[test]
fn logs_of_stages_that_ran_and_of_replayed_ones() {
    let desk = two_runs();
    desk.ok(&["log", "@0", "train"]).snapshot("log");
    desk.ok(&["log", "@0", "fetch"]).snapshot("log_of_a_fresh_stage");
    let ran = desk.pipe(&["log", "@0", "trian"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("log_of_an_unknown_stage");
}

#[test]
fn the_page_needs_nothing_from_outside() {
    let desk = Desk::trained();
    let page = desk.read(desk.ok(&["report", "@0"]).stdout.trim());
    for outside in ["http://", "https://", "src=\"/", "@import"] {
        let cleaned = page.replace("http://www.w3.org/", "");
        assert!(!cleaned.contains(outside), "the page needs {outside}");
    }
}

/// The files that scripts read: their names, and their fields and columns.
#[test]
fn the_files_of_a_run_are_documented() {
    let desk = Desk::trained();
    let folder = desk.path(desk.ok(&["show", "@0", "--json"]).json()["folder"].as_str().unwrap());
    let mut files: Vec<String> = walkdir::WalkDir::new(&folder)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(&folder).unwrap().display().to_string())
        .collect();
    files.sort();
    desk.snapshot("files", &files.join("\n"));
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let parse = |name: &str| -> Value { serde_json::from_str(&read(name)).unwrap() };

    let mut record = parse("run.json");
    record["machine"] = json!("[machine]");
    desk.snapshot("run.json", &pretty(&record));

    let mut metrics = parse("results/evaluate/metrics.json");
    mask_numbers(&mut metrics, &["count", "support"]);
    desk.snapshot("metrics.json", &pretty(&metrics));
    desk.snapshot("explore.json", &read("results/explore/explore.json"));
    for name in ["results/evaluate/predictions.csv", "results/train/history.csv"] {
        let text = read(name);
        desk.snapshot(name.rsplit('/').next().unwrap(), text.lines().next().unwrap());
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

/// Replaces every number that depends on the processor: all but those of the keys in `keep`.
fn mask_numbers(value: &mut Value, keep: &[&str]) {
    match value {
        Value::Number(_) => *value = json!("[number]"),
        Value::Array(values) => values.iter_mut().for_each(|value| mask_numbers(value, keep)),
        Value::Object(fields) => fields
            .iter_mut()
            .filter(|(key, _)| !keep.contains(&key.as_str()))
            .for_each(|(_, value)| mask_numbers(value, keep)),
        _ => {}
    }
}

/// A run that compares has several evaluations, and each has its own headline.
#[test]
fn every_evaluation_has_its_headline() {
    let desk = Desk::trained();
    let again = "\n[stages.again]\nkind = \"evaluate\"\nneeds = { data = \"preprocess\", model = \"train\" }\n";
    desk.write("tiny.toml", desk.read("tiny.toml") + again);
    desk.ok(&["run", "tiny.toml", "--force=again", "--jobs", "1"]).snapshot("two_evaluations");
    let page = desk.read(desk.ok(&["report", "@0"]).stdout.trim());
    for stage in ["evaluate", "again"] {
        assert!(
            page.contains(&format!("<h2>{stage}</h2><div class=\"headline\">")),
            "{stage} has no headline"
        );
    }
}

#[test]
fn no_run_yet() {
    let desk = Desk::tiny();
    let ran = desk.pipe(&["runs"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("runs_without_a_store");
    desk.ok(&["status", "tiny.toml"]);
    desk.ok(&["runs"]).snapshot("no_runs");
    let ran = desk.pipe(&["show", "@0"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("show_without_runs");
}
