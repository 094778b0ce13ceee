//! Paired comparison of two models on the same samples: do they differ significantly?

use super::Prediction;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Agreement of two models on the samples that both predicted, and McNemar's test of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Number of samples predicted by both models.
    pub common: u64,
    /// Of those, the samples that both models classified correctly.
    pub both: u64,
    /// Samples that only the first model classified correctly.
    pub only_first: u64,
    /// Samples that only the second model classified correctly.
    pub only_second: u64,
    /// Of [`mcnemar`]'s test.
    pub p_value: f64,
}

/// The p-value of the exact two-sided McNemar test (McNemar, 1947): the probability, if both models
/// are equally good, that disagreements split at least as unevenly as `only_first` to
/// `only_second`. 1 if the models never disagree.
pub fn mcnemar(only_first: u64, only_second: u64) -> f64 {
    let total = only_first + only_second;
    let fewer = only_first.min(only_second);
    // Binomial terms as logarithms: 2^-total underflows from 1,075 disagreements on.
    let mut log_term = -(total as f64) * std::f64::consts::LN_2;
    let mut tail = log_term.exp();
    for drawn in 0..fewer {
        log_term += ((total - drawn) as f64 / (drawn + 1) as f64).ln();
        tail += log_term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// Pairs the labelled predictions of one split ("test") by path. Samples with different labels in
/// the two lists are left out: the models were not scored against the same truth. So are paths that
/// `is_same` says are of different images.
pub fn paired(
    first: &[Prediction],
    second: &[Prediction],
    split: &str,
    is_same: &dyn Fn(&str) -> bool,
) -> Paired {
    let other = labelled(second, split);
    let pairs: Vec<(bool, bool)> = labelled(first, split)
        .into_iter()
        .filter_map(|(path, (label, hit))| {
            let (other_label, other_hit) = other.get(path)?;
            (*other_label == label && is_same(path)).then_some((hit, *other_hit))
        })
        .collect();
    let count = |wanted: (bool, bool)| pairs.iter().filter(|pair| **pair == wanted).count() as u64;
    let (only_first, only_second) = (count((true, false)), count((false, true)));
    Paired {
        common: pairs.len() as u64,
        both: count((true, true)),
        only_first,
        only_second,
        p_value: mcnemar(only_first, only_second),
    }
}

/// Path -> label and whether it was predicted.
fn labelled<'a>(rows: &'a [Prediction], split: &str) -> BTreeMap<&'a str, (&'a str, bool)> {
    rows.iter()
        .filter(|row| row.split == split)
        .filter_map(|row| {
            let label = row.label.as_deref()?;
            Some((row.path.as_str(), (label, label == row.prediction)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// from statsmodels.stats.contingency_tables import mcnemar
    /// for b, c in [(0, 0), (3, 0), (10, 4), (25, 40), (700, 800)]:
    ///     print(mcnemar([[0, b], [c, 0]], exact=True).pvalue)
    /// ```
    #[test]
    fn equals_statsmodels_exact_test() {
        let expected = [
            ((0, 0), 1.0),
            ((3, 0), 0.25),
            ((10, 4), 0.1795654296875),
            ((25, 40), 0.08168153394154003),
            ((700, 800), 0.010559255466711506),
        ];
        for ((only_first, only_second), p_value) in expected {
            let found = mcnemar(only_first, only_second);
            assert!((found - p_value).abs() < 1e-11, "{only_first} {only_second}: {found}");
            assert_eq!(found, mcnemar(only_second, only_first));
        }
    }

    fn row(path: &str, label: Option<&str>, prediction: &str) -> Prediction {
        Prediction {
            path: path.to_owned(),
            split: "test".to_owned(),
            label: label.map(str::to_owned),
            prediction: prediction.to_owned(),
            probability: 1.0,
        }
    }

    #[test]
    fn only_samples_with_the_same_label_in_both_lists_are_paired() {
        let first = [
            row("1", Some("a"), "a"),
            row("2", Some("a"), "b"),
            row("3", Some("a"), "a"),
            row("4", None, "a"),
        ];
        let second = [
            row("1", Some("a"), "b"),
            row("2", Some("a"), "b"),
            row("3", Some("b"), "a"),
            row("5", Some("a"), "a"),
        ];
        let same = |_: &str| true;
        let result = paired(&first, &second, "test", &same);
        let counts = (result.common, result.both, result.only_first, result.only_second);
        assert_eq!(counts, (2, 0, 1, 0));
        assert_eq!(result.p_value, 1.0);
        assert_eq!(paired(&first, &second, "validation", &same).common, 0);
        assert_eq!(paired(&first, &second, "test", &|path| path != "1").common, 1);
    }
}
