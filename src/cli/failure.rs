//! Why a command ends without having done what was asked, and the exit code that says so. The one place where that is
//! decided and printed.

use crate::config::Diagnostics;
use crate::engine::{EngineError, StageError};
use crate::model::ModelError;
use crate::runs::RunsError;
use crate::store::StoreError;
use crate::ui;
use std::io;
use std::process::ExitCode;

/// A stage failed, or something outside did.
const FAILED: u8 = 1;
/// The request was wrong: its usage, or the pipeline file.
const WRONG: u8 = 2;
/// The store is damaged or locked.
pub(super) const STORE: u8 = 3;
/// The user asked to stop.
pub(super) const INTERRUPTED: u8 = 130;

/// Why a command ends early.
#[derive(Debug)]
pub(super) enum Failure {
    /// Mistakes in a pipeline file.
    Diagnostics(Box<Diagnostics>),
    /// Anything else, with its exit code.
    Said { code: u8, message: String, help: Option<String> },
}

impl Failure {
    /// The request can't be met as it stands.
    pub(super) fn wrong(message: impl Into<String>) -> Failure {
        Failure::Said { code: WRONG, message: message.into(), help: None }
    }

    /// The request was fine, and yet it couldn't be done.
    pub(super) fn failed(message: impl Into<String>) -> Failure {
        Failure::Said { code: FAILED, message: message.into(), help: None }
    }

    /// The same, with something to do about it.
    pub(super) fn help(mut self, text: impl Into<String>) -> Failure {
        if let Failure::Said { help, .. } = &mut self {
            *help = Some(text.into());
        }
        self
    }

    /// Prints it; returns its exit code.
    pub(super) fn tell(&self) -> ExitCode {
        match self {
            Failure::Diagnostics(diagnostics) => {
                ui::diagnostics(diagnostics);
                ExitCode::from(WRONG)
            }
            Failure::Said { code, message, help } => {
                ui::error(message, help.as_deref());
                ExitCode::from(*code)
            }
        }
    }
}

/// Prints what clap has to say: help and version are no failures.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done where even this can't be printed.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { WRONG } else { 0 })
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Failure {
        Failure::Diagnostics(Box::new(diagnostics))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::failed(format!("can't write the output: {error}"))
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Failure {
        Failure::failed(error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let code = if error.is_fault_of_store() { STORE } else { FAILED };
        Failure::Said { code, message: error.to_string(), help: None }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        match error {
            EngineError::UnknownStage { name, help } => {
                Failure::wrong(format!("there is no stage `{name}`")).help(help)
            }
            EngineError::Stage { stage, error: StageError::Failed { message, help } } => {
                Failure::Said { code: FAILED, message: format!("stage `{stage}`: {message}"), help }
            }
            EngineError::Store(error) => error.into(),
            EngineError::Cancelled | EngineError::Stage { error: StageError::Cancelled, .. } => {
                Failure::Said {
                    code: INTERRUPTED,
                    message: "interrupted before anything ran".to_owned(),
                    help: None,
                }
            }
        }
    }
}

impl From<RunsError> for Failure {
    fn from(error: RunsError) -> Failure {
        let code = match &error {
            RunsError::NoRuns | RunsError::NotFound { .. } | RunsError::Ambiguous { .. } => WRONG,
            RunsError::Unreadable { .. } => STORE,
            RunsError::Io { .. } => FAILED,
        };
        Failure::Said { code, message: error.to_string(), help: None }
    }
}
