//! `curves.json`: ROC and precision-recall curves of each class against the others, and the
//! calibration. Areas equal scikit-learn's `roc_auc_score` and `average_precision_score`; the curves
//! themselves are sampled, so that the file is small for any number of images and classes.

#[cfg(test)]
mod tests;

use super::calibration::{Calibration, Confidences};
use super::{MetricsError, SplitMetrics};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version of the file.
const FORMAT: u32 = 1;

/// A sampled curve has values at 0, 1/200, …, 1.
const STEPS: u64 = 200;

/// The number of classes whose curves are kept: those with the smallest areas.
const WORST: usize = 3;

/// The most probabilities of which curves are made: at 4 bytes each, and as many again while classes
/// are sorted.
const MAX_CELLS: usize = 1 << 26;

/// The curves and the calibration of a model on one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    format: u32,
    /// "test".
    pub split: String,
    /// Number of labelled images.
    pub count: u64,
    /// Classes without a curve, since all images or none are of the class. Averages leave them out.
    pub left_out: Vec<String>,
    /// True positive rate by false positive rate: the averages, then the classes with the smallest
    /// areas. Empty where there were too many probabilities to hold.
    pub roc: Vec<Curve>,
    /// Precision by recall, likewise.
    pub precision_recall: Vec<Curve>,
    pub calibration: Calibration,
}

/// One sampled curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    pub of: CurveOf,
    /// The area under the curve before sampling: the AUC of a ROC curve; the average precision of a
    /// precision-recall curve, which is the area of its steps.
    pub area: f64,
    /// The values at equal distances from 0 to 1, rounded to 4 decimals.
    pub values: Vec<f64>,
}

/// The decision that a curve describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CurveOf {
    /// The mean of the classes' curves and areas.
    Macro,
    /// All pairs of an image and a class as one decision.
    Micro,
    /// One class against all others.
    Class(String),
}

/// The areas under the curves of one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Areas {
    pub roc_auc: f64,
    pub average_precision: f64,
}

impl Curves {
    /// Reads a `curves.json`.
    ///
    /// # Errors
    /// If the file can't be read or is of another version.
    pub fn read(path: &Path) -> Result<Curves, MetricsError> {
        let text = std::fs::read(path).map_err(|error| MetricsError::file(path, error))?;
        let curves: Curves =
            serde_json::from_slice(&text).map_err(|error| MetricsError::file(path, error))?;
        match curves.format {
            FORMAT => Ok(curves),
            other => Err(MetricsError::file(path, format!("it has format {other}, not {FORMAT}"))),
        }
    }

    /// Whether there were too many probabilities to hold, so that there is the calibration alone.
    pub fn are_missing(&self) -> bool {
        self.roc.is_empty() && self.left_out.is_empty()
    }

    /// Formats `curves.json`: one line.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string(self);
        text.expect("curves are finite numbers and every key is a string") + "\n"
    }
}

impl Curve {
    /// (x, value), x ascending from 0 to 1.
    pub fn points(&self) -> Vec<(f64, f64)> {
        let last = self.values.len().saturating_sub(1).max(1) as f64;
        self.values.iter().enumerate().map(|(at, value)| (at as f64 / last, *value)).collect()
    }
}

impl SplitMetrics {
    /// Adds the areas, by class and their means, and the calibration errors.
    pub fn add_curves(&mut self, curves: &Curves, areas: &[Option<Areas>]) {
        for (class, areas) in self.per_class.iter_mut().zip(areas) {
            class.roc_auc = areas.map(|areas| areas.roc_auc);
            class.average_precision = areas.map(|areas| areas.average_precision);
        }
        let mean = |list: &[Curve]| {
            list.iter().find(|curve| curve.of == CurveOf::Macro).map(|curve| curve.area)
        };
        self.roc_auc = mean(&curves.roc);
        self.average_precision = mean(&curves.precision_recall);
        self.calibration_error = Some(curves.calibration.expected_error);
        self.max_calibration_error = Some(curves.calibration.max_error);
    }
}

/// Accumulates the probabilities of one split, from which its curves are computed.
pub struct CurveScorer {
    classes: Vec<String>,
    count: u64,
    /// A row of [`cell`]s per image; empty once there are too many.
    cells: Vec<u32>,
    is_too_large: bool,
    confidences: Confidences,
}

/// A probability with whether the image is of that class: the order of cells is that of
/// probabilities, since the bits of numbers from 0 up have the order of the numbers.
fn cell(probability: f32, is_positive: bool) -> u32 {
    probability.to_bits() << 1 | u32::from(is_positive)
}

impl CurveScorer {
    pub fn new(classes: &[String]) -> CurveScorer {
        CurveScorer {
            classes: classes.to_vec(),
            count: 0,
            cells: Vec::new(),
            is_too_large: false,
            confidences: Confidences::default(),
        }
    }

    /// Adds one image that [`Scorer::push`](super::Scorer::push) accepted: a label below the number
    /// of classes and one probability per class.
    pub fn push(&mut self, label: u32, probabilities: &[f32]) {
        self.count += 1;
        self.confidences.push(label, probabilities);
        self.is_too_large |= self.cells.len() + probabilities.len() > MAX_CELLS;
        if self.is_too_large {
            self.cells = Vec::new();
            return;
        }
        let cells = probabilities.iter().enumerate();
        self.cells.extend(cells.map(|(class, p)| cell(*p, class == label as usize)));
    }

