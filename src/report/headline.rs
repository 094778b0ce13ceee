//! The accuracy of a run with its confidence interval and baseline, and the few other values worth
//! a glance.

use super::html;
use super::training::summary;
use crate::common::number::thousands;
use crate::draw::{self, percent};
use crate::metrics::{Evaluation, SplitMetrics};
use crate::runs::{Results, StageRecord};
use maud::{Markup, html};

/// The split whose metrics represent a model: test, else validation, else the first.
pub(super) fn primary_split(evaluation: &Evaluation) -> Option<(&str, &SplitMetrics)> {
    let named = |name: &str| evaluation.splits.get_key_value(name);
    let split = named("test")
        .or_else(|| named("validation"))
        .or_else(|| evaluation.splits.first_key_value());
    split.map(|(name, split)| (name.as_str(), split))
}

/// The majority class of a split, the first of equals, and its share: the accuracy of the constant
/// classifier.
fn majority_class(split: &SplitMetrics) -> Option<(&str, f64)> {
    let class = split.per_class.iter().rev().max_by_key(|class| class.support)?;
    (split.count > 0).then(|| (class.class.as_str(), class.support as f64 / split.count as f64))
}

pub(super) fn headline(results: &Results, stage: &StageRecord, evaluation: &Evaluation) -> Markup {
    let Some((name, split)) = primary_split(evaluation) else { return Markup::default() };
    let [low, high] = split.accuracy_interval;
    let correct = (split.accuracy * split.count as f64).round().max(0.0) as u64;
    let baseline = majority_class(split);
    let interval = draw::Interval {
        description: format!("Accuracy on the {name} split"),
        value: split.accuracy,
        ends: split.accuracy_interval,
        baseline: baseline.map(|(class, share)| (share, format!("always predicting {class}"))),
    };
    html! {
        .headline {
            div { .big { (percent(split.accuracy)) } p { (name) " accuracy" } }
            .ruler {
                (interval.render())
                p {
                    (thousands(correct)) " of " (thousands(split.count)) " " (name)
                    " images are classified correctly. On new images of the same kind, expect between "
                    (percent(low)) " and " (percent(high)) " (95\u{202f}% Wilson interval)."
                    @if let Some((class, share)) = baseline {
                        " Always predicting “" (class) "” would score " (percent(share)) " (dashed line)."
                    }
                }
            }
        }
        (html::tiles(&tiles(results, stage, evaluation, split)))
    }
}

fn tiles(
    results: &Results,
    stage: &StageRecord,
    evaluation: &Evaluation,
    split: &SplitMetrics,
) -> Vec<(&'static str, String)> {
    let mut tiles = vec![("Macro F1", format!("{:.3}", split.macro_average.f1))];
    if let Some(top5) = split.top5() {
        tiles.push(("Top-5 accuracy", percent(top5)));
    }
    tiles.push(("Cross-entropy", format!("{:.3}", split.loss)));
    if let Some(validation) =
        evaluation.splits.get("validation").filter(|_| evaluation.splits.contains_key("test"))
    {
        tiles.push(("Validation accuracy", percent(validation.accuracy)));
    }
    tiles.push(("Classes", thousands(evaluation.classes.len() as u64)));
    if let Some((_, training)) = summary(results, stage) {
        tiles.push(("Epoch kept", format!("{} of {}", training.kept_epoch, training.epochs)));
    }
    tiles
}
