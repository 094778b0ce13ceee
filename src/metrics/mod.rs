//! Classification metrics and the files that carry them (`metrics.json`, `curves.json`,
//! `predictions.csv`, `history.csv`). Formulas equal scikit-learn's with `zero_division=0`; tests
//! compare them with numbers from scikit-learn and statsmodels. Depends on no network, image or stage.

mod calibration;
mod curves;
mod evaluation;
mod f1;
#[cfg(test)]
mod golden;
mod history;
mod paired;
mod predictions;
mod score;
mod scoring;

pub use calibration::{Calibration, CalibrationBin};
pub use curves::{Areas, Curve, CurveOf, CurveScorer, Curves};
pub use evaluation::{Average, ClassMetrics, Evaluation, SplitMetrics};
pub use f1::f1_interval;
pub use history::{EpochRow, read_history, write_history};
pub use paired::{Paired, mcnemar, paired};
pub use predictions::{Prediction, PredictionWriter, read_predictions};
pub use score::{Scorer, argmax, softmax, top_k, wilson};
pub use scoring::{Scoring, ScoringError};

use std::path::{Path, PathBuf};

/// The k of top-k accuracy ([`SplitMetrics::top5`]).
const TOP: usize = 5;

/// An error in computing metrics or in reading a file of them.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A probability that is NaN, infinite or negative.
    #[error(
        "the probability of class {class} is {value}: the model's weights are damaged or overflow"
    )]
    NotAProbability { class: usize, value: f32 },
    /// A row of probabilities that doesn't match the number of classes.
    #[error("{found} probabilities for {expected} classes")]
    WrongWidth { found: usize, expected: usize },
    /// A label that is not below the number of classes.
    #[error("the label is {class}, but labels of {classes} classes are 0 to {}", classes.saturating_sub(1))]
    UnknownClass { class: u32, classes: usize },
    /// A file that can't be read or parsed.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
}

impl MetricsError {
    fn file(
        path: &Path,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> MetricsError {
        MetricsError::File { path: path.to_owned(), source: source.into() }
    }
}

/// The rows of a CSV file.
fn read_rows<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, MetricsError> {
    let rows = || csv::Reader::from_path(path)?.deserialize().collect::<Result<_, csv::Error>>();
    rows().map_err(|error| MetricsError::file(path, error))
}
