//! Compares the metrics of two runs, with the statistical significance of the difference.

use super::super::{Results, StageRecord};
use super::confusions::ConfusionDiff;
use super::images::{self, ChangedImages, ClassTest};
use super::verdict::Verdict;
use crate::metrics::{self, ClassMetrics, Evaluation, Prediction, SplitMetrics};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// One split's metrics in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitDiff {
    /// The evaluating stage in the second run.
    pub stage: String,
    /// The same in each run.
    #[serde(skip)]
    pub(super) stages: [String; 2],
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
    /// `None` without the predictions of both runs.
    pub paired: Option<PairedTest>,
    pub verdict: Verdict,
    /// The images whose prediction became right or wrong, where the runs can be compared.
    pub images: ChangedImages,
    /// The pairs of classes that one run confuses more often, on the same images; those that differ
    /// most first.
    pub confusions: Vec<ConfusionDiff>,
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
    /// Top-5 accuracy, 0 to 1; `None` where it is 1 for lack of classes.
    pub top5: Option<f64>,
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Mean F1 over classes.
    pub macro_f1: f64,
    /// Mean area under the ROC curves, mean average precision and expected calibration error, where
    /// they are known: on the test split.
    pub roc_auc: Option<f64>,
    pub average_precision: Option<f64>,
    pub calibration_error: Option<f64>,
}

/// McNemar's test on the images that both runs have predictions for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairedTest {
    /// Images with the same path, label and, where it is known, content in both.
    pub common: u64,
    /// Of those, the images that both runs classified correctly.
    pub both: u64,
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

    /// The accuracy of each run on the common images; 0 without any.
    pub fn accuracies(&self) -> [f64; 2] {
        let share = |only: u64| (self.both + only) as f64 / self.common.max(1) as f64;
        [share(self.only_first), share(self.only_second)]
    }
}

/// One class in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassDiff {
    pub class: String,
    /// `None` where the run doesn't have the class.
    pub first: Option<ClassScores>,
    pub second: Option<ClassScores>,
    /// Second F1 - first F1; `None` where a run has no images of the class.
    pub f1_difference: Option<f64>,
    /// Second recall - first recall, likewise.
    pub recall_difference: Option<f64>,
    /// The test on the images of the class, where the runs can be compared.
    pub paired: Option<ClassTest>,
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

/// The evaluations of a run with their stages.
pub(super) type Evaluations<'a> = Vec<(&'a StageRecord, Evaluation)>;

