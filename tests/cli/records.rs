//! The records of runs: the list of runs, one run in full, the difference of two, the log, the
//! files.

use crate::support::Desk;
use pipe::metrics::{EpochRow, Evaluation, PredictionWriter, Scorer, write_history};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const CLASSES: [&str; 3] = ["bar", "disc", "frame"];

/// Replaces the results of a run, which depend on the processor after so short a training, with
/// made-up ones in which one of `right` of six images is classified correctly.
pub(crate) fn settle(desk: &Desk, run: &str, right: usize) {
    settle_on(desk, run, 0..6, &|image| image < right);
}

/// Makes a record one of an earlier version, which has no seal: its files can be replaced.
fn unseal(folder: &Path) {
    let path = folder.join("run.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["format"] = json!(2);
    for key in ["number", "files", "digest"] {
        record.as_object_mut().unwrap().remove(key);
    }
    fs::write(path, record.to_string()).unwrap();
}

/// The same with these images, each in the validation and the test split, and which of them are
/// classified correctly.
pub(crate) fn settle_on(
    desk: &Desk,
    run: &str,
    images: impl Iterator<Item = usize> + Clone,
    is_right: &dyn Fn(usize) -> bool,
) {
    let right = images.clone().filter(|&image| is_right(image)).count();
    let folder = desk.path(desk.ok(&["show", run, "--json"]).json()["folder"].as_str().unwrap());
    unseal(&folder);
    let classes = CLASSES.map(str::to_owned);
    let results = folder.join("results/evaluate");
    let file = fs::File::create(results.join("predictions.csv")).unwrap();
    let mut predictions = PredictionWriter::new(file, &classes).unwrap();
    let splits = ["validation", "test"].map(|split| {
        let mut scorer = Scorer::new(&classes);
        for image in images.clone() {
            let truth = image % 3;
            let mut probabilities = [0.125f32; 3];
            probabilities[if is_right(image) { truth } else { (truth + 1) % 3 }] = 0.75;
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
        validation_accuracy: Some(right as f64 / images.clone().count() as f64),
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
pub(crate) fn two_runs() -> Desk {
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

/// A verdict needs the same test images: all, or enough of them in both runs.
#[test]
fn runs_on_other_test_images_are_compared_on_those_they_share() {
    let desk = two_runs();
    let better = |name: &str| {
        desk.ok(&["diff", "@1", "@0"]).snapshot(name);
        desk.ok(&["report", "@1", "@0", "--output", "both.html"]);
        let page = desk.read("both.html");
        page.matches("class=\"better\"").count() + page.matches("class=\"worse\"").count()
    };
    settle_on(&desk, "@1", 0..50, &|image| image % 2 == 0);
    settle_on(&desk, "@0", 0..50, &|image| image % 10 != 0);
    assert_eq!(better("diff_on_the_same_images"), 1);
    settle_on(&desk, "@0", 10..60, &|image| image % 10 != 0);
    assert_eq!(better("diff_on_shared_images"), 1);
    settle_on(&desk, "@0", 40..90, &|_| true);
    assert_eq!(better("diff_with_few_shared_images"), 0);
    settle_on(&desk, "@0", 50..100, &|_| true);
    assert_eq!(better("diff_without_shared_images"), 0);
    // Images of the same names and other contents are other images.
    desk.images("others", &CLASSES, 8);
    let other = ["run", "tiny.toml", "--set", "stages.fetch.source=path:others"];
    desk.ok(&other);
    let json = desk.ok(&["diff", "@1", "@0", "--json"]).json();
    assert_eq!(json["splits"][0]["verdict"], "few-shared");
    assert_eq!(json["splits"][1]["verdict"], "selection");
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
    for file in record["files"].as_object_mut().unwrap().values_mut() {
        file["len"] = json!("[number]");
    }
    // The folder may be in a repository.
    record.as_object_mut().unwrap().remove("repository");
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
    desk.ok(&["run", "tiny.toml", "--dry-run"]);
    desk.ok(&["why", "tiny.toml", "train"]);
    assert!(!desk.path("cache").exists(), "looking creates no store");
    std::fs::create_dir(desk.path("cache")).unwrap();
    desk.ok(&["runs"]).snapshot("no_runs");
    let ran = desk.pipe(&["show", "@0"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("show_without_runs");
}

/// Names, notes and tags; conditions and sorting; what was changed from run to run.
#[test]
fn runs_are_named_tagged_filtered_and_removed() {
    let desk = two_runs();
    let named = ["--name", "wide", "--note", "a wider head"];
    let head = ["run", "tiny.toml", "--set", "stages.train.head.hidden=[8]"];
    desk.ok(&[&head[..], &named].concat());
    settle(&desk, "@0", 3);
    desk.ok(&["runs", "tag", "@1", "paper", "v2"]);
    desk.ok(&["runs", "tag", "@1", "v2", "--remove"]);
    desk.ok(&["runs", "name", "@2", "base"]);
    desk.ok(&["runs", "note", "base", "the first"]);
    desk.ok(&["runs"]).snapshot("runs_with_names");
    for (name, arguments) in [
        ("runs_by_tag", &["runs", "tag=paper"][..]),
        ("runs_by_metric", &["runs", "accuracy>0.4", "--sort", "accuracy"]),
        ("runs_by_parameter", &["runs", "train.epochs=1", "name!=wide"]),
        ("runs_by_nothing", &["runs", "name=other"]),
    ] {
        desk.ok(arguments).snapshot(name);
    }
    for (name, arguments) in [
        ("runs_by_an_unknown_key", &["runs", "acuracy>0.9"][..]),
        ("runs_without_a_condition", &["runs", "paper"]),
        ("runs_with_a_bad_name", &["runs", "name", "@0", "a b"]),
    ] {
        let ran = desk.pipe(arguments);
        assert_eq!(ran.code, 2, "{ran}");
        ran.snapshot(name);
    }
    assert_eq!(
        desk.ok(&["show", "wide", "--json"]).json()["run"]["labels"]["note"],
        "a wider head"
    );
    desk.ok(&["runs", "rm", "wide", "@0"]).snapshot("runs_rm");
    assert_eq!(desk.ok(&["runs", "--json"]).json().as_array().unwrap().len(), 2);
}

/// The pipeline file as it was, with what it extends, and the pins.
#[test]
fn a_run_is_checked_out() {
    let desk = Desk::tiny();
    desk.write("base.toml", desk.read("tiny.toml"));
    desk.write("tiny.toml", "extends = \"base.toml\"\n[stages.train]\nepochs = 2\n");
    let set = ["--set", "stages.train.batch_size=4"];
    let first = desk.events(&[&["tiny.toml", "--until", "preprocess"], &set[..]].concat());
    desk.edit("base.toml", "size = 32", "size = 40");
    desk.write("tiny.toml", "extends = \"base.toml\"\n");
    desk.ok(&["run", "tiny.toml", "--until", "preprocess"]);
    desk.ok(&["checkout", "@1"]).snapshot("checkout");
    let id = desk.ok(&["runs", "--json"]).json()[1]["run"].as_str().unwrap().to_owned();
    let file = format!("tiny-{id}.toml");
    let again = desk.events(&[&[file.as_str(), "--until", "preprocess"], &set[..]].concat());
    assert_eq!(again.digests(), first.digests());
    desk.write(&file, "edited");
    let refused = desk.pipe(&["checkout", "@1"]);
    assert_eq!(refused.code, 2, "{refused}");
    refused.snapshot("checkout_over_another_file");
    desk.ok(&["checkout", "@1", "--folder", "old"]).snapshot("checkout_elsewhere");
}

/// Data by name, several runs against one, and the gate of a pull request.
#[test]
fn changes_of_data_and_predictions_are_named() {
    let desk = two_runs();
    settle_on(&desk, "@1", 0..60, &|image| image % 10 != 0);
    settle_on(&desk, "@0", 0..60, &|image| image % 2 == 0);
    let gate = desk.pipe(&["diff", "@1", "@0", "--gate"]);
    assert_eq!(gate.code, 1, "{gate}");
    // A legend is shortened: how much of a path it shows depends on the path's length.
    let path = [("source=path:[^,|]*,", "source=[path],")];
    gate.masking(&path).snapshot("gate_of_a_worse_run");
    settle_on(&desk, "@0", 0..60, &|image| image % 10 != 1);
    desk.ok(&["diff", "@1", "@0", "--gate"]).masking(&path).snapshot("gate_of_an_equal_run");
    // One image less, one more, others in another split.
    fs::rename(desk.path("images/0_disc.png"), desk.path("images/24_disc.png")).unwrap();
    desk.ok(&["run", "tiny.toml", "--set", "dataset.split.seed=7", "--name", "moved"]);
    let json = desk.ok(&["diff", "@1", "moved", "--json"]).json();
    let data = &json["data"][0];
    assert_eq!(
        (&data["added"][0], &data["removed"][0]),
        (&"24_disc.png".into(), &"0_disc.png".into())
    );
    assert!(!data["moved"].as_array().unwrap().is_empty(), "{data}");
    settle_on(&desk, "moved", 0..60, &|_| true);
    desk.ok(&["diff", "@2", "@1", "moved"]).masking(&path).snapshot("diff_of_three_runs");
    desk.ok(&["report", "@2", "@1", "moved", "--output", "three.html"]);
    let page = desk.read("three.html");
    for legend in ["moved", "split.seed="] {
        assert!(page.matches(legend).count() > 0, "{legend} is no legend");
    }
}

/// The lines of a run, as another terminal sees them.
#[test]
fn a_run_is_watched() {
    let desk = Desk::trained();
    desk.ok(&["watch"]).snapshot("watch");
    desk.edit("tiny.toml", "epochs = 1", "epochs = 2");
    let run = desk.start(&["run", "tiny.toml", "--jobs", "1"]);
    crate::support::wait_for("the run to begin", std::time::Duration::from_secs(200), || {
        desk.ok(&["runs", "--json"]).json().as_array().unwrap().len() == 2
    });
    let watched = desk.ok(&["watch"]);
    let ran = desk.wait(&["run"], run);
    assert_eq!(ran.code, 0, "{ran}");
    // All lines of the run, and the verdict. How many epochs there are isn't among the events.
    let lines = ran.stderr.replace("1/2", "  1").replace("2/2", "  2");
    assert!(watched.stdout.starts_with(&lines), "{watched} {ran}");
}

/// The commit and the state of the repository, throughput and memory of the stages.
#[test]
fn the_circumstances_of_a_run_are_recorded() {
    let desk = Desk::tiny();
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]);
        desk.isolate(&mut command);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet"]);
    git(&["add", "tiny.toml"]);
    git(&["commit", "--quiet", "--message", "a pipeline"]);
    desk.ok(&["run", "tiny.toml"]);
    let record = desk.ok(&["show", "@0", "--json"]).json()["run"].clone();
    let clean = json!({ "commit": git(&["rev-parse", "HEAD"]), "is_dirty": false });
    assert_eq!(record["repository"], clean);
    assert!(record["machine"]["libraries"]["dfdx"].is_string());
    let stages = record["stages"].as_array().unwrap();
    assert!(stages.iter().all(|stage| stage["peak_memory"].as_u64() > Some(1_000_000)));
    let train = stages.iter().find(|stage| stage["stage"] == "train").unwrap();
    assert!(train["images_per_second"].as_f64() > Some(0.0), "{train}");
    desk.edit("tiny.toml", "epochs = 1", "epochs = 2");
    desk.ok(&["run", "tiny.toml"]);
    let record = desk.ok(&["show", "@0", "--json"]).json()["run"].clone();
    assert_eq!(record["repository"]["is_dirty"], true);
}
