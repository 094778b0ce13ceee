//! Conversions of errors of other modules into stage errors.

use crate::data::DataError;
use crate::download::DownloadError;
use crate::engine::StageError;
use crate::metrics::MetricsError;
use crate::model::ModelError;
use crate::nn::NnError;
use crate::training::TrainingError;

impl From<DataError> for StageError {
    fn from(error: DataError) -> StageError {
        if let DataError::Cancelled = error {
            return StageError::Cancelled;
        }
        let (message, help) = (error.to_string(), error.help().map(str::to_owned));
        match (error, help) {
            (DataError::Io { failed, source }, _) => match StageError::from(source) {
                StageError::Failed { message, help } => {
                    StageError::Failed { message: format!("{failed}: {message}"), help }
                }
                cancelled => cancelled,
            },
            (_, help) => StageError::Failed { message, help },
        }
    }
}

impl From<DownloadError> for StageError {
    fn from(error: DownloadError) -> StageError {
        let (message, help) = (error.to_string(), error.help());
        match error {
            DownloadError::Cancelled => StageError::Cancelled,
            DownloadError::Io { source, .. } => match StageError::from(source) {
                StageError::Failed { help, .. } => StageError::Failed { message, help },
                cancelled => cancelled,
            },
            _ => StageError::Failed { message, help: help.map(str::to_owned) },
        }
    }
}

impl From<TrainingError> for StageError {
    fn from(error: TrainingError) -> StageError {
        match error {
            TrainingError::Cancelled => StageError::Cancelled,
            TrainingError::Data(error) => error.into(),
            other => {
                let failed = StageError::failed(other.to_string());
                match other.help() {
                    Some(help) => failed.with_help(help),
                    None => failed,
                }
            }
        }
    }
}

impl From<ModelError> for StageError {
    fn from(error: ModelError) -> StageError {
        match error {
            ModelError::Cancelled => StageError::Cancelled,
            ModelError::Data(error) => error.into(),
            ModelError::Network(error) => error.into(),
            other => StageError::failed(other.to_string()),
        }
    }
}

impl From<MetricsError> for StageError {
    fn from(error: MetricsError) -> StageError {
        StageError::failed(error.to_string())
    }
}

impl From<NnError> for StageError {
    fn from(error: NnError) -> StageError {
        match error {
            NnError::Io { path, source } => match StageError::from(source) {
                StageError::Failed { message, help } => {
                    StageError::Failed { message: format!("{}: {message}", path.display()), help }
                }
                cancelled => cancelled,
            },
            other => StageError::failed(other.to_string()),
        }
    }
}
