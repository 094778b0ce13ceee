//! The one number that a run is about, how sure it is, and what it means; beside it the few others worth a glance.

use super::html;
use super::training::summary;
use crate::common::number::thousands;
use crate::draw::{self, escape, percent};
use crate::metrics::{Evaluation, SplitMetrics};
use crate::runs::{Results, StageFacts};

/// The split that speaks for a model: the test split, else validation, else whichever there is.
pub(super) fn chosen(evaluation: &Evaluation) -> Option<(&str, &SplitMetrics)> {
    let named = |name: &str| evaluation.splits.get_key_value(name);
    let split = named("test")
        .or_else(|| named("validation"))
        .or_else(|| evaluation.splits.first_key_value());
    split.map(|(name, split)| (name.as_str(), split))
}

/// The commonest class of a split and its share: what answering without looking would get.
pub(super) fn commonest(split: &SplitMetrics) -> Option<(&str, f64)> {
    // Of equals the first, as the classes are ordered.
    let class = split.per_class.iter().rev().max_by_key(|class| class.support)?;
    (split.count > 0).then(|| (class.class.as_str(), class.support as f64 / split.count as f64))
}

pub(super) fn headline(results: &Results, stage: &StageFacts, evaluation: &Evaluation) -> String {
    let Some((name, split)) = chosen(evaluation) else { return String::new() };
    let [low, high] = split.accuracy_interval;
    let hits = (split.accuracy * split.count as f64).round().max(0.0) as u64;
    let baseline = commonest(split);
    let ruler = draw::Interval {
        about: format!("Accuracy on the {name} split"),
        value: split.accuracy,
        ends: split.accuracy_interval,
        baseline: baseline.map(|(class, share)| (share, format!("always answering {class}"))),
    };
    let against = baseline.map_or_else(String::new, |(class, share)| {
        format!(" Always answering “{class}” would get {} (the dashed mark).", percent(share))
    });
    let meaning = format!(
        "{} of {} {name} images are classified rightly. On new images of the same kind, expect between {} and {} \
         (95\u{202f}% Wilson interval).{against}",
        thousands(hits),
        thousands(split.count),
        percent(low),
        percent(high),
    );
    format!(
        "<div class=\"headline\"><div><div class=\"big\">{}</div><p>{} accuracy</p></div><div class=\"ruler\">{}<p>{}</p></div></div>{}",
        percent(split.accuracy),
        escape(name),
        ruler.draw(),
        escape(&meaning),
        html::tiles(&tiles(results, stage, evaluation, split)),
    )
}

fn tiles(
    results: &Results,
    stage: &StageFacts,
    evaluation: &Evaluation,
    split: &SplitMetrics,
) -> Vec<(&'static str, String)> {
    let mut tiles = vec![("Macro F1", format!("{:.3}", split.macro_average.f1))];
    if evaluation.classes.len() > 5 {
        tiles.push(("Among the top 5", percent(split.top5)));
    }
    tiles.push(("Cross-entropy", format!("{:.3}", split.loss)));
    if let Some(validation) =
        evaluation.splits.get("validation").filter(|_| evaluation.splits.contains_key("test"))
    {
        tiles.push(("Validation accuracy", percent(validation.accuracy)));
    }
    tiles.push(("Classes", evaluation.classes.len().to_string()));
    if let Some((_, training)) = summary(results, stage) {
        tiles.push(("Epoch kept", format!("{} of {}", training.kept_epoch, training.epochs)));
    }
    tiles
}
