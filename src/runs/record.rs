//! The record of one run, which is the content of `run.json`. Reading never fails: a damaged
//! record, or one of a newer version, becomes a record with the status [`Status::Unreadable`].

use super::seal::{self, SealedFiles};
use super::{Labels, Machine, Repository, RunsError, Timestamp, files};
use crate::events::{RunOutcome, StageOutcome, UndeclaredWrites};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The version of the format of a run's folder.
///
/// - 1: the first.
/// - 2: the outcome `cancelled` of a stage.
/// - 3: sealed: `number`, `files` and `digest`.
pub const FORMAT: u32 = 3;

pub const RUN: &str = "run.json";
pub(super) const LOCK: &str = "lock";

/// The characters of an id: without those that are easily mistaken for each other.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The id of a run: six random letters and digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// The id of the lowest 30 bits.
    pub(super) fn from_bits(bits: u64) -> RunId {
        RunId(
            (0..6).map(|index| char::from(ALPHABET[(bits >> (5 * index) & 31) as usize])).collect(),
        )
    }

    /// `None` where the text is not an id.
    pub fn parse(text: &str) -> Option<RunId> {
        let is_id = text.len() == 6 && text.bytes().all(|byte| ALPHABET.contains(&byte));
        is_id.then(|| RunId(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The status of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The process is alive.
    Running,
    /// All requested stages succeeded.
    Ok,
    /// A stage failed.
    Failed,
    /// The user cancelled it.
    Cancelled,
    /// The process ended without recording an outcome: it was killed, or the machine went down.
    Died,
    /// The record is damaged, or of a newer version.
    #[default]
    Unreadable,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Ok => "ok",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Died => "died",
            Status::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One stage of a run. Not all fields are known before the stage ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageRecord {
    pub stage: String,
    pub kind: String,
    /// The inputs: role -> stage.
    pub needs: BTreeMap<String, String>,
    /// With defaults filled in.
    pub parameters: Map<String, Value>,
    /// Everything that enters the key.
    pub fingerprint: Option<Value>,
    /// The cache key, 64 hex digits.
    pub key: Option<String>,
    /// The digest of the artifact, 64 hex digits.
    pub digest: Option<String>,
    /// `None` until the stage ends, and if the run died before that.
    pub outcome: Option<StageOutcome>,
    /// Why it had to run, the most important first; empty if it didn't.
    pub reasons: Vec<String>,
    /// The run time; 0 if it didn't run.
    pub seconds: f64,
    /// Images processed per second, if it counts images: while training, the mean over the epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_per_second: Option<f64>,
    /// The most memory that its process used, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// What the user vouched for, if its output was made by another key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// The first difference from an earlier output of the same key, on the same kind of machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_reproducible: Option<String>,
    /// Files beside its output that changed while its program ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undeclared_writes: Option<UndeclaredWrites>,
    /// The tries that failed before the last one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    /// The folder of the artifact, from which the recorder copies small results. Not recorded.
    #[serde(skip)]
    pub artifact: Option<PathBuf>,
}

/// That an output was made by another key, whose differences the user vouched for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accepted {
    /// The key whose build made it, 64 hex digits.
    pub key: String,
    /// The differences, one sentence each.
    pub changes: Vec<String>,
}

impl StageRecord {
    /// Why it ran, or what the user vouched for.
    pub fn why(&self) -> String {
        match &self.accepted {
            Some(accepted) => format!("accepted: {}", accepted.changes.join("; ")),
            None => self.reasons.join("; "),
        }
    }
}

/// A try of a stage that failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    pub seconds: f64,
    pub error: String,
}

/// The state of a stage, derived from its outcome and the status of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageState {
    /// It ran and its artifact was committed.
    Ran,
    /// Its artifact was in the cache.
    Fresh,
    /// It ran and failed.
    Failed,
    /// It was running when the user interrupted the run.
    Cancelled,
    /// A stage that it needs failed, or the run was cancelled.
    Skipped,
    Running,
    /// It was running when the run died.
    Died,
    /// It hasn't started, and never will if the run ended.
    Waiting,
}

impl StageState {
    pub fn as_str(self) -> &'static str {
        match self {
            StageState::Ran => "ran",
            StageState::Fresh => "fresh",
            StageState::Failed => "failed",
            StageState::Cancelled => "interrupted",
            StageState::Skipped => "not run",
            StageState::Running => "running",
            StageState::Died => "died",
            StageState::Waiting => "not reached",
        }
    }
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The version of the format, [`FORMAT`].
    pub format: u32,
    /// The name of the folder.
    pub id: RunId,
    /// The status at the time of reading. Written, but derived from outcome and lock when read.
    #[serde(skip_deserializing)]
    pub status: Status,
    /// Why the record can't be read. Everything but the id and the folder is empty then.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The name, note and tags that the user gave it, from a file of its own.
    #[serde(skip_deserializing, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    pub pipeline: String,
    /// The pipeline file, as given on the command line.
    pub file: String,
    /// The values of `--set`, in order.
    pub overrides: Vec<String>,
    pub seed: u64,
    /// The version of pipe.
    pub version: String,
    pub machine: Machine,
    /// The Git repository of the pipeline file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<Repository>,
    /// One more than the highest of the runs before it: the order of runs, whatever clocks say. 0 in
    /// records of earlier versions.
    pub number: u64,
    /// When the first stage started.
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    pub outcome: Option<RunOutcome>,
    /// From the start to the end, or to the last update of the record.
    pub seconds: f64,
    /// In the order of the plan.
    pub stages: Vec<StageRecord>,
    /// The other files of the record, apart from those that may change; all of them once the run
    /// has ended.
    pub files: SealedFiles,
    #[serde(skip)]
    pub folder: PathBuf,
}

