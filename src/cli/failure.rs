//! Why a command fails: the one place where errors are mapped to exit codes and printed.

use crate::config::Diagnostics;
use crate::engine::{EngineError, StageError};
use crate::model::ModelError;
use crate::runs::RunsError;
use crate::store::StoreError;
use crate::ui;
use std::io;
use std::process::ExitCode;

/// A stage failed, or something outside the program did.
const FAILED: u8 = 1;
/// The command line or the pipeline file is invalid.
pub(super) const INVALID: u8 = 2;
/// The store is damaged or locked.
pub(super) const STORE: u8 = 3;
/// Ctrl-C or SIGTERM.
pub(super) const INTERRUPTED: u8 = 130;

/// Why a command fails.
#[derive(Debug)]
pub(super) enum Failure {
    /// The errors of a pipeline file.
    Diagnostics(Box<Diagnostics>),
    /// Any other error, with its exit code.
    Message { code: u8, message: String, help: Option<String> },
}

impl Failure {
    /// An invalid request: exit code 2.
    pub(super) fn invalid(message: impl Into<String>) -> Failure {
        Failure::Message { code: INVALID, message: message.into(), help: None }
    }

    /// A valid request that failed: exit code 1.
    pub(super) fn failed(message: impl Into<String>) -> Failure {
        Failure::Message { code: FAILED, message: message.into(), help: None }
    }

    /// Adds what to do about it.
    pub(super) fn help(mut self, text: impl Into<String>) -> Failure {
        if let Failure::Message { help, .. } = &mut self {
            *help = Some(text.into());
        }
        self
    }

    /// Makes it an invalid request: known before anything runs.
    pub(super) fn into_invalid(mut self) -> Failure {
        if let Failure::Message { code, .. } = &mut self {
            *code = INVALID;
        }
        self
    }

    /// Says which stage of the pipeline file the error is about.
    pub(super) fn in_stage(mut self, name: &str) -> Failure {
        if let Failure::Message { message, .. } = &mut self {
            *message = format!("stage `{name}`: {message}");
        }
        self
    }

    /// Prints the error and returns its exit code.
    pub(super) fn report(&self) -> ExitCode {
        match self {
            Failure::Diagnostics(diagnostics) => {
                ui::diagnostics(diagnostics);
                ExitCode::from(INVALID)
            }
            Failure::Message { code, message, help } => {
                ui::error(message, help.as_deref());
                ExitCode::from(*code)
            }
        }
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Failure {
        Failure::Diagnostics(Box::new(diagnostics))
    }
}

/// Only printing yields a plain `io::Error`; all other I/O errors are mapped where they occur.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::failed(format!("failed to write to standard output: {error}"))
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Failure {
        let code = if matches!(error, ModelError::Cancelled) { INTERRUPTED } else { FAILED };
        Failure::Message { code, message: error.to_string(), help: error.help() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let code = if error.is_fault_of_store() { STORE } else { FAILED };
        Failure::Message { code, message: error.to_string(), help: None }
    }
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Failure {
        match error {
            StageError::Failed { message, help, .. } => {
                Failure::Message { code: FAILED, message, help }
            }
            StageError::Cancelled => {
                let message = "interrupted".to_owned();
                Failure::Message { code: INTERRUPTED, message, help: None }
            }
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        match error {
            EngineError::UnknownStage { name, help } => {
                Failure::invalid(format!("there is no stage `{name}`")).help(help)
            }
            EngineError::Stage {
                stage,
                is_local,
                error: StageError::Failed { message, help, .. },
            } => {
                let message = format!("stage `{stage}`: {message}");
                Failure::Message { code: if is_local { INVALID } else { FAILED }, message, help }
            }
            EngineError::Store(error) => error.into(),
            EngineError::Cancelled | EngineError::Stage { error: StageError::Cancelled, .. } => {
                let message = "interrupted before any stage ran".to_owned();
                Failure::Message { code: INTERRUPTED, message, help: None }
            }
        }
    }
}

impl From<RunsError> for Failure {
    fn from(error: RunsError) -> Failure {
        let code = match &error {
            RunsError::NoRuns | RunsError::NotFound { .. } | RunsError::Ambiguous { .. } => INVALID,
            RunsError::Unreadable { .. } => STORE,
            RunsError::Io { .. } => FAILED,
        };
        Failure::Message { code, message: error.to_string(), help: None }
    }
}
