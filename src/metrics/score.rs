//! Computes metrics from pairs of a label and class probabilities. Pairs are added one at a time,
//! so memory does not grow with the split.

use super::{Average, ClassMetrics, MetricsError, SplitMetrics, TOP};
use std::cmp::Ordering;

/// Quantile of the normal distribution for a two-sided 95 % interval.
const Z_95: f64 = 1.959_963_984_540_054;

/// The 95 % Wilson score interval of a proportion (Wilson, 1927). Unlike the normal approximation
/// it stays within 0 and 1 and is meaningful at both ends. 0 to 1 for a count of 0.
pub fn wilson(hits: u64, count: u64) -> [f64; 2] {
    if count == 0 {
        return [0.0, 1.0];
    }
    let (n, p) = (count as f64, hits as f64 / count as f64);
    let z2 = Z_95 * Z_95;
    let center = p + z2 / (2.0 * n);
    let reach = Z_95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    // Exact at the ends, where rounding would leave 1e-17.
    let low = if hits == 0 { 0.0 } else { ((center - reach) / scale).max(0.0) };
    let high = if hits == count { 1.0 } else { ((center + reach) / scale).min(1.0) };
    [low, high]
}

/// Softmax of one row of logits, computed in f64. A NaN or infinite logit yields NaNs, which
/// [`Scorer::push`] rejects.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> =
        logits.iter().map(|&logit| (f64::from(logit) - f64::from(top)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}

/// Index of the largest value, the first of equals (as NumPy); 0 for an empty slice.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// The `k` most probable classes with their probabilities, descending; ties keep class order.
pub fn top_k(probabilities: &[f32], k: usize) -> Vec<(usize, f32)> {
    let mut order: Vec<(usize, f32)> = probabilities.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
    order.truncate(k);
    order
}

/// Accumulates the metrics of one split.
#[derive(Clone, Debug)]
pub struct Scorer {
    classes: Vec<String>,
    confusion: Vec<Vec<u64>>,
    in_top: u64,
    loss: f64,
}

impl Scorer {
    pub fn new(classes: &[String]) -> Scorer {
        let width = classes.len();
        Scorer {
            classes: classes.to_vec(),
            confusion: vec![vec![0; width]; width],
            in_top: 0,
            loss: 0.0,
        }
    }

    /// Adds one sample and returns the predicted class.
    ///
    /// # Errors
    /// If the probabilities are not one valid number per class, or there is no class `label`; the
    /// sample is then not counted.
    pub fn push(&mut self, label: u32, probabilities: &[f32]) -> Result<usize, MetricsError> {
        let expected = self.classes.len();
        if probabilities.len() != expected {
            return Err(MetricsError::WrongWidth { found: probabilities.len(), expected });
        }
        if let Some((class, &value)) =
            probabilities.iter().enumerate().find(|(_, p)| !(p.is_finite() && **p >= 0.0))
        {
            return Err(MetricsError::NotAProbability { class, value });
        }
        let truth = label as usize;
        let Some(&p) = probabilities.get(truth) else {
            return Err(MetricsError::UnknownClass { class: label, classes: expected });
        };
        let predicted = argmax(probabilities);
        self.confusion[truth][predicted] += 1;
        // Ties as in scikit-learn's `top_k_accuracy_score`: the last of equal classes ranks first.
        let ahead = probabilities
            .iter()
            .enumerate()
            .filter(|&(class, &q)| q > p || (q == p && class > truth))
            .count();
        self.in_top += u64::from(ahead < TOP);
        // Clipped as in scikit-learn's `log_loss` for f64.
        self.loss -= f64::from(p).clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln();
        Ok(predicted)
    }

    /// Number of samples added.
    pub fn count(&self) -> u64 {
        self.confusion.iter().flatten().sum()
    }

    /// The metrics; none if no sample was added.
    pub fn finish(self) -> Option<SplitMetrics> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let hits: u64 = (0..self.classes.len()).map(|class| self.confusion[class][class]).sum();
        let per_class: Vec<ClassMetrics> = self
            .classes
            .iter()
            .enumerate()
            .map(|(class, name)| class_metrics(name, class, &self.confusion))
            .collect();
        Some(SplitMetrics {
            count,
            accuracy: ratio(hits, count),
            accuracy_interval: wilson(hits, count),
            top5: ratio(self.in_top, count),
            loss: self.loss / count as f64,
            macro_average: average(&per_class, |class, row| {
                u64::from(row.support > 0 || self.confusion.iter().any(|row| row[class] > 0))
            }),
            weighted_average: average(&per_class, |_, row| row.support),
            per_class,
            confusion: self.confusion,
            roc_auc: None,
            average_precision: None,
            calibration_error: None,
            max_calibration_error: None,
        })
    }
}

