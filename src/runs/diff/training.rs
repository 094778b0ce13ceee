//! How two trainings went, as a line each.

use super::super::{Results, StageFacts};
use crate::metrics::EpochRow;
use serde::Serialize;

/// Two trainings held against each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingDiff {
    /// The stage.
    pub stage: String,
    /// The first.
    pub first: TrainingSide,
    /// The second.
    pub second: TrainingSide,
}

/// How one training went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingSide {
    /// Epochs that were run.
    pub epochs: u64,
    /// The epoch whose weights were kept; the best one where that isn't on record.
    pub kept_epoch: u64,
    /// The epoch with the lowest validation loss, the first of equals; of training loss where nothing was validated.
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

impl TrainingSide {
    /// Sums up the history of `stage`; `None` for an empty one.
    pub fn of(results: &Results, stage: &StageFacts, rows: &[EpochRow]) -> Option<TrainingSide> {
        let training = results.training(&stage.stage);
        TrainingSide::kept(rows, training.and_then(|training| training.get("epoch")?.as_u64()))
    }

    fn kept(rows: &[EpochRow], epoch: Option<u64>) -> Option<TrainingSide> {
        let last = rows.last()?;
        let loss = |row: &EpochRow| row.validation_loss.unwrap_or(row.train_loss);
        let best = rows.iter().min_by(|a, b| loss(a).total_cmp(&loss(b)))?;
        let kept = rows.iter().find(|row| Some(row.epoch) == epoch).unwrap_or(best);
        Some(TrainingSide {
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

pub(super) fn diff(first: &Results, second: &Results) -> Vec<TrainingDiff> {
    super::evaluation::pairs(first.histories(), second.histories())
        .into_iter()
        .filter_map(|pair| {
            Some(TrainingDiff {
                stage: pair.stages[1].stage.clone(),
                first: TrainingSide::of(first, pair.stages[0], &pair.first)?,
                second: TrainingSide::of(second, pair.stages[1], &pair.second)?,
            })
        })
        .collect()
}
