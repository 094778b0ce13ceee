//! What stages were made of in earlier runs, for explaining why one has to run now. Fingerprints are handed out as they
//! were recorded, as JSON: what is in them is the engine's business.

use super::{Record, list};
use serde_json::Value;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// How many runs it looks back: an explanation by something older helps nobody.
const LOOK_BACK: usize = 200;

/// The fingerprints of earlier runs, read when first asked for.
pub struct History {
    runs: PathBuf,
    /// (stage, kind, fingerprint) of stages that have an artifact, newest first.
    known: OnceCell<Vec<(String, String, Value)>>,
}

impl History {
    /// The history of the runs under `runs`.
    pub fn new(runs: &Path) -> History {
        History { runs: runs.to_path_buf(), known: OnceCell::new() }
    }

    /// Fingerprints of this kind that led to an artifact, each one once, with the name of the stage: those of a stage of
    /// this name first, newest first, then those of stages with other names, newest first.
    pub fn earlier(&self, stage: &str, kind: &str) -> Vec<(String, Value)> {
        let known = self.known.get_or_init(|| fingerprints(list(&self.runs)));
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

fn fingerprints(records: Vec<Record>) -> Vec<(String, String, Value)> {
    let stages = records.into_iter().take(LOOK_BACK).flat_map(|record| record.stages);
    let made = stages.filter(|stage| stage.digest.is_some());
    made.filter_map(|stage| Some((stage.stage, stage.kind, stage.fingerprint?))).collect()
}
