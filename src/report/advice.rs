//! What a practitioner would try next, from the numbers alone. Rules of thumb: few, and silent when in doubt.

use super::evaluation::confused;
use super::headline::chosen;
use super::training::summary;
use crate::metrics::{Evaluation, SplitMetrics};
use crate::runs::{Results, StageFacts, TrainingSide};
use serde_json::Value;

/// More than this isn't read.
const MOST: usize = 3;

/// At most three sentences, most telling first. What stands between backticks can be typed.
pub fn advice(results: &Results) -> Vec<String> {
    let evaluations = results.evaluations();
    let Some((stage, evaluation)) = evaluations.first() else { return Vec::new() };
    let Some((name, split)) = chosen(evaluation) else { return Vec::new() };
    let training = summary(results, stage);
    let of_training = |rule: fn(&StageFacts, &TrainingSide, &Evaluation) -> Option<String>| {
        training.as_ref().and_then(|(stage, training)| rule(stage, training, evaluation))
    };
    let rules = [
        // One that still gains isn't told that it learned too much.
        of_training(longer).or_else(|| of_training(overfitting)),
        weakest(evaluation, split),
        of_training(unfreeze),
        wide(name, split),
    ];
    rules.into_iter().flatten().take(MOST).collect()
}

/// The best epoch is the last: it had not stopped learning.
fn longer(stage: &StageFacts, training: &TrainingSide, _: &Evaluation) -> Option<String> {
    let planned = stage.parameters.get("epochs").and_then(Value::as_u64)?;
    let unfinished =
        training.best_epoch == training.epochs && training.epochs == planned && planned > 1;
    // A model that is always right in validation has nothing left to learn there.
    let perfect = training.validation_accuracy? >= 0.995;
    (unfinished && !perfect).then(|| {
        let setting = format!("--set stages.{}.epochs={}", stage.stage, planned.saturating_mul(2));
        format!("Validation loss was still falling at the last epoch: train longer, `{setting}`.")
    })
}

/// Much better on what it was trained on, and by more than so few validation images explain.
fn overfitting(
    stage: &StageFacts,
    training: &TrainingSide,
    evaluation: &Evaluation,
) -> Option<String> {
    let gap = training.train_accuracy - training.validation_accuracy?;
    let [_, high] = evaluation.splits.get("validation")?.accuracy_interval;
    let augment = match stage.parameters.contains_key("augment") {
        true => format!("more augmentation (`stages.{}.augment`)", stage.stage),
        false => "more weight decay".to_owned(),
    };
    (gap > 0.08 && training.train_accuracy > high).then(|| {
        format!(
            "It is {:.0} points better on what it was trained on than on validation: more images, {augment} or a smaller \
             network.",
            gap * 100.0
        )
    })
}

/// One class is far behind the others.
fn weakest(evaluation: &Evaluation, split: &SplitMetrics) -> Option<String> {
    let seen = split.per_class.iter().filter(|class| class.support >= 5);
    let weakest = seen.min_by(|a, b| a.recall.total_cmp(&b.recall))?;
    if weakest.recall >= 0.75 * split.accuracy {
        return None;
    }
    let pairs = confused(&evaluation.classes, split);
    let taken = pairs.iter().find(|pair| pair.truth == weakest.class)?;
    Some(format!(
        "“{}” is found least often ({:.0}\u{202f}% of {}), mostly taken for “{}” ({}): look at those images and their labels.",
        weakest.class,
        weakest.recall * 100.0,
        weakest.support,
        taken.guess,
        taken.count,
    ))
}

/// A frozen backbone that does as well on validation as in training has room to learn.
fn unfreeze(stage: &StageFacts, training: &TrainingSide, _: &Evaluation) -> Option<String> {
    let frozen = stage.parameters.get("freeze").and_then(Value::as_str) == Some("all");
    let validation = training.validation_accuracy?;
    let room = validation < 0.97 && training.train_accuracy - validation < 0.05;
    (frozen && room).then(|| {
        format!(
            "The backbone is wholly frozen and the head doesn't overfit: let its last part learn too, `stages.{}.freeze`.",
            stage.stage
        )
    })
}

/// So few images that two models can hardly be told apart.
fn wide(name: &str, split: &SplitMetrics) -> Option<String> {
    let [low, high] = split.accuracy_interval;
    (high - low > 0.12).then(|| {
        format!(
            "{} {name} images tell the accuracy to within {:.0} points only: with a larger {name} split, comparisons \
             mean more.",
            split.count,
            (high - low) * 50.0
        )
    })
}
