//! The fingerprints of stages in earlier runs of a pipeline, which explain why a stage has to run
//! now. They are JSON values: their content is up to the engine.

use super::{Entry, Record, list, read_all};
use serde_json::Value;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// The number of runs that are searched, newest first.
const MAX_RUNS: usize = 200;

/// The fingerprints of earlier runs, read on first use.
pub struct FingerprintHistory {
    runs: PathBuf,
    pipeline: String,
    /// (stage, kind, fingerprint) of stages with an artifact, newest first.
    known: OnceCell<Vec<(String, String, Value)>>,
}

impl FingerprintHistory {
    /// The fingerprints of the runs of `pipeline` in the folder `runs`. Other pipelines' runs
    /// explain nothing: what differs from them is not what the user changed.
    pub fn new(runs: &Path, pipeline: &str) -> FingerprintHistory {
        let (runs, pipeline) = (runs.to_path_buf(), pipeline.to_owned());
        FingerprintHistory { runs, pipeline, known: OnceCell::new() }
    }

    /// The distinct fingerprints of artifacts of a kind, with the names of their stages: stages
    /// called `stage` first, then the others, each newest first.
    pub fn earlier(&self, stage: &str, kind: &str) -> Vec<(String, Value)> {
        let known = self.known.get_or_init(|| {
            let entries = list(&self.runs).into_iter();
            let of_pipeline = entries.filter(|entry| entry.pipeline == self.pipeline);
            let entries: Vec<Entry> = of_pipeline.take(MAX_RUNS).collect();
            read_all(&entries);
            fingerprints(entries.into_iter().map(Entry::into_record))
        });
        let of_kind = || known.iter().filter(|(_, its_kind, _)| its_kind == kind);
        let same_name = of_kind().filter(|(name, ..)| name == stage);
        let other_name = of_kind().filter(|(name, ..)| name != stage);
        let mut earlier: Vec<(String, Value)> = Vec::new();
        for (name, _, fingerprint) in same_name.chain(other_name) {
            if !earlier.iter().any(|(_, known)| known == fingerprint) {
                earlier.push((name.clone(), fingerprint.clone()));
            }
        }
        earlier
    }
}

fn fingerprints(records: impl Iterator<Item = Record>) -> Vec<(String, String, Value)> {
    let stages = records.flat_map(|record| record.stages);
    let with_artifact = stages.filter(|stage| stage.digest.is_some());
    with_artifact.filter_map(|stage| Some((stage.stage, stage.kind, stage.fingerprint?))).collect()
}
