//! The small results that a run keeps copies of: written when the run ends, read from the copy or,
//! without one, from the artifact in the store. A result that is missing or damaged reads as
//! absent.

use super::samples::{self, INPUT, SAMPLES, SampleRow};
use super::{Record, RunsError, StageRecord, files};
use crate::common::csv_text::without_quote;
use crate::metrics::{self, Curves, EpochRow, Evaluation, Prediction};
use crate::store::{Artifact, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::iter::once_with;
use std::path::{Path, PathBuf};

/// The files that are copied, and the largest size of each in bytes. Larger files stay in the
/// artifact only.
const COPIED: [(&str, u64); 10] = [
    ("metrics.json", 64 << 20),
    ("curves.json", 16 << 20),
    ("history.csv", 16 << 20),
    ("training.json", 1 << 20),
    ("explore.json", 16 << 20),
    ("thumbnails.json", 4 << 20),
    ("leaks.csv", 16 << 20),
    ("predictions.csv", 16 << 20),
    ("rejected.csv", 16 << 20),
    (INPUT, 1 << 20),
];

/// The tables that are linked rather than copied: they may be long, artifacts never change, and both
/// are on one file system.
const LINKED: [&str; 1] = [SAMPLES];

/// The largest result that is read, in bytes.
const MAX_READ: u64 = 256 << 20;

pub(super) const PIPELINE: &str = "pipeline.json";
/// The pins of remote sources, as `pipe.lock` has them.
pub(super) const PINS: &str = "pipe.lock";

/// The names of the files of artifacts that records have.
pub fn recorded_names() -> Vec<&'static str> {
    COPIED.iter().map(|(name, _)| *name).chain(LINKED).collect()
}

/// Copies the small results of a stage's artifact to the run's folder.
pub(super) fn copy(folder: &Path, stage: &str, artifact: &Path) -> Result<(), RunsError> {
    let results = results_folder(folder, stage);
    for (name, limit) in COPIED {
        let file = artifact.join(name);
        if fs::metadata(&file).is_ok_and(|found| found.is_file() && found.len() <= limit) {
            copy_file(&file, &results.join(name))?;
        }
    }
    for name in LINKED {
        let file = artifact.join(name);
        if file.is_file() {
            copy_file(&file, &results.join(name))?;
        }
    }
    Ok(())
}

/// Copies or links a result from its artifact.
pub(super) fn copy_file(file: &Path, copy: &Path) -> Result<(), RunsError> {
    let folder = copy.parent().unwrap_or(copy);
    fs::create_dir_all(folder).map_err(|error| RunsError::io("create", folder, error))?;
    if LINKED.iter().any(|name| file.ends_with(name)) {
        // Where links aren't possible the table is read from the artifact, as long as that is there.
        let _ = fs::hard_link(file, copy);
        return Ok(());
    }
    let bytes = fs::read(file).map_err(|error| RunsError::io("read", file, error))?;
    files::write(copy, &bytes).map_err(|error| RunsError::io("write", copy, error))
}

/// The folder of a stage's results.
pub(super) fn results_folder(folder: &Path, stage: &str) -> PathBuf {
    folder.join(folder_name(stage))
}

/// The folder of a stage's results in the folder of a run. Stage names are user input: bytes that
/// aren't safe in a file name are written in hex.
pub(super) fn folder_name(stage: &str) -> String {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let escaped = |byte: u8| {
        if is_safe(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }
    };
    format!("results/{}", stage.bytes().take(80).map(escaped).collect::<String>())
}

/// A row of `leaks.csv`.
#[derive(Clone, Debug, Deserialize)]
pub struct LeakRow {
    pub path: String,
    pub split: String,
    pub class: String,
    pub other_path: String,
    pub other_split: String,
    pub other_class: String,
    pub similarity: f64,
}

impl LeakRow {
    /// The row with its names as they are, without the `'` before those that look like formulas.
    fn unquoted(mut self) -> LeakRow {
        let names = [&mut self.path, &mut self.class, &mut self.other_path, &mut self.other_class];
        for name in names {
            *name = without_quote(name).to_owned();
        }
        self
    }
}

/// The files and overrides that a run's pipeline was read from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineInput {
    /// The pipeline file first, then the files that it extends.
    #[serde(rename = "sources")]
    pub files: Vec<PipelineFile>,
    /// The values of `--set`, in order.
    pub overrides: Vec<String>,
}

/// A pipeline file, or one that it extends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineFile {
    /// The path as shown to the user.
    pub name: String,
    pub text: String,
}

impl PipelineInput {
    pub(super) fn save(&self, folder: &Path) -> Result<(), RunsError> {
        let path = folder.join(PIPELINE);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| RunsError::io("write", &path, error.into()))?;
        files::write(&path, &text).map_err(|error| RunsError::io("write", &path, error))
    }
}

/// The results of one run.
#[derive(Clone, Copy)]
pub struct Results<'a> {
    record: &'a Record,
    store: Option<&'a Store>,
}

