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
        let failure = with_help(StageError::failed(error.to_string()), error.help());
        match error {
            DataError::Io { failed, source } => {
                StageError::from(source).map_message(|message| format!("{failed}: {message}"))
            }
            _ => failure,
        }
    }
}

fn with_help(error: StageError, help: Option<&str>) -> StageError {
    match help {
        Some(help) => error.with_help(help),
        None => error,
    }
}

impl From<DownloadError> for StageError {
    fn from(error: DownloadError) -> StageError {
        let failure = with_help(StageError::failed(error.to_string()), error.help());
        let failure = failure.temporary_if(error.is_temporary());
        match error {
            DownloadError::Cancelled => StageError::Cancelled,
            DownloadError::Io { source, .. } => {
                let text = failure.to_string();
                StageError::from(source).map_message(|_| text)
            }
            _ => failure,
        }
    }
}

impl From<TrainingError> for StageError {
    fn from(error: TrainingError) -> StageError {
        match error {
            TrainingError::Cancelled => StageError::Cancelled,
            TrainingError::Data(error) => error.into(),
            other => with_help(StageError::failed(other.to_string()), other.help().as_deref()),
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
            NnError::Io { path, source } => StageError::from(source)
                .map_message(|message| format!("{}: {message}", path.display())),
            other => match other.help() {
                Some(help) => StageError::failed(other.to_string()).with_help(help),
                None => StageError::failed(other.to_string()),
            },
        }
    }
}
