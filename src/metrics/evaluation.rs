//! The content of `metrics.json`: what `evaluate` writes, and what runs, comparisons and pages read.

use super::MetricsError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// How a model does on each split, as `metrics.json` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Share of the test split's samples that are classified rightly, 0 to 1; none where there is no test split.
    pub accuracy: Option<f64>,
    /// The 95 % interval of that share ([`wilson`](super::wilson)).
    pub accuracy_interval: Option<[f64; 2]>,
    /// Everything, for each split that has labelled samples: "validation", "test".
    pub splits: BTreeMap<String, SplitMetrics>,
    /// The classes' names, in the order of every list of classes here.
    pub classes: Vec<String>,
}

/// How a model does on one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitMetrics {
    /// Labelled samples scored.
    pub count: u64,
    /// Share of them classified rightly, 0 to 1.
    pub accuracy: f64,
    /// The 95 % interval of that share ([`wilson`](super::wilson)).
    pub accuracy_interval: [f64; 2],
    /// Share of samples whose class is among the five likeliest; 1 where there are no more than five classes.
    pub top5: f64,
    /// Mean cross-entropy in nats, of probabilities kept at least 2^-52 away from 0.
    pub loss: f64,
    /// A row a class, in the order of [`Evaluation::classes`].
    pub per_class: Vec<ClassMetrics>,
    /// Plain means over all classes, those without samples included.
    pub macro_average: Average,
    /// Means weighted by support.
    pub weighted_average: Average,
    /// Samples by true class (row) and predicted class (column).
    pub confusion: Vec<Vec<u64>>,
}

/// How a model does on one class. A ratio without a denominator is 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// The class's name.
    pub class: String,
    /// Of the samples given this class, the share that is of it.
    pub precision: f64,
    /// Of the samples of this class, the share given it.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Samples of this class.
    pub support: u64,
}

/// A mean over classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Average {
    /// Mean precision.
    pub precision: f64,
    /// Mean recall.
    pub recall: f64,
    /// Mean F1.
    pub f1: f64,
}

impl Evaluation {
    /// Puts the splits' numbers together; the headline is the test split's.
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
        let fail = |reason: String| MetricsError::File { path: path.to_owned(), reason };
        let text = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        serde_json::from_slice(&text)
            .map_err(|error| fail(format!("not the metrics of an evaluation: {error}")))
    }

    /// The text of `metrics.json`, indented, with a newline at its end.
    pub fn to_json(&self) -> String {
        // Every number in it is finite and every key a string, so there is nothing that can't be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
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
    fn a_file_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.json");
        std::fs::write(&path, sample().to_json()).unwrap();
        assert_eq!(Evaluation::read(&path).unwrap(), sample());
    }

    #[test]
    fn the_headline_is_the_test_split_s() {
        assert_eq!(sample().accuracy, Some(1.0));
        let json: serde_json::Value = serde_json::from_str(&sample().to_json()).unwrap();
        assert_eq!(json["accuracy"], 1.0);
        assert_eq!(Evaluation::new(Vec::new(), BTreeMap::new()).accuracy, None);
    }

    #[test]
    fn a_file_cut_short_is_an_error_that_names_it() {
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
