//! Pages of made-up runs: complete, truncated, hostile, enormous. They are made through the
//! library, since no pipeline makes such runs. `INSTA_UPDATE=always cargo test --test report`
//! rewrites the snapshots of their structure and text.

use pipe::data::images::{self, Image};
use pipe::data::similarity::Sketches;
use pipe::data::tensor_cache::{self, Sample, Split, Writer};
use pipe::data::{InputInfo, Preprocessing};
use pipe::events::{CancellationToken, Event, EventSink, RunOutcome, StageOutcome};
use pipe::metrics::{EpochRow, Evaluation, PredictionWriter, Scorer, write_history};
use pipe::report::page;
use pipe::runs::{PipelineFile, Record, Recorder, Results, RunInfo, StageRecord, Status, find};
use pipe::store::{Digest, Entry, Store, digest_bytes};
use regex::Regex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The contents of a made-up run.
struct Case {
    classes: Vec<String>,
    images: usize,
    epochs: u64,
    explored: Value,
    error: Option<&'static str>,
}

impl Default for Case {
    fn default() -> Case {
        let classes = ["shirt", "dress"].map(str::to_owned).to_vec();
        let explored = json!({
            "images": 9, "classes": [{ "class": "shirt", "count": 5 }, { "class": "dress", "count": 4 }],
            "shorter_side": [{ "low": 0, "high": 64, "count": 9 }], "formats": [{ "format": "jpeg", "count": 9 }],
            "rejected": { "count": 3, "examples": [{ "path": "a.jpg", "reason": "cut short" }] }, "mean": [0.5, 0.5, 0.5],
        });
        Case { classes, images: 6, epochs: 3, explored, error: None }
    }
}

fn path_of(image: usize) -> String {
    format!("{image}.png")
}

impl Case {
    /// Every third image is misclassified.
    fn write_results(&self, folder: &Path) {
        let mut scorer = Scorer::new(&self.classes);
        let file = fs::File::create(folder.join("predictions.csv")).unwrap();
        let mut predictions = PredictionWriter::new(file, &self.classes).unwrap();
        let count = self.classes.len();
        for image in 0..self.images {
            let truth = image % count;
            let mut probabilities = vec![0.0f32; count];
            probabilities[if image % 3 == 2 { (truth + 1) % count } else { truth }] = 0.75;
            scorer.push(truth as u32, &probabilities).unwrap();
            predictions.write(&path_of(image), "test", Some(truth as u32), &probabilities).unwrap();
        }
        predictions.finish().unwrap();
        let splits = scorer.finish().map(|split| ("test".to_owned(), split)).into_iter().collect();
        let evaluation = Evaluation::new(self.classes.clone(), splits);
        fs::write(folder.join("metrics.json"), evaluation.to_json()).unwrap();
        let row = |epoch| EpochRow {
            epoch,
            learning_rate: 0.1,
            train_loss: 1.0 / epoch as f64,
            train_accuracy: 0.9,
            validation_loss: Some(1.5 / epoch as f64),
            validation_accuracy: Some(0.75),
        };
        let rows: Vec<EpochRow> = (1..=self.epochs).map(row).collect();
        fs::write(folder.join("history.csv"), write_history(&rows).unwrap()).unwrap();
        fs::write(folder.join("explore.json"), self.explored.to_string()).unwrap();
    }

    /// Records a run of a single stage with all results.
    fn run(&self, runs: &Path, facts: StageRecord) -> Record {
        let results = tempfile::tempdir().unwrap();
        self.write_results(results.path());
        let mut recorder = Recorder::start(
            runs,
            RunInfo {
                pipeline: "clothes".to_owned(),
                file: "clothes.toml".to_owned(),
                pipeline_files: vec![PipelineFile {
                    name: "clothes.toml".to_owned(),
                    text: "[stages.all]".to_owned(),
                }],
                seed: 42,
                device: "cpu".to_owned(),
                ..RunInfo::default()
            },
        );
        recorder.record(&Event::StageStarted {
            stage: "all".to_owned(),
            kind: "all".to_owned(),
            key: "ab".repeat(32),
            reasons: vec!["epochs: 8 -> 3".to_owned()],
            reason_details: Vec::new(),
        });
        let outcome = if self.error.is_some() { StageOutcome::Failed } else { StageOutcome::Ran };
        let stage = StageRecord {
            stage: "all".to_owned(),
            kind: "all".to_owned(),
            parameters: json!({ "epochs": self.epochs, "head": { "dropout": 0.5 } })
                .as_object()
                .cloned()
                .unwrap(),
            outcome: Some(outcome),
            error: self.error.map(str::to_owned),
            artifact: self.error.is_none().then(|| results.path().to_path_buf()),
            ..facts
        };
        let outcome = if self.error.is_some() { RunOutcome::Failed } else { RunOutcome::Ok };
        let id = recorder.finish(vec![stage], outcome).unwrap().unwrap();
        find(runs, id.as_str()).unwrap()
    }
}

