//! The content of `metrics.json`, which the kind `evaluate` writes.

use super::{MetricsError, TOP};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A model's metrics on each split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Accuracy on the test split, 0 to 1; none if that split is empty.
    pub accuracy: Option<f64>,
    /// Its 95 % confidence interval ([`wilson`](super::wilson)).
    pub accuracy_interval: Option<[f64; 2]>,
    /// All metrics of each split with labelled samples: "validation", "test".
    pub splits: BTreeMap<String, SplitMetrics>,
    /// Class names; every list of classes here is in this order.
    pub classes: Vec<String>,
}

/// A model's metrics on one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitMetrics {
    /// Number of labelled samples.
    pub count: u64,
    /// 0 to 1.
    pub accuracy: f64,
    /// 95 % confidence interval of the accuracy ([`wilson`](super::wilson)).
    pub accuracy_interval: [f64; 2],
    /// Top-5 accuracy; 1 if there are no more than five classes.
    pub top5: f64,
    /// Mean cross-entropy in nats; probabilities are clipped to at least 2^-52.
    pub loss: f64,
    /// One row per class, in the order of [`Evaluation::classes`].
    pub per_class: Vec<ClassMetrics>,
    /// Unweighted means over the classes that occur, as labels or as predictions: scikit-learn's
    /// default.
    pub macro_average: Average,
    /// Means weighted by support.
    pub weighted_average: Average,
    /// Number of samples by true class (row) and predicted class (column).
    pub confusion: Vec<Vec<u64>>,
    /// Area under the ROC curve, the mean over classes of each against the others (scikit-learn's
    /// `roc_auc_score(multi_class="ovr")`); classes without test images are left out. Of the test
    /// split only, as the following ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roc_auc: Option<f64>,
    /// Mean over classes of the average precision (scikit-learn's `average_precision_score`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_precision: Option<f64>,
    /// Expected calibration error, 0 to 1 ([`Calibration`](super::Calibration)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration_error: Option<f64>,
    /// Maximum calibration error, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calibration_error: Option<f64>,
}

impl SplitMetrics {
    /// The top-5 accuracy, where there are more than five classes.
    pub fn top5(&self) -> Option<f64> {
        (self.per_class.len() > TOP).then_some(self.top5)
    }
}

/// A model's metrics on one class. A ratio with a denominator of 0 is 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    pub class: String,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// Number of samples of this class.
    pub support: u64,
    /// Area under the ROC curve of this class against the others; none if all samples or none are
    /// of this class, and outside of the test split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roc_auc: Option<f64>,
    /// Average precision of this class against the others; none likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_precision: Option<f64>,
}

/// Means over classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Average {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

impl Evaluation {
    /// Combines the metrics of all splits; the headline accuracy is the test split's.
    pub fn new(classes: Vec<String>, splits: BTreeMap<String, SplitMetrics>) -> Evaluation {
        let test = splits.get("test");
        Evaluation {
            accuracy: test.map(|split| split.accuracy),
            accuracy_interval: test.map(|split| split.accuracy_interval),
            splits,
            classes,
        }
    }

    /// Reads a `metrics.json`.
    pub fn read(path: &Path) -> Result<Evaluation, MetricsError> {
        let text = std::fs::read(path).map_err(|error| MetricsError::file(path, error))?;
        serde_json::from_slice(&text).map_err(|error| MetricsError::file(path, error))
    }

    /// The classes without images in the test split, whose accuracy there is unknown.
    pub fn without_test_images(&self) -> Vec<&str> {
        let rows = self.splits.get("test").map(|split| split.per_class.as_slice());
        let without = rows.unwrap_or_default().iter().filter(|row| row.support == 0);
        without.map(|row| row.class.as_str()).collect()
    }

    /// Formats `metrics.json`: indented, with a final newline.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("metrics are finite numbers and every key is a string") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scorer;
    use super::*;

    fn sample() -> Evaluation {
        let classes = vec!["a".to_owned(), "b".to_owned()];
        let mut scorer = Scorer::new(&classes);
        scorer.push(0, &[0.75, 0.25]).unwrap();
        let metrics = scorer.finish().unwrap();
        Evaluation::new(classes, BTreeMap::from([("test".to_owned(), metrics)]))
    }

    #[test]
    fn a_written_file_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.json");
        std::fs::write(&path, sample().to_json()).unwrap();
        assert_eq!(Evaluation::read(&path).unwrap(), sample());
    }

    #[test]
    fn the_headline_is_the_accuracy_on_the_test_split() {
        assert_eq!(sample().accuracy, Some(1.0));
        let json: serde_json::Value = serde_json::from_str(&sample().to_json()).unwrap();
        assert_eq!(json["accuracy"], 1.0);
        assert_eq!(Evaluation::new(Vec::new(), BTreeMap::new()).accuracy, None);
    }

    #[test]
    fn a_truncated_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.json");
        let text = sample().to_json();
        for length in 0..text.trim_end().len() {
            std::fs::write(&path, &text[..length]).unwrap();
            let error = Evaluation::read(&path).unwrap_err().to_string();
            assert!(error.contains("metrics.json"), "{error}");
        }
    }
}
