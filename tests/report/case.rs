//! Made-up runs, for the tests and the benchmark of pages.

use pipe::data::images::{self, Image};
use pipe::data::tensor_cache::{self, Sample, Split, Writer};
use pipe::data::{InputInfo, Preprocessing};
use pipe::events::{CancellationToken, Event, EventSink, RunOutcome, StageOutcome};
use pipe::metrics::{EpochRow, Scoring, write_history};
use pipe::runs::{PipelineFile, Record, Recorder, Repository, RunId, RunInfo, StageRecord, find};
use pipe::store::{Digest, Entry, Store, digest_bytes};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The contents of a made-up run.
pub(crate) struct Case {
    pub(crate) classes: Vec<String>,
    /// The number of classes that are labels, from the first.
    pub(crate) labels: usize,
    pub(crate) images: usize,
    pub(crate) epochs: u64,
    pub(crate) explored: Value,
    pub(crate) error: Option<&'static str>,
}

impl Default for Case {
    fn default() -> Case {
        let classes = ["shirt", "dress"].map(str::to_owned).to_vec();
        let explored = json!({
            "images": 9, "classes": [{ "class": "shirt", "count": 5 }, { "class": "dress", "count": 4 }],
            "shorter_side": [{ "low": 0, "high": 64, "count": 9 }], "formats": [{ "format": "jpeg", "count": 9 }],
            "rejected": { "count": 3, "examples": [{ "path": "a.jpg", "reason": "cut short" }] }, "mean": [0.5, 0.5, 0.5],
        });
        Case { classes, labels: usize::MAX, images: 6, epochs: 3, explored, error: None }
    }
}

pub(crate) fn path_of(image: usize) -> String {
    format!("{image}.png")
}

impl Case {
    fn label(&self, image: usize) -> usize {
        image % self.classes.len().min(self.labels)
    }

    /// Every third image is misclassified, as a class that changes from one to the next.
    fn prediction(&self, image: usize) -> usize {
        let count = self.classes.len().min(self.labels);
        let other = 1 + image / 3 % count.saturating_sub(1).max(1);
        if image % 3 == 2 { (self.label(image) + other) % count } else { self.label(image) }
    }

    fn write_results(&self, folder: &Path) {
        let file = fs::File::create(folder.join("predictions.csv")).unwrap();
        let mut scoring = Scoring::new(file, &self.classes).unwrap();
        for image in 0..self.images {
            let truth = self.label(image) as u32;
            let mut probabilities = vec![0.0f32; self.classes.len()];
            probabilities[self.prediction(image)] = 0.75;
            scoring.push(&path_of(image), "test", Some(truth), &probabilities).unwrap();
        }
        let (evaluation, curves) = scoring.finish().unwrap();
        if let Some(curves) = curves {
            fs::write(folder.join("curves.json"), curves.to_json()).unwrap();
        }
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

    /// Records a run of a single stage with all results; `facts` may name an artifact that has them.
    pub(crate) fn run(&self, runs: &Path, facts: StageRecord) -> Record {
        let results = tempfile::tempdir().unwrap();
        if facts.artifact.is_none() {
            self.write_results(results.path());
        }
        let mut recorder = Recorder::start(runs, info());
        recorder.record(&started("all"));
        let outcome = if self.error.is_some() { StageOutcome::Failed } else { StageOutcome::Ran };
        let artifact = facts.artifact.clone().unwrap_or_else(|| results.path().to_path_buf());
        let stage = StageRecord {
            stage: "all".to_owned(),
            kind: "all".to_owned(),
            parameters: json!({ "epochs": self.epochs, "head": { "dropout": 0.5 } })
                .as_object()
                .cloned()
                .unwrap(),
            outcome: Some(outcome),
            error: self.error.map(str::to_owned),
            artifact: self.error.is_none().then_some(artifact),
            ..facts
        };
        let outcome = if self.error.is_some() { RunOutcome::Failed } else { RunOutcome::Ok };
        let id = recorder.finish(vec![stage], outcome).unwrap().unwrap();
        recorded(runs, &id)
    }
}

pub(crate) fn info() -> RunInfo {
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
    }
}

pub(crate) fn started(stage: &str) -> Event {
    Event::StageStarted {
        stage: stage.to_owned(),
        kind: stage.to_owned(),
        key: "ab".repeat(32),
        reasons: vec!["epochs: 8 -> 3".to_owned()],
        reason_details: Vec::new(),
    }
}

/// The record of a run, of a commit that doesn't depend on where the tests run.
pub(crate) fn recorded(runs: &Path, id: &RunId) -> Record {
    let repository = Repository { commit: "0123456789".repeat(4), is_dirty: true };
    Record { repository: Some(repository), ..find(runs, id.as_str()).unwrap() }
}

/// A run whose images are in the store: those of the files in `source`, again and again, as squares
/// of `size` pixels.
pub(crate) fn stored(case: &Case, store: &Store, source: &Path, size: u32) -> Record {
    let key = Digest::of(&case.images.to_le_bytes());
    let Entry::Miss(slot) = store.enter(&key, false, &mut || true).unwrap() else {
        panic!("a run that is there")
    };
    case.write_results(slot.path());
    write_cache(case, source, size, slot.path());
    fs::write(slot.path().join("model.safetensors"), b"weights").unwrap();
    let artifact = slot.commit(b"").unwrap();
    // The stage is its own input, which makes no difference to the page.
    let facts = StageRecord {
        digest: Some(artifact.digest.to_string()),
        needs: ["data", "model"].map(|need| (need.to_owned(), "all".to_owned())).into(),
        artifact: Some(artifact.path),
        ..StageRecord::default()
    };
    case.run(&store.runs_folder(), facts)
}

/// The tensor cache of the case's images.
fn write_cache(case: &Case, source: &Path, size: u32, folder: &Path) {
    let mut names: Vec<String> = fs::read_dir(source)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != images::LISTING)
        .collect();
    names.sort();
    let image = |name: &String| {
        let bytes = fs::read(source.join(name)).unwrap();
        Image { path: name.clone(), length: bytes.len() as u64, digest: digest_bytes(&bytes) }
    };
    let list: Vec<Image> = names.iter().map(image).collect();
    fs::write(source.join(images::LISTING), images::listing(list.clone())).unwrap();
    let images = images::open(source, Some(source)).unwrap();
    let preprocessing: Preprocessing = serde_json::from_value(json!({
        "resize": size, "crop": size, "fit": "crop", "interpolation": "bilinear", "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]
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
        sketches: None,
        task: &task,
        cancel: &cancel,
    };
    let made = writer.write(&folder.join(tensor_cache::RECORDS)).unwrap();
    let record = |digest: &Digest| {
        made.entries.iter().position(|entry| entry.image_digest == *digest).unwrap() as u32
    };
    let sample = |image: usize| {
        let file = &list[image % list.len()];
        Sample {
            path: path_of(image),
            image_digest: file.digest,
            record: record(&file.digest),
            class: Some(case.label(image) as u32),
            split: Split::Test,
            note: String::new(),
        }
    };
    let mut samples: Vec<Sample> = (0..case.images).map(sample).collect();
    samples.sort_by(|a, b| a.path.cmp(&b.path));
    let info = InputInfo { preprocessing, classes: case.classes.clone() };
    tensor_cache::write_table(folder, &info, samples.into_iter()).unwrap();
}
