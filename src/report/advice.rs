//! Suggestions for the next run, from the metrics alone. Few rules of thumb, each with a high
//! threshold.

use super::evaluation::confused;
use super::headline::primary_split;
use super::training::summary;
use crate::draw::percent;
use crate::metrics::{Evaluation, SplitMetrics};
use crate::runs::{Results, StageRecord, TrainingSummary};
use serde_json::Value;

const MAX_SUGGESTIONS: usize = 3;

/// At most three sentences, the most important first. Text between backticks can be typed.
pub(super) fn advice(results: &Results) -> Vec<String> {
    let evaluations = results.evaluations();
    let Some((stage, evaluation)) = evaluations.first() else { return Vec::new() };
    let Some((name, split)) = primary_split(evaluation) else { return Vec::new() };
    let training = summary(results, stage);
    let of_training = |rule: fn(&StageRecord, &TrainingSummary, &Evaluation) -> Option<String>| {
        training.as_ref().and_then(|(stage, training)| rule(stage, training, evaluation))
    };
    let rules = [
        // A model that still improves isn't reported as overfitting.
        of_training(train_longer).or_else(|| of_training(overfitting)),
        weakest_class(evaluation, split),
        of_training(unfreeze),
        small_split(name, split),
    ];
    rules.into_iter().flatten().take(MAX_SUGGESTIONS).collect()
}

/// The best epoch is the last one, and training didn't stop early.
fn train_longer(stage: &StageRecord, training: &TrainingSummary, _: &Evaluation) -> Option<String> {
    let planned = stage.parameters.get("epochs").and_then(Value::as_u64)?;
    let is_improving =
        training.best_epoch == training.epochs && training.epochs == planned && planned > 1;
    let is_perfect = training.validation_accuracy? >= 0.995;
    (is_improving && !is_perfect).then(|| {
        let setting = format!("--set stages.{}.epochs={}", stage.stage, planned.saturating_mul(2));
        format!("Validation loss was still falling at the last epoch: train longer, `{setting}`.")
    })
}

/// Training accuracy is much higher than validation accuracy, by more than the size of the split
/// explains.
fn overfitting(
    stage: &StageRecord,
    training: &TrainingSummary,
    evaluation: &Evaluation,
) -> Option<String> {
    let gap = training.train_accuracy - training.validation_accuracy?;
    let [_, high] = evaluation.splits.get("validation")?.accuracy_interval;
    let regularization = match stage.parameters.contains_key("augment") {
        true => format!("more augmentation (`stages.{}.augment`)", stage.stage),
        false => "more weight decay".to_owned(),
    };
    (gap > 0.08 && training.train_accuracy > high).then(|| {
        format!(
            "The model overfits: training accuracy is {:.0} points above validation accuracy. Try more images, \
             {regularization} or a smaller network.",
            gap * 100.0
        )
    })
}

/// The recall of one class is far below the accuracy.
fn weakest_class(evaluation: &Evaluation, split: &SplitMetrics) -> Option<String> {
    let supported = split.per_class.iter().filter(|class| class.support >= 5);
    let weakest = supported.min_by(|a, b| a.recall.total_cmp(&b.recall))?;
    if weakest.recall >= 0.75 * split.accuracy {
        return None;
    }
    let pairs = confused(&evaluation.classes, split);
    let confused = pairs.iter().find(|pair| pair.truth == weakest.class)?;
    Some(format!(
        "“{}” has the lowest recall ({} of {}) and is most often predicted as “{}” ({}): look at those images and their \
         labels.",
        weakest.class,
        percent(weakest.recall),
        weakest.support,
        confused.prediction,
        confused.count,
    ))
}

/// The backbone is frozen, and validation accuracy is close to training accuracy.
fn unfreeze(stage: &StageRecord, training: &TrainingSummary, _: &Evaluation) -> Option<String> {
    let is_frozen = stage.parameters.get("freeze").and_then(Value::as_str) == Some("all");
    let validation = training.validation_accuracy?;
    let has_room = validation < 0.97 && training.train_accuracy - validation < 0.05;
    (is_frozen && has_room).then(|| {
        format!(
            "The backbone is frozen and the head doesn't overfit: unfreeze the last layers, `stages.{}.freeze`.",
            stage.stage
        )
    })
}

/// The split is too small to compare models.
fn small_split(name: &str, split: &SplitMetrics) -> Option<String> {
    let [low, high] = split.accuracy_interval;
    (high - low > 0.12).then(|| {
        format!(
            "{} {name} images determine the accuracy only to within ±{:.0} points: a larger {name} split makes \
             comparisons more reliable.",
            split.count,
            (high - low) * 50.0
        )
    })
}
