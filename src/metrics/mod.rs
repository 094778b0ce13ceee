//! How good a classifier is: formulas over (true class, probabilities) pairs, and the files that carry what they say
//! (`metrics.json`, `predictions.csv`, `history.csv`), read by whoever draws or compares them. A leaf: knows no
//! network, no image and no stage. Formulas equal scikit-learn's with `zero_division=0`; the tests hold them to
//! numbers that scikit-learn made.

mod evaluation;
mod history;
mod paired;
mod predictions;
mod score;

pub use evaluation::{Average, ClassMetrics, Evaluation, SplitMetrics};
pub use history::{EpochRow, read_history, write_history};
pub use paired::{Paired, mcnemar, paired};
pub use predictions::{Prediction, PredictionWriter, read_predictions};
pub use score::{Scorer, argmax, softmax, top_k, wilson};

use std::fmt;

/// Why a number could not be computed or a file of metrics could not be read. Displays as one sentence.
#[derive(Debug)]
pub enum MetricsError {
    /// A probability that is NaN, infinite or negative.
    NotAProbability {
        /// The class (its index) whose probability it is.
        class: usize,
        /// The value.
        value: f32,
    },
    /// Another number of probabilities than of classes.
    WrongWidth {
        /// Probabilities given.
        found: usize,
        /// Classes known.
        expected: usize,
    },
    /// A true class that is none of the known ones.
    UnknownClass {
        /// Its index.
        class: u32,
        /// Classes known.
        classes: usize,
    },
    /// A file that can't be read or isn't of the form it should have.
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for MetricsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricsError::NotAProbability { class, value } => {
                write!(
                    f,
                    "the probability of class {class} is {value}, which is none: the model's weights are damaged"
                )
            }
            MetricsError::WrongWidth { found, expected } => {
                write!(f, "{found} probabilities for {expected} classes")
            }
            MetricsError::UnknownClass { class, classes } => {
                write!(
                    f,
                    "a sample is of class {class}, but there are {classes} classes, counted from 0"
                )
            }
            MetricsError::File { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for MetricsError {}
