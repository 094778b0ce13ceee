//! Compares the metrics of two runs, with the statistical significance of the difference.

use super::super::{Results, StageRecord};
use crate::metrics::{self, ClassMetrics, Evaluation, Prediction, SplitMetrics};
use serde::Serialize;
use std::cmp::Ordering;

/// One split's metrics in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitDiff {
    /// The evaluating stage in the second run.
    pub stage: String,
    /// "test", "validation".
    pub split: String,
    pub first: SplitSummary,
    pub second: SplitSummary,
    /// Second accuracy - first accuracy.
    pub accuracy_difference: f64,
    /// The 95 % interval of that difference for two independent samples (Newcombe, 1998, method 10,
    /// from the two Wilson intervals). Conservative where the images are the same:
    /// [`SplitDiff::paired`] has more power.
    pub accuracy_difference_interval: [f64; 2],
    /// `None` without predictions, or without common images.
    pub paired: Option<PairedTest>,
    /// The classes of either run, those whose F1 changed most first.
    pub classes: Vec<ClassDiff>,
}

/// One run's metrics of a split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitSummary {
    /// The number of images.
    pub count: u64,
    /// 0 to 1.
    pub accuracy: f64,
    /// Its 95 % Wilson interval.
    pub accuracy_interval: [f64; 2],
    /// Top-5 accuracy, 0 to 1.
    pub top5: f64,
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Mean F1 over classes.
    pub macro_f1: f64,
}

/// McNemar's test on the images that both runs have predictions for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairedTest {
    /// Images with the same path and label in both.
    pub common: u64,
    /// Of those, the images that only the first run classified correctly.
    pub only_first: u64,
    /// Of those, the images that only the second run classified correctly.
    pub only_second: u64,
    /// The probability of disagreements at least as uneven if both models were equally good (exact
    /// test).
    pub p_value: f64,
    /// Whether neither run was evaluated on other images.
    pub same_images: bool,
}

impl PairedTest {
    /// Whether the difference in accuracy is statistically significant: p < 0.05.
    pub fn is_significant(&self) -> bool {
        self.p_value < 0.05
    }
}

/// One class in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassDiff {
    pub class: String,
    /// `None` where the run doesn't have the class.
    pub first: Option<ClassScores>,
    pub second: Option<ClassScores>,
    /// Second F1 - first F1.
    pub f1_difference: Option<f64>,
    /// Second recall - first recall.
    pub recall_difference: Option<f64>,
}

/// One run's metrics of a class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassScores {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// The number of images of the class.
    pub support: u64,
}

pub(super) fn diff(first: &Results, second: &Results) -> Vec<SplitDiff> {
    pairs(first.evaluations(), second.evaluations())
        .into_iter()
        .flat_map(|pair| {
            let [a, b] = pair.stages;
            let predictions = first.predictions(&a.stage).zip(second.predictions(&b.stage));
            let predictions = predictions.as_ref().map(|(a, b)| (a.as_slice(), b.as_slice()));
            splits(&b.stage, &pair.first, &pair.second, predictions)
        })
        .collect()
}

/// The results of corresponding stages of both runs.
pub(super) struct Pair<'a, T> {
    /// The stages of the results.
    pub(super) stages: [&'a StageRecord; 2],
    pub(super) first: T,
    pub(super) second: T,
}

/// Pairs the results of stages with the same name, or the only results of both runs.
pub(super) fn pairs<'a, T>(
    first: Vec<(&'a StageRecord, T)>,
    second: Vec<(&'a StageRecord, T)>,
) -> Vec<Pair<'a, T>> {
    let only = first.len() == 1 && second.len() == 1;
    let mut left: Vec<Option<(&StageRecord, T)>> = first.into_iter().map(Some).collect();
    let mut pairs = Vec::new();
    for (stage, second) in second {
        let same = |(other, _): &(&StageRecord, T)| only || other.stage == stage.stage;
        let found =
            left.iter_mut().find(|known| known.as_ref().is_some_and(same)).and_then(Option::take);
        if let Some((other, first)) = found {
            pairs.push(Pair { stages: [other, stage], first, second });
        }
    }
    pairs
}