fn class_metrics(name: &str, class: usize, confusion: &[Vec<u64>]) -> ClassMetrics {
    let hits = confusion[class][class];
    let support: u64 = confusion[class].iter().sum();
    let predicted: u64 = confusion.iter().map(|row| row[class]).sum();
    ClassMetrics {
        class: name.to_owned(),
        precision: ratio(hits, predicted),
        recall: ratio(hits, support),
        f1: ratio(2 * hits, predicted + support),
        support,
        roc_auc: None,
        average_precision: None,
    }
}

/// Means with the weight of each class by its index.
fn average(rows: &[ClassMetrics], weight: impl Fn(usize, &ClassMetrics) -> u64) -> Average {
    let weights: Vec<u64> =
        rows.iter().enumerate().map(|(class, row)| weight(class, row)).collect();
    let total: u64 = weights.iter().sum();
    let mean = |value: fn(&ClassMetrics) -> f64| {
        let sum: f64 =
            rows.iter().zip(&weights).map(|(row, &weight)| weight as f64 * value(row)).sum();
        if total == 0 { 0.0 } else { sum / total as f64 }
    };
    Average {
        precision: mean(|row| row.precision),
        recall: mean(|row| row.recall),
        f1: mean(|row| row.f1),
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::golden;
    use super::*;
    use proptest::prelude::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-8, "{found} is not {expected}");
    }

    fn scored() -> SplitMetrics {
        let mut scorer = Scorer::new(&names(7));
        for (label, probabilities) in golden::samples() {
            scorer.push(label, &probabilities).unwrap();
        }
        scorer.finish().unwrap()
    }

    /// With scikit-learn 1.9.1, after the lines of `golden.rs`:
    ///
    /// ```python
    /// from sklearn.metrics import (accuracy_score, confusion_matrix, log_loss,
    ///                              precision_recall_fscore_support, top_k_accuracy_score)
    /// pred, every = p.argmax(1), list(range(7))
    /// print(accuracy_score(labels, pred), top_k_accuracy_score(labels, p, k=5, labels=every))
    /// print(log_loss(labels, p, labels=every))
    /// print(confusion_matrix(labels, pred, labels=every))
    /// for average in (None, "macro", "weighted"):
    ///     print(precision_recall_fscore_support(labels, pred, labels=every, average=average,
    ///                                           zero_division=0))
    /// ```
    #[test]
    fn metrics_equal_scikit_learn() {
        let found = scored();
        assert_eq!(found.count, 40);
        close(found.accuracy, 0.6);
        close(found.top5, 0.875);
        close(found.loss, 5.650051662718595);
        let confusion = [
            [7, 1, 1, 2, 0, 0, 2],
            [0, 4, 0, 0, 1, 0, 0],
            [0, 0, 3, 0, 1, 0, 0],
            [0, 0, 1, 6, 0, 0, 0],
            [2, 0, 0, 0, 4, 0, 0],
            [0, 1, 0, 1, 1, 0, 2],
            [0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(found.confusion, confusion.map(|row| row.to_vec()).to_vec());
        let precision = [0.77777778, 0.66666667, 0.6, 0.66666667, 0.57142857, 0.0, 0.0];
        let recall = [0.53846154, 0.8, 0.75, 0.85714286, 0.66666667, 0.0, 0.0];
        let f1 = [0.63636364, 0.72727273, 0.66666667, 0.75, 0.61538462, 0.0, 0.0];
        for (class, row) in found.per_class.iter().enumerate() {
            close(row.precision, precision[class]);
            close(row.recall, recall[class]);
            close(row.f1, f1[class]);
        }
        assert_eq!(
            found.per_class.iter().map(|row| row.support).collect::<Vec<_>>(),
            [13, 5, 4, 7, 6, 5, 0]
        );
        let Average { precision, recall, f1 } = found.macro_average;
        [(precision, 0.4689342403628118), (recall, 0.5160387231815803), (f1, 0.4850982350982351)]
            .into_iter()
            .for_each(|(a, b)| close(a, b));
        let Average { precision, recall, f1 } = found.weighted_average;
        [(precision, 0.5984920634920634), (recall, 0.6), (f1, 0.5879516317016318)]
            .into_iter()
            .for_each(|(a, b)| close(a, b));
    }

    /// ```python
    /// from sklearn.metrics import f1_score
    /// print(f1_score([0, 0, 1], [0, 1, 1], average="macro"))
    /// print(f1_score([0, 0, 1], [0, 3, 1], average="macro"))
    /// ```
    #[test]
    fn a_class_that_never_occurs_is_not_averaged() {
        let macro_f1 = |predictions: [usize; 3]| {
            let mut scorer = Scorer::new(&names(4));
            for (label, prediction) in [0, 0, 1].into_iter().zip(predictions) {
                let mut row = [0.0; 4];
                row[prediction] = 1.0;
                scorer.push(label, &row).unwrap();
            }
            scorer.finish().unwrap().macro_average.f1
        };
        close(macro_f1([0, 1, 1]), 0.666_666_667);
        close(macro_f1([0, 3, 1]), 0.555_555_556);
    }

    /// ```python
    /// from statsmodels.stats.proportion import proportion_confint
    /// for hits, count in [(0, 10), (10, 10), (7, 10), (380, 400)]:
    ///     print(proportion_confint(hits, count, method="wilson"))
    /// ```
    #[test]
    fn intervals_equal_statsmodels() {
        let expected = [
            ((0, 10), [0.0, 0.27753279986288926]),
            ((10, 10), [0.7224672001371106, 1.0]),
            ((7, 10), [0.39677814746114537, 0.8922087325936989]),
            ((380, 400), [0.9240363649362803, 0.9674025701628527]),
        ];
        for ((hits, count), interval) in expected {
            let found = wilson(hits, count);
            close(found[0], interval[0]);
            close(found[1], interval[1]);
        }
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }

    #[test]
    fn no_samples_yield_no_metrics() {
        assert_eq!(Scorer::new(&names(3)).finish(), None);
    }

    #[test]
    fn invalid_probabilities_and_labels_are_refused_and_not_counted() {
        let mut scorer = Scorer::new(&names(2));
        for wrong in [f32::NAN, f32::INFINITY, -0.5] {
            let error = scorer.push(0, &[0.5, wrong]).unwrap_err();
            assert!(matches!(error, MetricsError::NotAProbability { class: 1, .. }), "{error}");
        }
        assert!(matches!(
            scorer.push(2, &[0.5, 0.5]),
            Err(MetricsError::UnknownClass { class: 2, classes: 2 })
        ));
        assert!(matches!(
            scorer.push(0, &[1.0]),
            Err(MetricsError::WrongWidth { found: 1, expected: 2 })
        ));
        assert_eq!(scorer.count(), 0);
    }

    #[test]
    fn softmax_neither_overflows_nor_hides_invalid_logits() {
        assert_eq!(softmax(&[0.0, 0.0]), [0.5, 0.5]);
        assert_eq!(softmax(&[1e30, 0.0]), [1.0, 0.0]);
        assert_eq!(softmax(&[-1e30, -1e30]), [0.5, 0.5]);
        assert!(softmax(&[f32::NAN, 0.0]).iter().any(|p| p.is_nan()));
        assert!(softmax(&[f32::INFINITY, 0.0]).iter().any(|p| p.is_nan()));
        assert!(softmax(&[]).is_empty());
    }

    #[test]
    fn top_k_is_in_descending_order_and_ties_keep_theirs() {
        assert_eq!(top_k(&[0.2, 0.4, 0.4], 2), [(1, 0.4), (2, 0.4)]);
        assert_eq!(top_k(&[0.2], 5), [(0, 0.2)]);
        assert_eq!(argmax(&[0.2, 0.4, 0.4]), 1);
        assert_eq!(argmax(&[]), 0);
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one_and_keep_the_order_of_logits(logits in proptest::collection::vec(-50f32..50.0, 1..20)) {
            let probabilities = softmax(&logits);
            prop_assert!((probabilities.iter().map(|&p| f64::from(p)).sum::<f64>() - 1.0).abs() < 1e-6);
            prop_assert_eq!(probabilities[argmax(&logits)], probabilities[argmax(&probabilities)]);
        }

        #[test]
        fn an_interval_contains_its_proportion(count in 1u64..5000, part in 0.0..=1.0f64) {
            let hits = (part * count as f64) as u64;
            let [low, high] = wilson(hits, count);
            let share = hits as f64 / count as f64;
            prop_assert!(0.0 <= low && low <= share && share <= high && high <= 1.0);
        }
    }
}