impl<'a> Results<'a> {
    /// The results that were copied to the folder of the run.
    pub fn of(record: &'a Record) -> Results<'a> {
        Results { record, store: None }
    }

    /// Adds the results that are still in the artifacts in `store`.
    pub fn with_store(self, store: &'a Store) -> Results<'a> {
        Results { store: Some(store), ..self }
    }

    /// The folder of a stage's artifact, if it is in the store.
    pub fn artifact(&self, stage: &str) -> Option<PathBuf> {
        self.stored(stage).map(|artifact| artifact.path)
    }

    fn stored(&self, stage: &str) -> Option<Artifact> {
        let digest = self.record.stage(stage)?.digest.as_ref()?.parse().ok()?;
        self.store?.artifact(&digest).ok()?
    }

    pub fn record(&self) -> &'a Record {
        self.record
    }

    /// The evaluations with their stages, in the order of the plan.
    pub fn evaluations(&self) -> Vec<(&'a StageRecord, Evaluation)> {
        self.each("metrics.json", |path| Evaluation::read(path).ok())
    }

    /// The training histories with their stages, one row per epoch; none is empty.
    pub fn histories(&self) -> Vec<(&'a StageRecord, Vec<EpochRow>)> {
        self.each("history.csv", |path| {
            metrics::read_history(path).ok().filter(|rows| !rows.is_empty())
        })
    }

    /// The statistics of data sets with the stages that explored them.
    pub fn explorations(&self) -> Vec<(&'a StageRecord, Value)> {
        self.each("explore.json", read_json)
    }

    /// The small images of the findings of a stage that explored a data set: path -> JPEG in base64.
    pub fn thumbnails(&self, stage: &StageRecord) -> BTreeMap<String, String> {
        let read =
            || serde_json::from_value(read_json(&self.file(stage, "thumbnails.json")?)?).ok();
        read().unwrap_or_default()
    }

    /// The copies across splits with the stages that found them, as rows of `leaks.csv`.
    pub fn leaks(&self) -> Vec<(&'a StageRecord, Vec<LeakRow>)> {
        self.each("leaks.csv", |path| {
            let rows = csv::Reader::from_path(path).ok()?.into_deserialize::<LeakRow>();
            let rows: Vec<LeakRow> = rows.filter_map(Result::ok).map(LeakRow::unquoted).collect();
            (!rows.is_empty()).then_some(rows)
        })
    }

    /// The `training.json` of a stage.
    pub fn training(&self, stage: &str) -> Option<Value> {
        read_json(&self.file(self.record.stage(stage)?, "training.json")?)
    }

    /// The ROC and precision-recall curves of an evaluating stage.
    pub fn curves(&self, stage: &StageRecord) -> Option<Curves> {
        Curves::read(&self.file(stage, "curves.json")?).ok()
    }

    /// The predictions of an evaluating stage.
    pub fn predictions(&self, stage: &str) -> Option<Vec<Prediction>> {
        metrics::read_predictions(&self.file(self.record.stage(stage)?, "predictions.csv")?).ok()
    }

    /// Whether a stage has `metrics.json`, `history.csv` or `predictions.csv` and it can't be read.
    pub(super) fn is_damaged(&self, stage: &str, name: &str) -> bool {
        let file = self.record.stage(stage).and_then(|stage| self.file(stage, name));
        file.is_some_and(|path| match name {
            "metrics.json" => Evaluation::read(&path).is_err(),
            "history.csv" => metrics::read_history(&path).is_err(),
            _ => metrics::read_predictions(&path).is_err(),
        })
    }

    /// The samples of a preprocessing stage.
    pub fn samples(&self, stage: &str) -> Option<Vec<SampleRow>> {
        let stage = self.record.stage(stage)?;
        samples::read(&self.file(stage, SAMPLES)?, &self.file(stage, INPUT)?, MAX_READ)
    }

    pub fn pipeline_input(&self) -> Option<PipelineInput> {
        let bytes = self.read(PIPELINE)?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The text of `pipe.lock` after the run; none without remote sources.
    pub fn pins(&self) -> Option<String> {
        String::from_utf8(self.read(PINS)?).ok()
    }

    /// A file of the record, if it is what was recorded.
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let is_intact = self.record.is_intact(name);
        is_intact.then(|| files::read_small(&self.record.folder.join(name), MAX_READ))?
    }

    fn each<T>(&self, name: &str, read: impl Fn(&Path) -> Option<T>) -> Vec<(&'a StageRecord, T)> {
        let stages = self.record.stages.iter();
        stages.filter_map(|stage| Some((stage, read(&self.file(stage, name)?)?))).collect()
    }

    /// A result that isn't too large to read.
    fn file(&self, stage: &StageRecord, name: &str) -> Option<PathBuf> {
        self.files(stage, name).find(|(_, length)| *length <= MAX_READ).map(|(path, _)| path)
    }

    /// Where a file of a stage's output is, and its length in bytes: the copy in the folder of the
    /// run, else the artifact in the store. Either is what was recorded.
    pub fn output(&self, stage: &StageRecord, name: &str) -> Option<(PathBuf, u64)> {
        self.files(stage, name).next()
    }

    fn files(&self, stage: &StageRecord, name: &str) -> impl Iterator<Item = (PathBuf, u64)> {
        let copy = format!("{}/{name}", folder_name(&stage.stage));
        let in_record =
            move || self.record.is_intact(&copy).then(|| self.record.folder.join(&copy));
        let in_store = || self.stored(&stage.stage)?.intact(name);
        let found = |path: PathBuf| {
            let metadata = fs::metadata(&path).ok().filter(|metadata| metadata.is_file())?;
            Some((path, metadata.len()))
        };
        // The artifact is looked at only where the record doesn't have the file.
        once_with(in_record).chain(once_with(in_store)).flatten().filter_map(found)
    }
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&files::read_small(path, MAX_READ)?).ok()
}
