//! Training: batches, optimizer, learning-rate schedule, early stopping and checkpoints.
//! [`fit`](fn@fit) is the entry point. Depends on networks, samples and metrics; on no pipeline
//! file, stage or image format.
//!
//! The state of a training is small and explicit: parameters, optimizer state, a position and the
//! history. Order, augmentation, dropout and learning rates are functions of (seed, epoch, step),
//! so a training that is interrupted at any step resumes to the same bytes.
//!
//! While the whole backbone is frozen, [`features`] are extracted once per image and cached.

mod balance;
pub(crate) mod batches;
mod checkpoint;
mod describe;
mod early_stopping;
pub(crate) mod features;
mod fit;
mod mix;
mod optimizer;
mod options;
mod schedule;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use checkpoint::{
    Checkpoints, clear as clear_checkpoint, entries as checkpoint_entries, resumes_at,
};
pub(crate) use describe::decisions_from_options;
pub(crate) use fit::{Fitted, Session, fit};
pub(crate) use options::{
    BatchNormMode, ClassWeights, DenseHead, Freeze, HEAD, NoAugmentation, OptimizerKind, Options,
    OriginalHead, Precision, Sampling, ScheduleKind, TrainKeys,
};

use crate::data::DataError;
use crate::metrics::MetricsError;
use crate::nn::NnError;

const OUT_OF_MEMORY_HELP: &str = "lower `batch_size`, or the image size (`size` of the preprocess stage); `gradient_accumulation` keeps the number of images per update";

/// Why a training ended without a model.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    #[error("cancelled")]
    Cancelled,
    /// The options don't fit the data.
    #[error("{message}")]
    Incompatible { message: String, help: String },
    /// The loss, the gradient or a weight became NaN or infinite.
    #[error("{message}")]
    Diverged { message: String, help: String },
    #[error(transparent)]
    Data(DataError),
    #[error(transparent)]
    Network(#[from] NnError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Features could not be written or read.
    #[error("{message}: {source}")]
    Features { message: String, source: std::io::Error },
}

impl TrainingError {
    pub fn help(&self) -> Option<String> {
        let text = match self {
            TrainingError::Incompatible { help, .. } | TrainingError::Diverged { help, .. } => {
                Some(help.as_str())
            }
            TrainingError::Data(error) => error.help(),
            TrainingError::Network(NnError::OutOfMemory) => Some(OUT_OF_MEMORY_HELP),
            TrainingError::Network(NnError::SingleValue { .. }) => Some(
                "increase `batch_size` or the image size; with pretrained `weights`, `batch_norm = \"affine\"` uses their running statistics",
            ),
            TrainingError::Network(error) => return error.help(),
            _ => None,
        };
        text.map(str::to_owned)
    }
}

impl From<DataError> for TrainingError {
    fn from(error: DataError) -> TrainingError {
        match error {
            DataError::Cancelled => TrainingError::Cancelled,
            other => TrainingError::Data(other),
        }
    }
}