fn splits(
    stage: &str,
    a: &Evaluation,
    b: &Evaluation,
    predictions: Option<(&[Prediction], &[Prediction])>,
) -> Vec<SplitDiff> {
    let both =
        a.splits.iter().filter_map(|(split, first)| Some((split, first, b.splits.get(split)?)));
    let mut splits: Vec<SplitDiff> = both
        .map(|(split, first, second)| split_diff(stage, split, first, second, predictions))
        .collect();
    splits.sort_by_key(|diff| diff.split != "test");
    splits
}

fn split_diff(
    stage: &str,
    split: &str,
    first: &SplitMetrics,
    second: &SplitMetrics,
    predictions: Option<(&[Prediction], &[Prediction])>,
) -> SplitDiff {
    let paired =
        predictions.map(|(a, b)| metrics::paired(a, b, split)).filter(|paired| paired.common > 0);
    SplitDiff {
        stage: stage.to_owned(),
        split: split.to_owned(),
        accuracy_difference: second.accuracy - first.accuracy,
        accuracy_difference_interval: difference_interval(first, second),
        paired: paired.map(|paired| PairedTest {
            common: paired.common,
            only_first: paired.only_first,
            only_second: paired.only_second,
            p_value: paired.p_value,
            same_images: paired.common == first.count && paired.common == second.count,
        }),
        classes: classes(&first.per_class, &second.per_class),
        first: SplitSummary::of(first),
        second: SplitSummary::of(second),
    }
}

impl SplitSummary {
    fn of(split: &SplitMetrics) -> SplitSummary {
        SplitSummary {
            count: split.count,
            accuracy: split.accuracy,
            accuracy_interval: split.accuracy_interval,
            top5: split.top5,
            loss: split.loss,
            macro_f1: split.macro_average.f1,
        }
    }
}

/// Newcombe's hybrid score interval of `second - first` (Statistics in Medicine 17, 1998, method
/// 10).
fn difference_interval(first: &SplitMetrics, second: &SplitMetrics) -> [f64; 2] {
    let (p1, [low1, high1]) = (first.accuracy, first.accuracy_interval);
    let (p2, [low2, high2]) = (second.accuracy, second.accuracy_interval);
    let difference = p2 - p1;
    [difference - (p2 - low2).hypot(high1 - p1), difference + (high2 - p2).hypot(p1 - low1)]
}

fn classes(first: &[ClassMetrics], second: &[ClassMetrics]) -> Vec<ClassDiff> {
    let find = |side: &[ClassMetrics], name: &str| {
        side.iter().find(|row| row.class == name).map(ClassScores::of)
    };
    let added = second.iter().filter(|row| first.iter().all(|known| known.class != row.class));
    let mut classes: Vec<ClassDiff> = first
        .iter()
        .chain(added)
        .map(|row| class_diff(&row.class, find(first, &row.class), find(second, &row.class)))
        .collect();
    let weight = |class: &ClassDiff| class.f1_difference.map_or(f64::INFINITY, f64::abs);
    classes.sort_by(|a, b| weight(b).partial_cmp(&weight(a)).unwrap_or(Ordering::Equal));
    classes
}

fn class_diff(class: &str, first: Option<ClassScores>, second: Option<ClassScores>) -> ClassDiff {
    let both = first.zip(second);
    ClassDiff {
        class: class.to_owned(),
        first,
        second,
        f1_difference: both.map(|(a, b)| b.f1 - a.f1),
        recall_difference: both.map(|(a, b)| b.recall - a.recall),
    }
}

impl ClassScores {
    fn of(row: &ClassMetrics) -> ClassScores {
        ClassScores {
            precision: row.precision,
            recall: row.recall,
            f1: row.f1,
            support: row.support,
        }
    }
}