fn run(case: &Case) -> (tempfile::TempDir, Record) {
    let runs = tempfile::tempdir().unwrap();
    let record = case.run(runs.path(), StageRecord::default());
    (runs, record)
}

/// Asserts what every page guarantees: nothing is loaded or executed, every element is closed, no
/// number is NaN.
fn check(html: &str) {
    for wrong in ["<script", "http:", "https:", "NaN", "javascript:", " onload", "url("] {
        assert!(!html.contains(wrong), "{wrong} in a page");
    }
    for element in
        ["svg", "figure", "section", "div", "table", "g", "details", "span", "code", "p", "pre"]
    {
        let opened = html.matches(&format!("<{element}>")).count()
            + html.matches(&format!("<{element} ")).count();
        assert_eq!(opened, html.matches(&format!("</{element}>")).count(), "<{element}>");
    }
    assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"));
    assert!(html.contains("default-src 'none'"));
}

/// The structure of a page, an element a line: its name, classes and text. Drawings and styles are
/// left out, and what differs between two times and machines is replaced.
fn outline(html: &str, record: &Record) -> String {
    const EMPTY: [&str; 7] = ["br", "col", "hr", "img", "input", "link", "meta"];
    let tag = Regex::new(r"<(/?)([a-z][a-z0-9]*)([^>]*)>([^<]*)").unwrap();
    let class = Regex::new(r#" class="([^"]*)""#).unwrap();
    let (mut lines, mut depth, mut hidden) = (Vec::new(), 0, None);
    for found in tag.captures_iter(html) {
        let (_, [slash, name, attributes, text]) = found.extract();
        let closes = slash == "/";
        depth -= usize::from(closes);
        if hidden == Some(depth) && closes {
            hidden = None;
        }
        let text = if name == "style" { "" } else { text };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if hidden.is_none() && !(closes && text.is_empty()) {
            let classes = class.captures(attributes).map_or(String::new(), |found| {
                found[1].split(' ').map(|class| format!(".{class}")).collect()
            });
            let element = if closes { String::new() } else { format!("{name}{classes} ") };
            lines.push(format!("{}{element}{text}", "  ".repeat(depth)).trim_end().to_owned());
        }
        if !closes && !EMPTY.contains(&name) && !attributes.ends_with('/') {
            if hidden.is_none() && ["svg", "style"].contains(&name) {
                hidden = Some(depth);
            }
            depth += 1;
        }
    }
    assert_eq!(depth, 0, "every element is closed");
    steady(&lines.join("\n"), record)
}

fn steady(text: &str, record: &Record) -> String {
    let mut text = text.replace(env!("CARGO_PKG_VERSION"), "[version]");
    if !record.id.as_str().is_empty() {
        text = text.replace(record.id.as_str(), "[run]");
    }
    for (pattern, replacement) in [
        (r"\d{4}-\d\d-\d\d \d\d:\d\d( UTC)?", "[date]"),
        (r"\b\d+\.\d+ s\b", "[time]"),
        (r"machine give identical results: .*", "machine give identical results: [machine]"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, replacement).into_owned();
    }
    text
}

fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots/report");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn a_page_shows_all_results_of_a_run() {
    let (_runs, record) = run(&Case::default());
    let html = page(&[Results::of(&record)]);
    check(&html);
    assert_snapshot("complete", &outline(&html, &record));
    assert_eq!(html, page(&[Results::of(&record)]));
}

