//! The errors of a stage, and those of planning and running. Messages are made where the facts are;
//! this module only carries them.

use crate::events::CancellationToken;
use crate::store::{StoreError, is_full};
use std::fmt;
use std::io;

const DISK_FULL_HELP: &str =
    "the disk is full: free some space (`pipe cache gc`), or use another disk with `--cache`";

const FILE_SIZE_HELP: &str = "raise the limit on the size of files (`ulimit -f`)";

/// Why a stage has no artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    #[error("{message}{}", .help.as_ref().map_or(String::new(), |help| format!("\n{help}")))]
    Failed {
        /// The failure and its location: file, key, value, expected value.
        message: String,
        /// The remedy.
        help: Option<String>,
        /// Whether it may pass by itself, so that trying again can help: what is wrong is neither in
        /// the files nor in the keys.
        is_temporary: bool,
        /// Whether it says how inputs came to be damaged, so that making them again wouldn't help.
        explains_damage: bool,
    },
    #[error("cancelled")]
    Cancelled,
}

impl StageError {
    /// A failure without help.
    pub fn failed(message: impl Into<String>) -> StageError {
        StageError::Failed {
            message: message.into(),
            help: None,
            is_temporary: false,
            explains_damage: false,
        }
    }

    /// Makes a failure one that may pass by itself, if it is.
    pub fn temporary_if(mut self, may_pass: bool) -> StageError {
        if let StageError::Failed { is_temporary, .. } = &mut self {
            *is_temporary = may_pass;
        }
        self
    }

    /// Makes a failure one that says how inputs came to be damaged.
    pub fn explaining_damage(mut self) -> StageError {
        if let StageError::Failed { explains_damage, .. } = &mut self {
            *explains_damage = true;
        }
        self
    }

    /// The same failure with another message.
    pub fn map_message(mut self, change: impl FnOnce(&str) -> String) -> StageError {
        if let StageError::Failed { message, .. } = &mut self {
            *message = change(message);
        }
        self
    }

    /// Sets the help of a failure.
    pub fn with_help(mut self, text: impl Into<String>) -> StageError {
        if let StageError::Failed { help, .. } = &mut self {
            *help = Some(text.into());
        }
        self
    }

    /// Whether it says how inputs came to be damaged.
    pub(super) fn explains_damage(&self) -> bool {
        matches!(self, StageError::Failed { explains_damage: true, .. })
    }

    /// Whether it failed because the disk is full.
    pub fn is_disk_full(&self) -> bool {
        let StageError::Failed { help, .. } = self else { return false };
        help.as_deref() == Some(DISK_FULL_HELP)
    }

    /// `Err(Cancelled)` if cancellation was requested. Long-running work calls this between steps.
    pub fn check(cancel: &CancellationToken) -> Result<(), StageError> {
        if cancel.is_cancelled() { Err(StageError::Cancelled) } else { Ok(()) }
    }
}

impl From<io::Error> for StageError {
    fn from(error: io::Error) -> StageError {
        let failed = StageError::failed(error.to_string());
        match help(&error) {
            Some(help) => failed.with_help(help),
            None => failed,
        }
    }
}

fn help(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        _ if is_full(error) => Some(DISK_FULL_HELP),
        io::ErrorKind::FileTooLarge => Some(FILE_SIZE_HELP),
        _ => None,
    }
}

impl From<StoreError> for StageError {
    fn from(error: StoreError) -> StageError {
        match error {
            StoreError::Cancelled => StageError::Cancelled,
            StoreError::Io { doing, path, error } if is_full(&error) => {
                StageError::failed(format!("{doing} {}: {error}", path.display()))
                    .with_help(DISK_FULL_HELP)
            }
            other => StageError::failed(other.to_string()),
        }
    }
}

/// Converts an I/O or store error to a stage's failure and says what was being done.
pub trait OrFail<T> {
    /// `file.read(…).or_fail("reading labels.csv")?` fails with "reading labels.csv: …".
    fn or_fail(self, doing: impl fmt::Display) -> Result<T, StageError>;
}

impl<T, E: Into<StageError>> OrFail<T> for Result<T, E> {
    fn or_fail(self, doing: impl fmt::Display) -> Result<T, StageError> {
        self.map_err(|error| error.into().map_message(|message| format!("{doing}: {message}")))
    }
}

/// Why planning or running failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An option names a stage that the pipeline doesn't have.
    #[error("there is no stage `{name}`; {help}")]
    UnknownStage {
        name: String,
        /// The nearest name, or all names.
        help: String,
    },
    /// The sources of a stage can't be pinned.
    #[error("stage `{stage}`: {error}")]
    Stage {
        stage: String,
        /// Whether nothing outside this machine is involved: what was asked for is wrong.
        is_local: bool,
        #[source]
        error: StageError,
    },
    #[error(transparent)]
    Store(StoreError),
    #[error("cancelled")]
    Cancelled,
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> EngineError {
        match error {
            StoreError::Cancelled => EngineError::Cancelled,
            other => EngineError::Store(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_being_done_and_what_to_do() {
        let full: Result<(), io::Error> = Err(io::ErrorKind::StorageFull.into());
        let StageError::Failed { message, help, .. } = full.or_fail("writing model").unwrap_err()
        else {
            panic!()
        };
        assert!(message.starts_with("writing model: "), "{message}");
        assert_eq!(help.as_deref(), Some(DISK_FULL_HELP));
        let failed: Result<(), StageError> =
            Err(StageError::failed("no images").with_help("look at the folder"));
        assert_eq!(
            failed.or_fail("a").unwrap_err().to_string(),
            "a: no images\nlook at the folder"
        );
        assert_eq!(
            Err::<(), _>(StoreError::Cancelled).or_fail("x").unwrap_err(),
            StageError::Cancelled
        );
    }
}