/// What a list of runs needs to know of each: a small part of a record.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    format: u32,
    pub(super) pipeline: String,
    pub(super) number: u64,
    pub(super) started: Timestamp,
}

impl Head {
    /// Reads the head of the record in `folder`; none where that is damaged or of a newer version.
    pub(super) fn load(folder: &Path) -> Option<Head> {
        Head::read(folder).filter(|head| (1..=FORMAT).contains(&head.format))
    }

    /// The same of any version.
    pub(super) fn read(folder: &Path) -> Option<Head> {
        let bytes = std::fs::read(folder.join(RUN)).ok()?;
        // The rest is skipped, but it must be JSON: a record that was cut short has no head.
        let head: Head = serde_json::from_slice(&bytes).ok()?;
        seal::problem(&bytes, head.format).is_none().then_some(head)
    }
}

impl Record {
    pub fn stage(&self, name: &str) -> Option<&StageRecord> {
        self.stages.iter().find(|stage| stage.stage == name)
    }

    pub fn state(&self, stage: &StageRecord) -> StageState {
        match (stage.outcome, self.status) {
            (Some(StageOutcome::Ran), _) => StageState::Ran,
            (Some(StageOutcome::Fresh), _) => StageState::Fresh,
            (Some(StageOutcome::Failed), _) => StageState::Failed,
            (Some(StageOutcome::Cancelled), _) => StageState::Cancelled,
            (Some(StageOutcome::Skipped), _) => StageState::Skipped,
            // The key is recorded when a stage starts.
            (None, Status::Running) if stage.key.is_some() => StageState::Running,
            (None, Status::Died) if stage.key.is_some() => StageState::Died,
            (None, _) => StageState::Waiting,
        }
    }

    /// The first stage that failed, and its error.
    pub fn error(&self) -> Option<(&str, &str)> {
        let failed =
            self.stages.iter().find(|stage| stage.outcome == Some(StageOutcome::Failed))?;
        Some((failed.stage.as_str(), failed.error.as_deref().unwrap_or("no error was recorded")))
    }

    /// Reads the record in `folder`. Never fails: see [`Status::Unreadable`].
    pub(super) fn load(folder: &Path, id: RunId) -> Record {
        let mut read = Record::read(folder);
        let is_alive = matches!(&read, Ok(record) if record.outcome.is_none()) && is_locked(folder);
        if !is_alive && matches!(&read, Ok(record) if record.outcome.is_none()) {
            // The run may have ended between reading its record and testing its lock.
            read = Record::read(folder);
        }
        let mut record =
            read.unwrap_or_else(|problem| Record { problem: Some(problem), ..Record::default() });
        record.status = match (&record.problem, record.outcome) {
            (Some(_), _) => Status::Unreadable,
            (None, Some(RunOutcome::Ok)) => Status::Ok,
            (None, Some(RunOutcome::Failed)) => Status::Failed,
            (None, Some(RunOutcome::Cancelled)) => Status::Cancelled,
            (None, None) if is_alive => Status::Running,
            (None, None) => Status::Died,
        };
        record.id = id;
        record.labels = Labels::load(folder);
        record.folder = folder.to_path_buf();
        record
    }

    /// The same record as it is now.
    ///
    /// # Errors
    /// If it can't be read any more.
    pub fn reload(&self) -> Result<Record, RunsError> {
        Record::load(&self.folder, self.id.clone()).readable()
    }

    /// The record, unless it can't be read.
    pub(super) fn readable(self) -> Result<Record, RunsError> {
        match self.problem {
            Some(problem) => Err(RunsError::Unreadable { id: self.id, problem }),
            None => Ok(self),
        }
    }

    pub(super) fn read(folder: &Path) -> Result<Record, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let path = folder.join(RUN);
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let damaged = |error: serde_json::Error| format!("{} is damaged: {error}", path.display());
        let read: Result<Record, _> = serde_json::from_slice(&bytes);
        let format = match &read {
            Ok(record) if record.format > 0 => record.format,
            // What a newer version writes may have another form: its format says so first.
            _ => serde_json::from_slice::<Format>(&bytes).map_err(damaged)?.format,
        };
        if let Some(problem) = seal::problem(&bytes, format) {
            return Err(format!("{} is damaged: {problem}", path.display()));
        }
        if format > FORMAT {
            return Err(format!(
                "it was written by a newer version of pipe (format {format}; this one reads up to {FORMAT}); use that version"
            ));
        }
        read.map_err(damaged)
    }

    pub(super) fn save(&self, folder: &Path) -> Result<(), RunsError> {
        let path = folder.join(RUN);
        let json = serde_json::to_vec_pretty(self)
            .map_err(|error| RunsError::io("write", &path, error.into()))?;
        files::write(&path, &seal::with_digest(json))
            .map_err(|error| RunsError::io("write", &path, error))
    }
}

/// Whether a process holds the run's lock. The test takes a shared lock, so that two readers don't
/// mistake each other for the run.
fn is_locked(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(LOCK)) else { return false };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}