#[test]
fn the_page_of_a_failed_run_begins_with_the_error() {
    let (_runs, record) =
        run(&Case { error: Some("the loss is <NaN in step 4"), ..Case::default() });
    let html = page(&[Results::of(&record)]);
    assert_snapshot("failed", &outline(&html, &record));
}

#[test]
fn an_empty_record_makes_a_page() {
    for status in [
        Status::Running,
        Status::Ok,
        Status::Failed,
        Status::Cancelled,
        Status::Died,
        Status::Unreadable,
    ] {
        let record = Record { status, ..Record::default() };
        let html = page(&[Results::of(&record)]);
        check(&html);
        assert_snapshot(&format!("empty_{status:?}").to_lowercase(), &outline(&html, &record));
    }
    check(&page(&[]));
}

#[test]
fn names_are_escaped_everywhere() {
    let name = "</td><script>alert('1')</script>\" onload=\"x";
    let case = Case {
        classes: vec![name.to_owned(), "&amp;".to_owned()],
        explored: json!({ "classes": [{ "class": name, "count": 1 }], "formats": [{ "format": name, "count": 1 }],
            "rejected": { "count": 1, "examples": [{ "path": name, "reason": name }] } }),
        ..Case::default()
    };
    let (_runs, record) = run(&case);
    let stage = StageRecord {
        stage: name.to_owned(),
        error: Some(name.to_owned()),
        ..record.stages[0].clone()
    };
    let hostile = Record {
        pipeline: name.to_owned(),
        file: name.to_owned(),
        overrides: vec![name.to_owned()],
        stages: vec![record.stages[0].clone(), stage],
        ..record
    };
    for html in
        [page(&[Results::of(&hostile)]), page(&[Results::of(&hostile), Results::of(&hostile)])]
    {
        assert!(
            !html.contains("<script")
                && !html.contains("\" onload")
                && html.contains("&lt;script&gt;")
        );
        assert!(html.contains("&amp;amp;"));
    }
}

#[test]
fn a_page_of_twenty_thousand_images_and_a_thousand_classes_stays_small() {
    let classes: Vec<String> = (0..1000).map(|class| format!("class number {class}")).collect();
    let counts: Vec<Value> =
        classes.iter().map(|class| json!({ "class": class, "count": 20 })).collect();
    let (_runs, record) = run(&Case {
        classes,
        images: 20_000,
        epochs: 5_000,
        explored: json!({ "classes": counts }),
        error: None,
    });
    let html = page(&[Results::of(&record)]);
    check(&html);
    assert!(html.len() < 2_000_000, "{}", html.len());
    let outline = outline(&html, &record);
    let lines: Vec<&str> = outline.lines().map(str::trim).collect();
    let is_heading = |pair: &&[&str]| {
        ["h1 ", "h2 ", "h3 ", "summary "].iter().any(|name| pair[1].starts_with(name))
            || pair[0] == "figcaption"
    };
    let headings: Vec<&str> = lines.windows(2).filter(is_heading).map(|pair| pair[1]).collect();
    assert_snapshot("headings_of_a_large_run", &headings.join("\n"));
}

#[test]
fn truncated_results_are_left_out() {
    let (_runs, record) = run(&Case::default());
    let folder = record.folder.join("results/all");
    for name in ["metrics.json", "history.csv", "explore.json", "predictions.csv"] {
        let text = fs::read(folder.join(name)).unwrap();
        for length in (0..text.len()).step_by(if text.len() > 400 { 37 } else { 7 }) {
            fs::write(folder.join(name), &text[..length]).unwrap();
            check(&page(&[Results::of(&record)]));
        }
        fs::write(folder.join(name), &text).unwrap();
    }
}

#[test]
fn inconsistent_metrics_still_make_a_page() {
    let (_runs, record) = run(&Case::default());
    let path = record.folder.join("results/all/metrics.json");
    let mut metrics: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    metrics["splits"]["test"]["confusion"] = json!([[1], [2, 3, 4, 5], []]);
    metrics["splits"]["test"]["accuracy"] = json!(1e300);
    metrics["splits"]["test"]["count"] = json!(u64::MAX);
    metrics["classes"] = json!(["a", "b", "c", "d", "e", "f", "g"]);
    fs::write(&path, metrics.to_string()).unwrap();
    check(&page(&[Results::of(&record)]));
    check(&page(&[Results::of(&record), Results::of(&record)]));
}

