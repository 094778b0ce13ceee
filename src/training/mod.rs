//! Training: epochs over batches, update rules by parameter group, learning rates by step, which epoch to keep and when
//! to stop, checkpoints. Knows networks, samples and numbers; knows no pipeline file, no stage and no image format.
//!
//! [`fit`] is the whole of it. Its state is small and explicit (parameters, the optimizer's moments, a position, what was
//! seen so far), since order, augmentation, dropout and learning rates are functions of (seed, epoch, step): a training
//! that was interrupted at any step goes on to the same bytes. While the whole backbone is frozen, [`features`] runs it once
//! a image, and the loop goes over what it made.

mod balance;
mod buffers;
mod checkpoint;
mod describe;
pub mod features;
mod fit;
mod optimizer;
mod options;
mod schedule;
mod stopping;
#[cfg(test)]
pub(crate) mod testing;

pub use checkpoint::Checkpoints;
pub use describe::foreseen;
pub use fit::{Fitted, Session, fit};
pub use optimizer::Optimizer;
pub use options::{
    BatchNormMode, CheckpointOptions, ClassWeights, DenseHead, EarlyStopping, Freeze, HEAD, Keep,
    Monitor, NoAugmentation, OptimizerConfig, OptimizerKind, Options, OriginalHead, Precision,
    Sampling, Schedule, ScheduleKind, TrainKeys, Unfreeze, UnfreezeAt,
};
pub use schedule::Rates;
pub use stopping::{Verdict, Watch};

use crate::data::DataError;
use crate::metrics::MetricsError;
use crate::nn::NnError;
use std::fmt;

/// Why training ended without a model. Displays as one sentence.
#[derive(Debug)]
pub enum TrainingError {
    /// The user asked to stop.
    Cancelled,
    /// The data and the options don't fit together.
    Unfit {
        /// What doesn't.
        message: String,
        /// What to do.
        help: String,
    },
    /// The loss is no number any more.
    Diverged {
        /// Where, and at which learning rate.
        message: String,
        /// What to try.
        help: String,
    },
    /// Samples could not be read.
    Data(DataError),
    /// The network could not be run.
    Network(NnError),
    /// The network's answers could not be scored.
    Metrics(MetricsError),
    /// Features that were computed could not be written or read.
    Features(String),
    /// The device failed.
    Device(String),
}

impl TrainingError {
    fn device(error: impl fmt::Display) -> TrainingError {
        TrainingError::Device(error.to_string())
    }

    /// What to do about it, where that is known.
    pub fn help(&self) -> Option<&str> {
        match self {
            TrainingError::Unfit { help, .. } | TrainingError::Diverged { help, .. } => Some(help),
            TrainingError::Data(error) => error.help(),
            TrainingError::Network(NnError::SingleValue { .. }) => Some(
                "raise `batch_size` or prepare larger images; where `weights` are given, `batch_norm = \"affine\"` takes the statistics that they came with",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for TrainingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrainingError::Cancelled => f.write_str("cancelled"),
            TrainingError::Unfit { message, .. } | TrainingError::Diverged { message, .. } => {
                f.write_str(message)
            }
            TrainingError::Data(error) => error.fmt(f),
            TrainingError::Network(error) => error.fmt(f),
            TrainingError::Metrics(error) => error.fmt(f),
            TrainingError::Features(sentence) => f.write_str(sentence),
            TrainingError::Device(reason) => write!(f, "the device failed: {reason}"),
        }
    }
}

impl std::error::Error for TrainingError {}

impl From<DataError> for TrainingError {
    fn from(error: DataError) -> TrainingError {
        match error {
            DataError::Cancelled => TrainingError::Cancelled,
            other => TrainingError::Data(other),
        }
    }
}

impl From<NnError> for TrainingError {
    fn from(error: NnError) -> TrainingError {
        TrainingError::Network(error)
    }
}

impl From<MetricsError> for TrainingError {
    fn from(error: MetricsError) -> TrainingError {
        TrainingError::Metrics(error)
    }
}
