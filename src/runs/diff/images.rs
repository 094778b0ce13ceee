//! The images that both runs predicted: those whose prediction became right or wrong, the confusions
//! that changed, and a paired test for each class.

use super::confusions::{ConfusionDiff, Confusions};
use crate::metrics::{Prediction, mcnemar};
use serde::Serialize;
use std::collections::BTreeMap;

/// An image whose prediction became right or wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChangedImage {
    pub path: String,
    pub label: String,
    /// The prediction of each run with its probability, 0 to 1.
    pub first: (String, f32),
    pub second: (String, f32),
}

/// The images whose prediction became right or wrong, those that the second run is most sure of
/// first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChangedImages {
    /// Right in the second run alone.
    pub fixed: Vec<ChangedImage>,
    /// Right in the first run alone.
    pub broken: Vec<ChangedImage>,
}

/// McNemar's exact test on the images of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ClassTest {
    pub only_first: u64,
    pub only_second: u64,
    /// Times the number of classes (Bonferroni), at most 1: one class in twenty would differ by
    /// chance.
    pub p_value: f64,
}

impl ClassTest {
    /// Whether the second run is worse on this class, statistically significant.
    pub fn is_worse(&self) -> bool {
        self.p_value < 0.05 && self.only_first > self.only_second
    }
}

/// Both runs' predictions of the same images.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) images: ChangedImages,
    pub(super) confusions: Vec<ConfusionDiff>,
    /// By label.
    pub(super) classes: BTreeMap<String, ClassTest>,
}

/// Compares the predictions of a split for the same images with the same label.
pub(super) fn compare(
    first: &[Prediction],
    second: &[Prediction],
    split: &str,
    is_same: &dyn Fn(&str) -> bool,
) -> Compared {
    let known: BTreeMap<&str, &Prediction> = of_split(first, split).collect();
    let mut compared = Compared::default();
    let mut confusions = Confusions::default();
    for (path, now) in of_split(second, split) {
        let Some(before) = known.get(path) else { continue };
        let (Some(label), true) = (&now.label, before.label == now.label && is_same(path)) else {
            continue;
        };
        confusions.push(label, [&before.prediction, &now.prediction]);
        let right = [*before, now].map(|row| row.prediction == *label);
        let test = compared.classes.entry(label.clone()).or_default();
        test.only_first += u64::from(right == [true, false]);
        test.only_second += u64::from(right == [false, true]);
        let image = || ChangedImage {
            path: path.to_owned(),
            label: label.clone(),
            first: (before.prediction.clone(), before.probability),
            second: (now.prediction.clone(), now.probability),
        };
        match right {
            [false, true] => compared.images.fixed.push(image()),
            [true, false] => compared.images.broken.push(image()),
            _ => {}
        }
    }
    compared.confusions = confusions.finish();
    let count = compared.classes.len() as f64;
    for test in compared.classes.values_mut() {
        test.p_value = (mcnemar(test.only_first, test.only_second) * count).min(1.0);
    }
    for list in [&mut compared.images.fixed, &mut compared.images.broken] {
        list.sort_by(|a, b| b.second.1.total_cmp(&a.second.1).then_with(|| a.path.cmp(&b.path)));
    }
    compared
}

fn of_split<'a>(
    rows: &'a [Prediction],
    split: &str,
) -> impl Iterator<Item = (&'a str, &'a Prediction)> {
    rows.iter().filter(move |row| row.split == split).map(|row| (row.path.as_str(), row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str, label: &str, prediction: &str, probability: f32) -> Prediction {
        Prediction {
            path: path.to_owned(),
            split: "test".to_owned(),
            label: Some(label.to_owned()),
            prediction: prediction.to_owned(),
            probability,
        }
    }

    #[test]
    fn fixed_and_broken_images_are_told_apart() {
        let first = [row("1", "a", "b", 0.9), row("2", "a", "a", 0.9), row("3", "b", "b", 0.9)];
        let second = [
            row("1", "a", "a", 0.6),
            row("2", "a", "b", 0.7),
            row("3", "b", "a", 0.8),
            row("4", "b", "a", 0.8),
        ];
        let compared = compare(&first, &second, "test", &|_| true);
        let paths =
            |list: &[ChangedImage]| list.iter().map(|one| one.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&compared.images.fixed), ["1"]);
        assert_eq!(paths(&compared.images.broken), ["3", "2"]);
        assert_eq!((compared.classes["a"].only_first, compared.classes["a"].only_second), (1, 1));
        assert!(compared.classes.values().all(|test| !test.is_worse()));
    }

    #[test]
    fn a_class_is_worse_only_beyond_what_as_many_classes_do_by_chance() {
        let rows = |right: usize| -> Vec<Prediction> {
            let row =
                |at: usize| row(&at.to_string(), "a", if at < right { "a" } else { "b" }, 0.9);
            (0..20).map(row).chain([self::row("x", "b", "b", 0.9)]).collect()
        };
        let worse =
            |right| compare(&rows(20), &rows(right), "test", &|_| true).classes["a"].is_worse();
        // 2 * 2^-6 < 0.05 for one class; for two classes seven images are needed.
        assert_eq!([15, 14, 13].map(worse), [false, false, true]);
    }
}
