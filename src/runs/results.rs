//! The small results that a run keeps copies of, and how they are read back: from the copy, else from the artifact in
//! the store while it is there. A result that is missing or damaged is absent.

use super::{Record, RunsError, Source, StageFacts, files};
use crate::metrics::{self, EpochRow, Evaluation, Prediction};
use crate::store::Store;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// What is kept, and up to how many bytes. Longer files stay in the artifact alone.
const KEPT: [(&str, u64); 5] = [
    ("metrics.json", 64 << 20),
    ("history.csv", 16 << 20),
    ("training.json", 1 << 20),
    ("explore.json", 16 << 20),
    ("predictions.csv", 16 << 20),
];

/// The most that is read into memory of a result.
const LIMIT: u64 = 256 << 20;

const ASKED: &str = "pipeline.json";

/// Copies what is kept of a stage's artifact into the run's folder.
pub(super) fn keep(folder: &Path, stage: &str, artifact: &Path) -> Result<(), RunsError> {
    let results = folder_of(folder, stage);
    for (name, limit) in KEPT {
        let Some(bytes) = files::read_small(&artifact.join(name), limit) else { continue };
        fs::create_dir_all(&results).map_err(|error| RunsError::io("make", &results, error))?;
        let path = results.join(name);
        files::write(&path, &bytes).map_err(|error| RunsError::io("write", &path, error))?;
    }
    Ok(())
}

/// Where a stage's results lie. A stage's name is the user's: whatever isn't plain in a file's name is written as hex.
fn folder_of(folder: &Path, stage: &str) -> PathBuf {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let name: String = stage
        .bytes()
        .take(80)
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect();
    folder.join("results").join(name)
}

/// What was asked of a run: the texts it was read from, and the overrides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// The pipeline file first, then what it extends.
    pub sources: Vec<Source>,
    /// The overrides given with `--set`, in order.
    pub overrides: Vec<String>,
}

pub(super) fn keep_asked(
    folder: &Path,
    sources: &[Source],
    overrides: &[String],
) -> Result<(), RunsError> {
    let path = folder.join(ASKED);
    let asked = Asked { sources: sources.to_vec(), overrides: overrides.to_vec() };
    let text = serde_json::to_vec_pretty(&asked)
        .map_err(|error| RunsError::io("write", &path, error.into()))?;
    files::write(&path, &text).map_err(|error| RunsError::io("write", &path, error))
}

/// The results of one run, found where they are.
#[derive(Clone, Copy)]
pub struct Results<'a> {
    record: &'a Record,
    store: Option<&'a Store>,
}

impl<'a> Results<'a> {
    /// The results that `record` keeps copies of.
    pub fn of(record: &'a Record) -> Results<'a> {
        Results { record, store: None }
    }

    /// The same, and what else the artifacts hold that are still in `store`.
    pub fn with_store(self, store: &'a Store) -> Results<'a> {
        Results { store: Some(store), ..self }
    }

    /// The folder of a stage's artifact, while it is in the store.
    pub fn artifact(&self, stage: &str) -> Option<PathBuf> {
        let digest = self.record.stage(stage)?.digest.as_ref()?.parse().ok()?;
        self.store?.artifact(&digest).ok().flatten().map(|artifact| artifact.path)
    }

    /// The run.
    pub fn record(&self) -> &'a Record {
        self.record
    }

    /// The evaluations, with the stages that made them, in the order of the plan.
    pub fn evaluations(&self) -> Vec<(&'a StageFacts, Evaluation)> {
        self.each("metrics.json", |path| Evaluation::read(path).ok())
    }

    /// The histories of training, an epoch a row.
    pub fn histories(&self) -> Vec<(&'a StageFacts, Vec<EpochRow>)> {
        self.each("history.csv", |path| {
            metrics::read_history(path).ok().filter(|rows| !rows.is_empty())
        })
    }

    /// What explorations found.
    pub fn explorations(&self) -> Vec<(&'a StageFacts, Value)> {
        self.each("explore.json", json)
    }

    /// What training decided.
    pub fn training(&self, stage: &str) -> Option<Value> {
        json(&self.file(self.record.stage(stage)?, "training.json")?)
    }

    /// The predictions of an evaluating stage.
    pub fn predictions(&self, stage: &str) -> Option<Vec<Prediction>> {
        metrics::read_predictions(&self.file(self.record.stage(stage)?, "predictions.csv")?).ok()
    }

    /// What was asked of the run.
    pub fn asked(&self) -> Option<Asked> {
        serde_json::from_slice(&files::read_small(&self.record.folder.join(ASKED), LIMIT)?).ok()
    }

    fn each<T>(&self, name: &str, read: impl Fn(&Path) -> Option<T>) -> Vec<(&'a StageFacts, T)> {
        let stages = self.record.stages.iter();
        stages.filter_map(|stage| Some((stage, read(&self.file(stage, name)?)?))).collect()
    }

    fn file(&self, stage: &StageFacts, name: &str) -> Option<PathBuf> {
        let readable = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= LIMIT)
        };
        let kept = folder_of(&self.record.folder, &stage.stage).join(name);
        let in_store = || Some(self.artifact(&stage.stage)?.join(name));
        Some(kept).filter(readable).or_else(|| in_store().filter(readable))
    }
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&files::read_small(path, LIMIT)?).ok()
}
