//! The cells of the confusion matrix that differ: pairs of classes that one run confuses more often.

use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Images of one class that were predicted as another one, of those that both runs predicted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfusionDiff {
    pub label: String,
    pub prediction: String,
    /// The number of images in each run.
    pub first: u64,
    pub second: u64,
}

impl ConfusionDiff {
    /// Second - first: positive where the second run confuses the classes more often.
    pub fn difference(&self) -> i64 {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        signed(self.second) - signed(self.first)
    }
}

/// Counts errors by label and prediction.
#[derive(Default)]
pub(super) struct Confusions<'a> {
    cells: BTreeMap<(&'a str, &'a str), [u64; 2]>,
}

impl<'a> Confusions<'a> {
    /// Adds both runs' predictions of an image.
    pub(super) fn push(&mut self, label: &'a str, predictions: [&'a str; 2]) {
        for (run, prediction) in predictions.into_iter().enumerate() {
            if prediction != label {
                self.cells.entry((label, prediction)).or_default()[run] += 1;
            }
        }
    }

    /// The cells that differ, those that differ most first.
    pub(super) fn finish(self) -> Vec<ConfusionDiff> {
        let differing = self.cells.into_iter().filter(|(_, [first, second])| first != second);
        let mut cells: Vec<ConfusionDiff> = differing
            .map(|((label, prediction), [first, second])| ConfusionDiff {
                label: label.to_owned(),
                prediction: prediction.to_owned(),
                first,
                second,
            })
            .collect();
        // Stable: equal differences stay in the order of the classes.
        cells.sort_by_key(|cell| Reverse(cell.difference().unsigned_abs()));
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_differ_are_listed_by_how_much() {
        let mut confusions = Confusions::default();
        for predictions in [["b", "b"], ["a", "b"], ["b", "a"], ["c", "b"], ["a", "c"], ["a", "c"]]
        {
            confusions.push("a", predictions);
        }
        for predictions in [["a", "b"], ["a", "b"], ["a", "b"]] {
            confusions.push("b", predictions);
        }
        let cells: Vec<_> = confusions
            .finish()
            .iter()
            .map(|cell| format!("{}{} {:+}", cell.label, cell.prediction, cell.difference()))
            .collect();
        assert_eq!(cells, ["ba -3", "ab +1", "ac +1"]);
    }

    #[test]
    fn cells_with_as_many_images_in_both_runs_are_left_out() {
        let mut confusions = Confusions::default();
        confusions.push("a", ["b", "a"]);
        confusions.push("a", ["a", "b"]);
        assert_eq!(confusions.finish(), []);
    }
}
