//! The job file, which describes one stage ready to run, and the JSON lines that a worker sends
//! back. A job file is self-contained: any process or machine with access to the store can execute
//! it.

use super::{Device, Fingerprint, StageError};
use crate::config::Values;
use crate::events::StageEvent;
use crate::store::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The format of job files.
pub(super) const FORMAT: u32 = 1;

/// The most threads that a job may use: more than machines have cores. Each takes memory.
pub const MAX_THREADS: usize = 1024;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The format of this file.
    pub format: u32,
    /// The stage's name, for messages.
    pub stage: String,
    /// Names the kind, too.
    pub fingerprint: Fingerprint,
    /// The key of the fingerprint.
    pub key: Digest,
    /// The stage's values, including those that don't affect the output.
    pub values: Values,
    /// Inputs by role.
    pub inputs: BTreeMap<String, JobInput>,
    /// The thread budget.
    pub threads: usize,
    pub device: Device,
    /// The GPUs that the stage may use, by the names that CUDA has for them; none if it asks for none.
    #[serde(default)]
    pub gpus: Vec<String>,
    /// Whether it runs even if its artifact is in the store.
    pub force: bool,
    /// The store's folder.
    pub store: PathBuf,
    /// Caches elsewhere, whose memos the stage may ask. Credentials are in the worker's environment.
    #[serde(default)]
    pub cache_from: Vec<String>,
}

/// An input of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobInput {
    /// The artifact's digest.
    pub digest: Digest,
    /// The folder outside the store whose files the artifact lists and that is read in place.
    pub folder: Option<PathBuf>,
    /// The file or folder of the artifact that is needed, where it isn't all of it.
    #[serde(default)]
    pub inside: Option<String>,
}

/// How a job ended: the last line of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum JobOutcome {
    Committed {
        /// The artifact's digest.
        digest: Digest,
        /// Whether another process built it meanwhile.
        hit: bool,
        /// The most memory that the worker process used, in bytes.
        #[serde(default)]
        peak_memory: Option<u64>,
    },
    Failed {
        message: String,
        help: Option<String>,
        /// Whether it may pass by itself.
        #[serde(default)]
        is_temporary: bool,
    },
    /// Inputs aren't what their stages committed, so that these have to run again.
    InputsDamaged {
        roles: Vec<String>,
        /// The store's notes on the damage.
        notes: Vec<String>,
    },
    Cancelled,
}

/// A line that a worker writes to stdout.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerMessage {
    Event(StageEvent),
    Outcome(JobOutcome),
}

impl From<StageError> for JobOutcome {
    fn from(error: StageError) -> JobOutcome {
        match error {
            StageError::Failed { message, help, is_temporary, .. } => {
                JobOutcome::Failed { message, help, is_temporary }
            }
            StageError::Cancelled => JobOutcome::Cancelled,
        }
    }
}

impl WorkerMessage {
    /// The line, without a newline.
    pub fn write(&self) -> String {
        let text = match self {
            WorkerMessage::Event(event) => serde_json::to_string(event),
            WorkerMessage::Outcome(outcome) => serde_json::to_string(outcome),
        };
        text.expect("events and outcomes serialize to JSON")
    }

    /// Parses a line. None if a worker didn't write it.
    pub fn read(text: &str) -> Option<WorkerMessage> {
        let event = || serde_json::from_str(text).ok().map(WorkerMessage::Event);
        event().or_else(|| serde_json::from_str(text).ok().map(WorkerMessage::Outcome))
    }
}

impl Job {
    /// Writes the job file.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec(self)?)
    }

    /// Reads a job file.
    ///
    /// # Errors
    /// If the file can't be read, or has another format. The message names the file.
    pub fn read(path: &Path) -> Result<Job, StageError> {
        let failed =
            |why: String| StageError::failed(format!("job file {}: {why}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let json: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        let format = json.get("format").cloned();
        if format != Some(FORMAT.into()) {
            let format = format.map_or("none".to_owned(), |format| format.to_string());
            return Err(failed(format!(
                "format {format} is not supported; this `pipe` reads format {FORMAT}"
            )));
        }
        let job = Job::deserialize(json).map_err(|error| failed(error.to_string()))?;
        match job.threads {
            1..=MAX_THREADS => Ok(job),
            threads => Err(failed(format!("`threads` is {threads}, not from 1 to {MAX_THREADS}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Level;

    #[test]
    fn lines_round_trip() {
        let message =
            StageEvent::Message { level: Level::Info, text: "two\nlines \u{1F457}".into() };
        let failed = JobOutcome::Failed { message: "no".into(), help: None, is_temporary: true };
        let committed =
            JobOutcome::Committed { digest: Digest::of(b""), hit: false, peak_memory: Some(1) };
        let damaged = JobOutcome::InputsDamaged { roles: vec!["a".into()], notes: Vec::new() };
        let outcomes =
            [failed, committed, damaged, JobOutcome::Cancelled].map(WorkerMessage::Outcome);
        for line in outcomes.into_iter().chain([WorkerMessage::Event(message)]) {
            assert!(!line.write().contains('\n'));
            assert_eq!(WorkerMessage::read(&line.write()), Some(line));
        }
        assert_eq!(WorkerMessage::read("warning: something"), None);
        assert_eq!(WorkerMessage::read("{\"event\":\"other\"}"), None);
    }

    #[test]
    fn every_truncated_job_file_is_refused_with_its_name() {
        let fingerprint = Fingerprint {
            format: 1,
            kind: "k".into(),
            version: 1,
            parameters: BTreeMap::new(),
            inputs: BTreeMap::new(),
            facts: BTreeMap::new(),
            seed: None,
            device: None,
        };
        let job = Job {
            format: FORMAT,
            stage: "s".into(),
            key: fingerprint.key(),
            fingerprint,
            values: Values::new(),
            inputs: BTreeMap::from([(
                "a".into(),
                JobInput { digest: Digest::of(b"a"), folder: None, inside: Some("b/c".to_owned()) },
            )]),
            threads: 2,
            device: Device::Cuda(1),
            gpus: vec!["1".into()],
            force: false,
            store: "/store".into(),
            cache_from: vec!["/other".into()],
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.json");
        job.write(&path).unwrap();
        assert_eq!(Job::read(&path).unwrap(), job);
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(Job::read(&path).unwrap_err().to_string().contains("job.json"), "{length}");
        }
        Job { threads: 1_000_000, ..job.clone() }.write(&path).unwrap();
        assert!(Job::read(&path).unwrap_err().to_string().contains("`threads` is 1000000"));
        std::fs::write(&path, r#"{"format":2}"#).unwrap();
        assert!(Job::read(&path).unwrap_err().to_string().contains("format 2"));
    }
}