pub(super) fn diff<'a>(
    [first, second]: [&Results<'a>; 2],
    [of_first, of_second]: [Evaluations<'a>; 2],
) -> Vec<SplitDiff> {
    pairs(of_first, of_second)
        .into_iter()
        .flat_map(|pair| {
            let [a, b] = pair.stages;
            let (first_rows, second_rows) =
                rayon::join(|| first.predictions(&a.stage), || second.predictions(&b.stage));
            let compared = first_rows.zip(second_rows).map(|(first_rows, second_rows)| Compared {
                first: first_rows,
                second: second_rows,
                digests: contents([first, second], [a, b]),
            });
            splits([&a.stage, &b.stage], &pair.first, &pair.second, compared.as_ref())
        })
        .collect()
}

/// The predictions of both runs, and what is known of their images.
struct Compared {
    first: Vec<Prediction>,
    second: Vec<Prediction>,
    /// Path -> digest of the image, of each run; empty where its table of samples is gone, and
    /// where both evaluated the same data.
    digests: [BTreeMap<String, String>; 2],
}

impl Compared {
    /// Unless both tables know the image and its contents differ.
    fn is_same(&self, path: &str) -> bool {
        let [first, second] = &self.digests;
        first.get(path).zip(second.get(path)).is_none_or(|(first, second)| first == second)
    }
}

/// The digests of the images that each run evaluated, by path. Tables that both runs have in common
/// are not read: their images are the same.
fn contents(
    [first, second]: [&Results; 2],
    [a, b]: [&StageRecord; 2],
) -> [BTreeMap<String, String>; 2] {
    let artifact = |results: &Results, needed: &str| results.record().stage(needed)?.digest.clone();
    let artifacts = |results: &Results, stage: &StageRecord| -> Vec<String> {
        stage.needs.values().filter_map(|needed| artifact(results, needed)).collect()
    };
    let of_run = |results: &Results, stage: &StageRecord, others: &[String]| {
        let is_other = |needed: &&String| {
            artifact(results, needed).is_none_or(|digest| !others.contains(&digest))
        };
        let tables = stage.needs.values().filter(is_other);
        let tables = tables.filter_map(|needed| results.samples(needed));
        tables.flatten().map(|sample| (sample.path, sample.content)).collect()
    };
    let (of_first, of_second) = (artifacts(first, a), artifacts(second, b));
    let (first, second) =
        rayon::join(|| of_run(first, a, &of_second), || of_run(second, b, &of_first));
    [first, second]
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
    stages: [&str; 2],
    a: &Evaluation,
    b: &Evaluation,
    compared: Option<&Compared>,
) -> Vec<SplitDiff> {
    let both =
        a.splits.iter().filter_map(|(split, first)| Some((split, first, b.splits.get(split)?)));
    let mut splits: Vec<SplitDiff> = both
        .map(|(split, first, second)| split_diff(stages, split, first, second, compared))
        .collect();
    splits.sort_by_key(|diff| diff.split != "test");
    splits
}

fn split_diff(
    stages: [&str; 2],
    split: &str,
    first: &SplitMetrics,
    second: &SplitMetrics,
    compared: Option<&Compared>,
) -> SplitDiff {
    let paired = compared.map(|rows| {
        let is_same = |path: &str| rows.is_same(path);
        let paired = metrics::paired(&rows.first, &rows.second, split, &is_same);
        PairedTest {
            common: paired.common,
            both: paired.both,
            only_first: paired.only_first,
            only_second: paired.only_second,
            p_value: paired.p_value,
            same_images: paired.common == first.count && paired.common == second.count,
        }
    });
    let verdict = Verdict::of(split, paired.as_ref());
    let compared = compared.filter(|_| verdict.is_comparison()).map(|rows| {
        images::compare(&rows.first, &rows.second, split, &|path: &str| rows.is_same(path))
    });
    let compared = compared.unwrap_or_default();
    let mut classes = classes(&first.per_class, &second.per_class);
    for class in &mut classes {
        class.paired = compared.classes.get(&class.class).copied();
    }
    SplitDiff {
        stage: stages[1].to_owned(),
        stages: stages.map(str::to_owned),
        split: split.to_owned(),
        accuracy_difference: second.accuracy - first.accuracy,
        accuracy_difference_interval: difference_interval(first, second),
        verdict,
        images: compared.images,
        confusions: compared.confusions,
        paired,
        classes,
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
            top5: split.top5(),
            loss: split.loss,
            macro_f1: split.macro_average.f1,
            roc_auc: split.roc_auc,
            average_precision: split.average_precision,
            calibration_error: split.calibration_error,
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
    // Classes of one run alone first, those without images last.
    let weight = |class: &ClassDiff| match (&class.first, &class.second, class.f1_difference) {
        (Some(_), Some(_), None) => f64::NEG_INFINITY,
        (.., difference) => difference.map_or(f64::INFINITY, f64::abs),
    };
    classes.sort_by(|a, b| weight(b).partial_cmp(&weight(a)).unwrap_or(Ordering::Equal));
    classes
}

fn class_diff(class: &str, first: Option<ClassScores>, second: Option<ClassScores>) -> ClassDiff {
    // Without images of the class nothing is known of it.
    let both = first.zip(second).filter(|(a, b)| a.support > 0 && b.support > 0);
    ClassDiff {
        class: class.to_owned(),
        first,
        second,
        f1_difference: both.map(|(a, b)| b.f1 - a.f1),
        recall_difference: both.map(|(a, b)| b.recall - a.recall),
        paired: None,
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
