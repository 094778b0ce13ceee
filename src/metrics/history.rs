//! `history.csv`: one row per epoch. It contains no times, so a reproduced training writes the same
//! bytes.

use super::{MetricsError, read_rows};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One epoch of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Counted from 1.
    pub epoch: u64,
    /// The head's learning rate, the mean over the steps of the epoch.
    pub learning_rate: f64,
    /// Mean training loss, with label smoothing, class weights and augmentation.
    pub train_loss: f64,
    /// Accuracy on the training images, measured while training, 0 to 1.
    pub train_accuracy: f64,
    /// Mean cross-entropy on the validation split after the epoch; none if that split is empty.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation split after the epoch, 0 to 1; none if that split is empty.
    pub validation_accuracy: Option<f64>,
}

/// Formats `history.csv`.
pub fn write_history(rows: &[EpochRow]) -> std::io::Result<Vec<u8>> {
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    csv.write_record([
        "epoch",
        "learning_rate",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
    ])?;
    for row in rows {
        csv.serialize(row)?;
    }
    csv.into_inner().map_err(|error| error.into_error())
}

/// Reads a `history.csv`.
pub fn read_history(path: &Path) -> Result<Vec<EpochRow>, MetricsError> {
    read_rows(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_history_reads_back() {
        let row = |epoch, validation: Option<f64>| EpochRow {
            epoch,
            learning_rate: 1e-3,
            train_loss: 0.5,
            train_accuracy: 0.75,
            validation_loss: validation,
            validation_accuracy: validation,
        };
        let rows = [row(1, Some(0.625)), row(2, None)];
        let text = write_history(&rows).unwrap();
        assert_eq!(
            String::from_utf8(text.clone()).unwrap(),
            "epoch,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy\n\
             1,0.001,0.5,0.75,0.625,0.625\n2,0.001,0.5,0.75,,\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        std::fs::write(&path, text).unwrap();
        assert_eq!(read_history(&path).unwrap(), rows);
    }
}
