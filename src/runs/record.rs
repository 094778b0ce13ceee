//! The record of one run, as `run.json` holds it, and how it is read back: a damaged or foreign record is a record that
//! says so, never an error of the whole list and never a panic. Knows nothing of how runs are made.

use super::{Machine, RunsError, Timestamp, files};
use crate::events::{RunOutcome, StageOutcome};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The version of a run's folder. 1: the first.
pub const FORMAT: u32 = 1;

pub(super) const RUN: &str = "run.json";
pub(super) const LOCK: &str = "lock";

/// Letters of an id: those that can't be taken for one another when read aloud or copied by hand.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The name of a run: six letters and digits, drawn at random.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// The id made of 30 bits of `bits`.
    pub(super) fn from_bits(bits: u64) -> RunId {
        RunId(
            (0..6).map(|place| char::from(LETTERS[(bits >> (5 * place) & 31) as usize])).collect(),
        )
    }

    /// Reads an id; `None` where the text could be none.
    pub fn parse(text: &str) -> Option<RunId> {
        let fits = text.len() == 6 && text.bytes().all(|byte| LETTERS.contains(&byte));
        fits.then(|| RunId(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Its process lives.
    Running,
    /// Every stage asked for is there.
    Ok,
    /// A stage failed.
    Failed,
    /// The user asked to stop.
    Cancelled,
    /// Its process is gone, and it never said how it ended: killed, or the machine went down.
    Died,
    /// The record is damaged, or of a newer version.
    #[default]
    Unreadable,
}

impl Status {
    /// The word for it: "ok", "failed", "died".
    pub fn word(self) -> &'static str {
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
        f.pad(self.word())
    }
}

/// One stage of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageFacts {
    /// Its name in the pipeline.
    pub stage: String,
    /// Its kind.
    pub kind: String,
    /// What feeds it: role -> stage.
    pub needs: BTreeMap<String, String>,
    /// Its parameters as they were used, defaults filled in.
    pub parameters: Map<String, Value>,
    /// Everything that decided its key, where it came to be known.
    pub fingerprint: Option<Value>,
    /// Its cache key, 64 hex digits, where it came to be known.
    pub key: Option<String>,
    /// The digest of its artifact, 64 hex digits, where there is one.
    pub digest: Option<String>,
    /// How it ended; `None` while the run lasts, and for a run that died before.
    pub outcome: Option<StageOutcome>,
    /// Why it was run, most telling first; empty where it didn't run.
    pub reasons: Vec<String>,
    /// Seconds it ran; 0 where it did not.
    pub seconds: f64,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    /// Where its artifact lies, for the recorder to copy small results from. Not recorded.
    #[serde(skip)]
    pub artifact: Option<PathBuf>,
}

/// How a stage stands in a run, the run's own state taken into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageState {
    /// It ran and its artifact was committed.
    Ran,
    /// Its artifact was there already.
    Fresh,
    /// It ran and failed.
    Failed,
    /// Something above it failed, or the run was cancelled.
    Skipped,
    /// It is at work.
    Running,
    /// It was at work when the run died.
    Died,
    /// The run didn't come to it, or hasn't yet.
    Waiting,
}

/// A text that the pipeline was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// Its name, as shown to the user: a path.
    pub name: String,
    /// The text.
    pub text: String,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The version of the folder, [`FORMAT`].
    pub format: u32,
    /// Its id, which is the name of its folder.
    pub id: RunId,
    /// How it stands at the moment of reading. What the file says of it is never believed.
    #[serde(skip_deserializing)]
    pub status: Status,
    /// Why the record can't be read, where it can't. Everything but the id is empty then.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline file, as it was named on the command line.
    pub file: String,
    /// The overrides given with `--set`, in order.
    pub overrides: Vec<String>,
    /// The root seed.
    pub seed: u64,
    /// The version of the program.
    pub version: String,
    /// The machine.
    pub machine: Machine,
    /// When the first stage began to run.
    pub started: Timestamp,
    /// When it ended, where it did.
    pub finished: Option<Timestamp>,
    /// How it ended, where it said so.
    pub outcome: Option<RunOutcome>,
    /// Seconds from its start to its end, or to the last thing it wrote down.
    pub seconds: f64,
    /// Its stages in the order of the plan.
    pub stages: Vec<StageFacts>,
    /// Its folder.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Record {
    /// The stage of that name.
    pub fn stage(&self, name: &str) -> Option<&StageFacts> {
        self.stages.iter().find(|stage| stage.stage == name)
    }

    /// How one of its stages stands.
    pub fn state(&self, stage: &StageFacts) -> StageState {
        match (stage.outcome, self.status) {
            (Some(StageOutcome::Ran), _) => StageState::Ran,
            (Some(StageOutcome::Fresh), _) => StageState::Fresh,
            (Some(StageOutcome::Failed), _) => StageState::Failed,
            (Some(StageOutcome::Skipped), _) => StageState::Skipped,
            // A stage tells its key when it starts.
            (None, Status::Running) if stage.key.is_some() => StageState::Running,
            (None, Status::Died) if stage.key.is_some() => StageState::Died,
            (None, _) => StageState::Waiting,
        }
    }

    /// The first error of a stage that failed: the stage and what it said.
    pub fn error(&self) -> Option<(&str, &str)> {
        let failed =
            self.stages.iter().find(|stage| stage.outcome == Some(StageOutcome::Failed))?;
        Some((failed.stage.as_str(), failed.error.as_deref().unwrap_or("it gave no reason")))
    }

    /// Reads the record in `folder`. Never fails: see [`Status::Unreadable`].
    pub(super) fn load(folder: &Path, id: RunId) -> Record {
        let mut read = Record::read(folder);
        let alive = matches!(&read, Ok(record) if record.outcome.is_none()) && is_locked(folder);
        if !alive && matches!(&read, Ok(record) if record.outcome.is_none()) {
            // It may have ended between the two looks.
            read = Record::read(folder);
        }
        let mut record =
            read.unwrap_or_else(|problem| Record { problem: Some(problem), ..Record::default() });
        record.status = match (&record.problem, record.outcome) {
            (Some(_), _) => Status::Unreadable,
            (None, Some(RunOutcome::Ok)) => Status::Ok,
            (None, Some(RunOutcome::Failed)) => Status::Failed,
            (None, Some(RunOutcome::Cancelled)) => Status::Cancelled,
            (None, None) if alive => Status::Running,
            (None, None) => Status::Died,
        };
        record.id = id;
        record.folder = folder.to_path_buf();
        record
    }

    fn read(folder: &Path) -> Result<Record, String> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let path = folder.join(RUN);
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let damaged = |error: serde_json::Error| format!("{} is damaged: {error}", path.display());
        let Head { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if format > FORMAT {
            return Err(format!(
                "it was written by a newer version of pipe (format {format}; this one reads up to {FORMAT}); use that version"
            ));
        }
        serde_json::from_slice(&bytes).map_err(damaged)
    }

    /// Writes the record into its folder.
    pub(super) fn save(&self, folder: &Path) -> Result<(), RunsError> {
        let path = folder.join(RUN);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| RunsError::io("write", &path, error.into()))?;
        text.push(b'\n');
        files::write(&path, &text).map_err(|error| RunsError::io("write", &path, error))
    }
}

/// Whether a process holds the run's lock. A shared try, so that two readers don't take each other for the run.
fn is_locked(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(LOCK)) else { return false };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}