    /// The curves, and the areas of each class in the order of the classes; none for a class of
    /// which all images or none are.
    pub fn finish(mut self, split: &str) -> (Curves, Vec<Option<Areas>>) {
        let width = self.classes.len();
        let column = |class: usize| -> Vec<u32> {
            self.cells.iter().skip(class).step_by(width).copied().collect()
        };
        let traced: Vec<Option<Traced>> =
            (0..width).into_par_iter().map(|class| Traced::of(&mut column(class))).collect();
        let named: Vec<(&String, &Traced)> = self
            .classes
            .iter()
            .zip(&traced)
            .filter_map(|(name, one)| Some((name, one.as_ref()?)))
            .collect();
        let left_out = match self.is_too_large {
            true => Vec::new(),
            false => {
                let missing = self.classes.iter().zip(&traced).filter(|(_, one)| one.is_none());
                missing.map(|(name, _)| name.clone()).collect()
            }
        };
        let micro = Traced::of(&mut self.cells);
        let curves = Curves {
            format: FORMAT,
            split: split.to_owned(),
            count: self.count,
            left_out,
            roc: kept(&named, micro.as_ref(), |one| &one.roc),
            precision_recall: kept(&named, micro.as_ref(), |one| &one.precision_recall),
            calibration: self.confidences.finish(),
        };
        (curves, traced.iter().map(|one| one.as_ref().map(Traced::areas)).collect())
    }
}

/// The averages, and the curves of the classes with the smallest areas; equal ones keep the order of
/// the classes.
fn kept(
    classes: &[(&String, &Traced)],
    micro: Option<&Traced>,
    which: fn(&Traced) -> &Sampled,
) -> Vec<Curve> {
    if classes.is_empty() {
        return Vec::new();
    }
    let mean = |value: &dyn Fn(&Sampled) -> f64| {
        let sum: f64 = classes.iter().map(|(_, one)| value(which(one))).sum();
        sum / classes.len() as f64
    };
    let values =
        (0..=STEPS as usize).map(|at| mean(&|one| one.values.get(at).copied().unwrap_or(0.0)));
    let average = Sampled { area: mean(&|one| one.area), values: values.collect() };
    let mut worst = classes.to_vec();
    worst.sort_by(|(_, a), (_, b)| which(a).area.total_cmp(&which(b).area));
    let worst = worst.iter().take(WORST);
    let averages = [(CurveOf::Macro, Some(&average)), (CurveOf::Micro, micro.map(which))];
    let averages = averages.into_iter().filter_map(|(of, one)| Some((of, one?)));
    let all =
        averages.chain(worst.map(|(name, one)| (CurveOf::Class((*name).clone()), which(one))));
    all.map(|(of, one)| one.curve(of)).collect()
}

/// Both curves of one decision.
struct Traced {
    roc: Sampled,
    precision_recall: Sampled,
}

/// A curve with its exact area.
struct Sampled {
    area: f64,
    values: Vec<f64>,
}

impl Sampled {
    fn curve(&self, of: CurveOf) -> Curve {
        let rounded = |value: &f64| (value * 1e4).round() / 1e4;
        Curve { of, area: self.area, values: self.values.iter().map(rounded).collect() }
    }
}

impl Traced {
    /// The curves of cells, which are sorted here; none without positives or without negatives.
    fn of(cells: &mut [u32]) -> Option<Traced> {
        let positives = cells.iter().filter(|cell| **cell & 1 == 1).count() as u64;
        let negatives = cells.len() as u64 - positives;
        if positives == 0 || negatives == 0 {
            return None;
        }
        cells.par_sort_unstable_by(|a, b| b.cmp(a));
        let (mut true_positives, mut false_positives) = (0, 0);
        // Twice the area in units of one positive times one negative.
        let (mut area, mut average_precision) = (0, 0.0);
        let (mut roc, mut precision_recall) = (Vec::new(), Vec::new());
        // Equal probabilities are one threshold.
        for tied in cells.chunk_by(|a, b| a >> 1 == b >> 1) {
            let hits = tied.iter().map(|cell| u64::from(cell & 1)).sum::<u64>();
            let misses = tied.len() as u64 - hits;
            // Between two thresholds the curve is straight.
            while roc.len() as u64 * negatives < (false_positives + misses) * STEPS {
                let at = roc.len() as f64 * negatives as f64 / STEPS as f64;
                let part = (at - false_positives as f64) / misses as f64;
                roc.push((true_positives as f64 + part * hits as f64) / positives as f64);
            }
            area += misses * (2 * true_positives + hits);
            (true_positives, false_positives) = (true_positives + hits, false_positives + misses);
            let precision = true_positives as f64 / (true_positives + false_positives) as f64;
            average_precision += hits as f64 / positives as f64 * precision;
            // The first threshold that reaches a recall is the one that the average counts.
            while hits > 0 && precision_recall.len() as u64 * positives <= true_positives * STEPS {
                precision_recall.push(precision);
            }
        }
        roc.push(1.0);
        let roc_auc = area as f64 / (2 * positives * negatives) as f64;
        Some(Traced {
            roc: Sampled { area: roc_auc, values: roc },
            precision_recall: Sampled { area: average_precision, values: precision_recall },
        })
    }

    fn areas(&self) -> Areas {
        Areas { roc_auc: self.roc.area, average_precision: self.precision_recall.area }
    }
}
