//! Compares the training histories of two runs.

use super::super::{Results, StageRecord};
use crate::metrics::EpochRow;
use serde::Serialize;

/// One training in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingDiff {
    /// The training stage in the second run.
    pub stage: String,
    pub first: TrainingSummary,
    pub second: TrainingSummary,
}

/// The summary of one training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingSummary {
    /// The number of epochs that were run.
    pub epochs: u64,
    /// The epoch whose weights were kept; `best_epoch` where that wasn't recorded.
    pub kept_epoch: u64,
    /// The first epoch with the lowest validation loss, or training loss without validation.
    pub best_epoch: u64,
    /// Training loss at the kept epoch.
    pub train_loss: f64,
    /// Training accuracy at the kept epoch, 0 to 1.
    pub train_accuracy: f64,
    /// Validation loss at the kept epoch.
    pub validation_loss: Option<f64>,
    /// Validation accuracy at the kept epoch, 0 to 1.
    pub validation_accuracy: Option<f64>,
}

impl TrainingSummary {
    /// The summary of the history of `stage`; `None` if it is empty.
    pub fn of(
        results: &Results,
        stage: &StageRecord,
        rows: &[EpochRow],
    ) -> Option<TrainingSummary> {
        let training = results.training(&stage.stage);
        TrainingSummary::of_rows(
            rows,
            training.and_then(|training| training.get("epoch")?.as_u64()),
        )
    }

    fn of_rows(rows: &[EpochRow], kept_epoch: Option<u64>) -> Option<TrainingSummary> {
        let last = rows.last()?;
        let loss = |row: &EpochRow| row.validation_loss.unwrap_or(row.train_loss);
        let best = rows.iter().min_by(|a, b| loss(a).total_cmp(&loss(b)))?;
        let kept = rows.iter().find(|row| Some(row.epoch) == kept_epoch).unwrap_or(best);
        Some(TrainingSummary {
            epochs: last.epoch,
            kept_epoch: kept.epoch,
            best_epoch: best.epoch,
            train_loss: kept.train_loss,
            train_accuracy: kept.train_accuracy,
            validation_loss: kept.validation_loss,
            validation_accuracy: kept.validation_accuracy,
        })
    }
}

/// The histories of a run with their stages.
pub(super) type Histories<'a> = Vec<(&'a StageRecord, Vec<EpochRow>)>;

pub(super) fn diff<'a>(
    [first, second]: [&Results<'a>; 2],
    [of_first, of_second]: [Histories<'a>; 2],
) -> Vec<TrainingDiff> {
    super::evaluation::pairs(of_first, of_second)
        .into_iter()
        .filter_map(|pair| {
            Some(TrainingDiff {
                stage: pair.stages[1].stage.clone(),
                first: TrainingSummary::of(first, pair.stages[0], &pair.first)?,
                second: TrainingSummary::of(second, pair.stages[1], &pair.second)?,
            })
        })
        .collect()
}
