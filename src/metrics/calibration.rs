//! Calibration: whether images predicted with a probability of 0.8 are right in 80 of 100 cases.
//! Bins and errors as in Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017).

use super::argmax;
use serde::{Deserialize, Serialize};

/// The number of bins, of equal width.
const BINS: usize = 15;

/// The calibration of the most probable class's probability.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The mean over images of the distance between a bin's accuracy and its mean probability.
    pub expected_error: f64,
    /// The largest such distance.
    pub max_error: f64,
    /// The bins, from 0 to 1: bin i holds probabilities above i/15 up to (i + 1)/15.
    pub bins: Vec<CalibrationBin>,
}

/// The images whose highest probability is in one range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    pub count: u64,
    /// The mean of the highest probabilities; 0 for an empty bin.
    pub confidence: f64,
    /// The share of these images that are classified correctly; 0 for an empty bin.
    pub accuracy: f64,
}

/// Accumulates the calibration of one split.
#[derive(Clone, Debug, Default)]
pub(super) struct Confidences {
    /// Number of images, sum of their highest probabilities, number of hits.
    bins: [(u64, f64, u64); BINS],
}

impl Confidences {
    /// Adds one image.
    pub(super) fn push(&mut self, label: u32, probabilities: &[f32]) {
        let best = argmax(probabilities);
        let highest = probabilities.get(best).copied().map_or(0.0, f64::from);
        let at = ((highest * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let (count, sum, hits) = &mut self.bins[at];
        *count += 1;
        *sum += highest;
        *hits += u64::from(best == label as usize);
    }

    /// All zeros without images.
    pub(super) fn finish(&self) -> Calibration {
        let total: u64 = self.bins.iter().map(|(count, ..)| count).sum();
        let bin = |&(count, sum, hits): &(u64, f64, u64)| {
            let mean = |sum: f64| if count == 0 { 0.0 } else { sum / count as f64 };
            CalibrationBin { count, confidence: mean(sum), accuracy: mean(hits as f64) }
        };
        let bins: Vec<CalibrationBin> = self.bins.iter().map(bin).collect();
        let gap = |bin: &CalibrationBin| (bin.accuracy - bin.confidence).abs();
        let sum: f64 = bins.iter().map(|bin| bin.count as f64 * gap(bin)).sum();
        Calibration {
            expected_error: sum / total.max(1) as f64,
            max_error: bins.iter().map(gap).fold(0.0, f64::max),
            bins,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden;
    use super::*;

    /// With NumPy 2.4.6, after the lines of `golden.rs`:
    ///
    /// ```python
    /// top, hit = p.max(1), p.argmax(1) == labels
    /// bins = np.ceil(top * 15).clip(1, 15).astype(int) - 1
    /// gap = [abs(hit[bins == b].mean() - top[bins == b].mean()) if (bins == b).any() else 0 for b in range(15)]
    /// print(sum(np.bincount(bins, minlength=15) * gap) / 40, max(gap))
    /// ```
    #[test]
    fn errors_equal_those_of_numpy() {
        let mut confidences = Confidences::default();
        for (label, row) in golden::samples() {
            confidences.push(label, &row);
        }
        let found = confidences.finish();
        assert_eq!(found.bins.iter().map(|bin| bin.count).sum::<u64>(), 40);
        assert!(
            (found.expected_error - 0.293068717047572).abs() < 1e-9,
            "{}",
            found.expected_error
        );
        assert!((found.max_error - 0.442912298440933).abs() < 1e-9, "{}", found.max_error);
    }

    #[test]
    fn bins_include_their_upper_end() {
        let mut confidences = Confidences::default();
        // Right with certainty, wrong with certainty, and no probability at all.
        confidences.push(0, &[1.0, 0.0]);
        confidences.push(1, &[1.0, 0.0]);
        confidences.push(0, &[]);
        let found = confidences.finish();
        assert_eq!(found.bins.len(), BINS);
        let last = CalibrationBin { count: 2, confidence: 1.0, accuracy: 0.5 };
        assert_eq!((found.bins[14], found.bins[0].count), (last, 1));
        assert_eq!(Confidences::default().finish().expected_error, 0.0);
    }
}