#[test]
fn several_runs_are_compared_with_the_first() {
    let runs = tempfile::tempdir().unwrap();
    let first = Case::default().run(runs.path(), StageRecord::default());
    let second = Case { epochs: 5, ..Case::default() }.run(runs.path(), StageRecord::default());
    let failed =
        Case { error: Some("no"), ..Case::default() }.run(runs.path(), StageRecord::default());
    let html = page(&[Results::of(&first), Results::of(&second), Results::of(&failed)]);
    check(&html);
    let mut text = outline(&html, &first);
    for (record, name) in [(&second, "[second]"), (&failed, "[failed]")] {
        text = text.replace(record.id.as_str(), name);
    }
    assert_snapshot("comparison", &text);
}

#[test]
fn the_most_confident_errors_are_shown_as_images() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let case = Case::default();
    let Entry::Miss(slot) = store.enter(&Digest::of(b"key"), false, &mut || true).unwrap() else {
        panic!()
    };
    write_cache(&case, slot.path());
    let artifact = slot.commit(b"").unwrap();
    // The stage is its own input, which makes no difference to the page.
    let facts = StageRecord {
        digest: Some(artifact.digest.to_string()),
        needs: BTreeMap::from([("data".to_owned(), "all".to_owned())]),
        ..StageRecord::default()
    };
    let record = case.run(&store.runs_folder(), facts);
    let html = page(&[Results::of(&record).with_store(&store)]);
    check(&html);
    // Images 2 and 5 of six are misclassified.
    assert_eq!(html.matches("data:image/jpeg;base64,").count(), 2);
    assert!(html.contains(r#"title="2.png""#) && html.contains(r#"title="5.png""#));
    assert!(!page(&[Results::of(&record)]).contains("base64"));
}

/// A tensor cache of the case's images, each of one color.
fn write_cache(case: &Case, folder: &Path) {
    let source = tempfile::tempdir().unwrap();
    let list: Vec<Image> = (0..case.images)
        .map(|image| {
            let path: PathBuf = source.path().join(path_of(image));
            image::RgbImage::from_pixel(12, 10, image::Rgb([40 * image as u8, 90, 30]))
                .save(&path)
                .unwrap();
            let bytes = fs::read(&path).unwrap();
            Image { path: path_of(image), length: bytes.len() as u64, digest: digest_bytes(&bytes) }
        })
        .collect();
    fs::write(source.path().join(images::LISTING), images::listing(list.clone())).unwrap();
    let images = images::open(source.path(), Some(source.path())).unwrap();
    let preprocessing: Preprocessing = serde_json::from_value(json!({
        "resize": 8, "crop": 8, "fit": "crop", "interpolation": "bilinear", "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]
    }))
    .unwrap();
    let (geometry, task, cancel) = (
        preprocessing.geometry(),
        EventSink::silent().task("decode", None, "images"),
        CancellationToken::new(),
    );
    let writer = Writer {
        images: &images,
        geometry: &geometry,
        storage: Default::default(),
        earlier: None,
        sketches: &Sketches::default(),
        task: &task,
        cancel: &cancel,
    };
    let made = writer.write(&folder.join(tensor_cache::RECORDS)).unwrap();
    let record = |digest: &Digest| {
        made.entries.iter().position(|entry| entry.image_digest == *digest).unwrap() as u32
    };
    let samples: Vec<Sample> = list
        .iter()
        .enumerate()
        .map(|(image, one)| Sample {
            path: one.path.clone(),
            image_digest: one.digest,
            record: record(&one.digest),
            class: Some((image % case.classes.len()) as u32),
            split: Split::Test,
            note: String::new(),
        })
        .collect();
    tensor_cache::write_table(
        folder,
        &InputInfo { preprocessing, classes: case.classes.clone() },
        &samples,
    )
    .unwrap();
}
