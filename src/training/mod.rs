//! Training: epochs over batches, update rules by parameter group, learning rates by step, which epoch to keep and when
//! to stop, checkpoints. Knows networks, samples and numbers; knows no pipeline file, no stage and no picture format.
//!
//! [`fit`] is the whole of it. Its state is small and explicit (parameters, the optimiser's moments, a position, what was
//! seen so far), since order, augmentation, dropout and learning rates are functions of (seed, epoch, step): a training
//! that was interrupted at any step goes on to the same bytes. While the whole backbone is frozen, [`features`] runs it once
//! a picture, and the loop goes over what it made.

mod balance;
mod buffers;
mod checkpoint;
mod describe;
pub mod features;
mod fit;
mod optimiser;
mod options;
mod schedule;
mod stopping;
#[cfg(test)]
pub(crate) mod testing;

pub use checkpoint::Checkpoints;
pub use describe::foreseen;
pub use fit::{Fitted, Session, fit};
pub use optimiser::Optimiser;
pub use options::{
    BatchNormMode, ClassWeights, EarlyStopping, Freeze, HEAD, Keep, Mode, Monitor, Optimizer,
    OptimizerKind, Options, Precision, Sampling, Schedule, ScheduleKind, Unfreeze,
};
pub use schedule::Rates;
pub use stopping::{Verdict, Watch};

use crate::data::DataError;
use crate::metrics::MetricsError;
use crate::nn::NnError;
use std::fmt;

/// Why training ended without a model. Displays as one sentence.
#[derive(Debug)]
pub enum LearnError {
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

impl LearnError {
    fn device(error: impl fmt::Display) -> LearnError {
        LearnError::Device(error.to_string())
    }

    /// What to do about it, where that is known.
    pub fn help(&self) -> Option<&str> {
        match self {
            LearnError::Unfit { help, .. } | LearnError::Diverged { help, .. } => Some(help),
            LearnError::Data(error) => error.help(),
            LearnError::Network(NnError::SingleValue { .. }) => Some(
                "raise `batch_size` or prepare larger pictures; where `weights` are given, `batch_norm = \"affine\"` takes the statistics that they came with",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for LearnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LearnError::Cancelled => f.write_str("cancelled"),
            LearnError::Unfit { message, .. } | LearnError::Diverged { message, .. } => {
                f.write_str(message)
            }
            LearnError::Data(error) => error.fmt(f),
            LearnError::Network(error) => error.fmt(f),
            LearnError::Metrics(error) => error.fmt(f),
            LearnError::Features(sentence) => f.write_str(sentence),
            LearnError::Device(reason) => write!(f, "the device failed: {reason}"),
        }
    }
}

impl std::error::Error for LearnError {}

impl From<DataError> for LearnError {
    fn from(error: DataError) -> LearnError {
        match error {
            DataError::Cancelled => LearnError::Cancelled,
            other => LearnError::Data(other),
        }
    }
}

impl From<NnError> for LearnError {
    fn from(error: NnError) -> LearnError {
        LearnError::Network(error)
    }
}

impl From<MetricsError> for LearnError {
    fn from(error: MetricsError) -> LearnError {
        LearnError::Metrics(error)
    }
}
