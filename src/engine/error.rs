//! How a stage fails, and how planning or running as a whole does. Messages are made where the facts are; this file only
//! carries them.

use crate::events::CancellationToken;
use crate::store::{StoreError, is_full};
use std::fmt;
use std::io;

/// Said beside a full disk.
const FULL: &str =
    "the disk is full: free some space (`pipe cache gc`), or use another disk with `--cache`";

/// Why a stage made no artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageError {
    /// It can't be done.
    Failed {
        /// What went wrong: which file, which value, what was expected.
        message: String,
        /// What to do about it.
        help: Option<String>,
    },
    /// The user asked to stop.
    Cancelled,
}

impl StageError {
    /// A failure, told in a sentence.
    pub fn failed(message: impl Into<String>) -> StageError {
        StageError::Failed { message: message.into(), help: None }
    }

    /// The same failure, with what to do about it.
    pub fn with_help(mut self, words: impl Into<String>) -> StageError {
        if let StageError::Failed { help, .. } = &mut self {
            *help = Some(words.into());
        }
        self
    }

    /// `Err(Cancelled)` once somebody asked to stop: for long work to call between steps.
    pub fn check(cancel: &CancellationToken) -> Result<(), StageError> {
        if cancel.is_cancelled() { Err(StageError::Cancelled) } else { Ok(()) }
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StageError::Failed { message, help: None } => f.write_str(message),
            StageError::Failed { message, help: Some(help) } => write!(f, "{message}\n{help}"),
            StageError::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for StageError {}

impl From<io::Error> for StageError {
    fn from(error: io::Error) -> StageError {
        StageError::Failed {
            message: error.to_string(),
            help: is_full(&error).then(|| FULL.to_owned()),
        }
    }
}

impl From<StoreError> for StageError {
    fn from(error: StoreError) -> StageError {
        match error {
            StoreError::Stopped => StageError::Cancelled,
            other => StageError::failed(other.to_string()),
        }
    }
}

/// Turns an error of the system or the store into a stage's failure that says what was being done.
pub trait OrFail<T> {
    /// `file.read(…).or_fail("reading labels.csv")?` fails with "reading labels.csv: …".
    fn or_fail(self, doing: impl fmt::Display) -> Result<T, StageError>;
}

impl<T, E: Into<StageError>> OrFail<T> for Result<T, E> {
    fn or_fail(self, doing: impl fmt::Display) -> Result<T, StageError> {
        self.map_err(|error| match error.into() {
            StageError::Failed { message, help } => {
                StageError::Failed { message: format!("{doing}: {message}"), help }
            }
            StageError::Cancelled => StageError::Cancelled,
        })
    }
}

/// Why there is no plan, or no run.
#[derive(Debug)]
pub enum EngineError {
    /// An option names a stage that the pipeline doesn't have.
    UnknownStage {
        /// What was named.
        name: String,
        /// What to do: the nearest name, or all names.
        help: String,
    },
    /// A stage's facts from outside could not be had.
    Stage {
        /// The stage.
        stage: String,
        /// What went wrong.
        error: StageError,
    },
    /// The store refused.
    Store(StoreError),
    /// The user asked to stop.
    Cancelled,
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> EngineError {
        match error {
            StoreError::Stopped => EngineError::Cancelled,
            other => EngineError::Store(other),
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::UnknownStage { name, help } => {
                write!(f, "there is no stage `{name}`; {help}")
            }
            EngineError::Stage { stage, error } => write!(f, "stage `{stage}`: {error}"),
            EngineError::Store(error) => error.fmt(f),
            EngineError::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for EngineError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_being_done_and_what_to_do() {
        let full: Result<(), io::Error> = Err(io::ErrorKind::StorageFull.into());
        let StageError::Failed { message, help } = full.or_fail("writing model").unwrap_err()
        else {
            panic!()
        };
        assert!(message.starts_with("writing model: "), "{message}");
        assert_eq!(help.as_deref(), Some(FULL));
        let failed: Result<(), StageError> =
            Err(StageError::failed("no images").with_help("look at the folder"));
        assert_eq!(
            failed.or_fail("a").unwrap_err().to_string(),
            "a: no images\nlook at the folder"
        );
        assert_eq!(
            Err::<(), _>(StoreError::Stopped).or_fail("x").unwrap_err(),
            StageError::Cancelled
        );
    }
}
