//! A stage ready to run, as a self-contained file; and what comes back from it, a line of JSON at a time. Whoever can see
//! the store can run a job: another process, another machine.

use super::{Device, Fingerprint, StageError};
use crate::config::Values;
use crate::events::Told;
use crate::store::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The format of job files.
pub(super) const FORMAT: u32 = 1;

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The format of this file.
    pub format: u32,
    /// The stage's name, for messages.
    pub stage: String,
    /// Everything that affects what it makes. The kind is named here.
    pub fingerprint: Fingerprint,
    /// The digest of that.
    pub key: Digest,
    /// All its parameters, those that don't affect the output included.
    pub values: Values,
    /// Its inputs by role.
    pub inputs: BTreeMap<String, JobInput>,
    /// How many threads it may keep busy.
    pub threads: usize,
    /// What computes.
    pub device: Device,
    /// Whether it runs even where its artifact is there.
    pub force: bool,
    /// The store's folder.
    pub store: PathBuf,
}

/// An input of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobInput {
    /// The artifact.
    pub digest: Digest,
    /// The folder outside the store that it lists and that is read in place.
    pub folder: Option<PathBuf>,
}

/// The last line of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Ending {
    /// The artifact is in the store.
    Committed {
        /// Its digest.
        digest: Digest,
        /// Whether somebody else made it while this one waited.
        hit: bool,
    },
    /// There is none.
    Failed {
        /// What went wrong.
        message: String,
        /// What to do about it.
        help: Option<String>,
    },
    /// There is none because somebody asked to stop.
    Cancelled,
}

/// A line of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// A fact on the way.
    Told(Told),
    /// The last one.
    Ending(Ending),
}

impl From<StageError> for Ending {
    fn from(error: StageError) -> Ending {
        match error {
            StageError::Failed { message, help } => Ending::Failed { message, help },
            StageError::Cancelled => Ending::Cancelled,
        }
    }
}

impl Line {
    /// One line of text, without a newline.
    pub fn write(&self) -> String {
        let text = match self {
            Line::Told(told) => serde_json::to_string(told),
            Line::Ending(ending) => serde_json::to_string(ending),
        };
        // Neither holds a map with other keys than strings, so this can't fail.
        text.unwrap_or_default()
    }

    /// Reads a line; None where it is none of ours.
    pub fn read(text: &str) -> Option<Line> {
        let told = || serde_json::from_str(text).ok().map(Line::Told);
        told().or_else(|| serde_json::from_str(text).ok().map(Line::Ending))
    }
}

impl Job {
    /// Writes the job as a file.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec(self)?)
    }

    /// Reads a job file.
    ///
    /// # Errors
    /// A sentence that names the file.
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
                "its format is {format}; this `pipe` reads format {FORMAT}"
            )));
        }
        Job::deserialize(json).map_err(|error| failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Level;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let message = Told::Message { level: Level::Info, text: "two\nlines \u{1F457}".into() };
        let failed = Ending::Failed { message: "no".into(), help: None };
        let committed = Ending::Committed { digest: Digest::of(b""), hit: false };
        let endings = [failed, committed, Ending::Cancelled].map(Line::Ending);
        for line in endings.into_iter().chain([Line::Told(message)]) {
            assert!(!line.write().contains('\n'));
            assert_eq!(Line::read(&line.write()), Some(line));
        }
        assert_eq!(Line::read("warning: something"), None);
        assert_eq!(Line::read("{\"event\":\"other\"}"), None);
    }

    #[test]
    fn every_truncation_of_a_job_is_an_error_that_names_it() {
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
                JobInput { digest: Digest::of(b"a"), folder: None },
            )]),
            threads: 2,
            device: Device::Cuda(1),
            force: false,
            store: "/store".into(),
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
        std::fs::write(&path, r#"{"format":2}"#).unwrap();
        assert!(Job::read(&path).unwrap_err().to_string().contains("its format is 2"));
    }
}
