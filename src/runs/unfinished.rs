//! The parts of a run that are known before a stage ends, from its events: the epochs of a training,
//! and the last messages of a stage.

use super::{Results, StageRecord, events};
use crate::events::{Event, StageOutcome};
use crate::metrics::EpochRow;
use std::collections::BTreeMap;

impl<'a> Results<'a> {
    /// The epochs that were completed by trainings without a result: they go on, failed or were
    /// interrupted. None is empty. After a checkpoint, only the epochs of this run are known.
    pub fn unfinished_histories(&self) -> Vec<(&'a StageRecord, Vec<EpochRow>)> {
        let has_result = |stage: &StageRecord| {
            matches!(stage.outcome, Some(StageOutcome::Ran | StageOutcome::Fresh))
        };
        let stages: Vec<&'a StageRecord> =
            self.record().stages.iter().filter(|stage| !has_result(stage)).collect();
        if stages.is_empty() {
            return Vec::new();
        }
        let events = events(self.record()).list;
        let histories = stages.into_iter().map(|stage| (stage, epochs(&events, &stage.stage)));
        histories.filter(|(_, rows)| !rows.is_empty()).collect()
    }

    /// The last `limit` messages of a stage, the oldest first.
    pub fn last_messages(&self, stage: &str, limit: usize) -> Vec<String> {
        let text = |event| match event {
            Event::Message { stage: Some(of), text, .. } if of == stage => Some(text),
            _ => None,
        };
        let mut messages: Vec<String> =
            events(self.record()).list.into_iter().filter_map(text).collect();
        messages.drain(..messages.len().saturating_sub(limit));
        messages
    }
}

/// The epochs of a stage whose training loss is known.
fn epochs(events: &[Event], wanted: &str) -> Vec<EpochRow> {
    let mut epochs: BTreeMap<u64, BTreeMap<&str, f64>> = BTreeMap::new();
    for event in events {
        if let Event::Scalar { stage, name, step, value } = event
            && stage == wanted
        {
            epochs.entry(*step).or_default().insert(name, *value);
        }
    }
    let row = |(epoch, scalars): (u64, BTreeMap<&str, f64>)| {
        let value = |name: &str| scalars.get(name).copied();
        Some(EpochRow {
            epoch,
            learning_rate: value("learning_rate")?,
            train_loss: value("train/loss")?,
            train_accuracy: value("train/accuracy")?,
            validation_loss: value("validation/loss"),
            validation_accuracy: value("validation/accuracy"),
        })
    };
    epochs.into_iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_known_when_all_its_values_are() {
        let scalar = |step, name: &str, value| Event::Scalar {
            stage: "train".to_owned(),
            name: name.to_owned(),
            step,
            value,
        };
        let events = [
            scalar(3, "learning_rate", 0.1),
            scalar(3, "train/loss", 1.5),
            scalar(3, "train/accuracy", 0.5),
            scalar(3, "images_per_second", 100.0),
            scalar(4, "learning_rate", 0.05),
        ];
        let row = EpochRow {
            epoch: 3,
            learning_rate: 0.1,
            train_loss: 1.5,
            train_accuracy: 0.5,
            validation_loss: None,
            validation_accuracy: None,
        };
        assert_eq!(epochs(&events, "train"), [row]);
        assert!(epochs(&events, "other").is_empty());
    }
}
