//! Histograms with round bins.

use serde::{Deserialize, Serialize};

/// Approximate number of bins of a histogram.
const BINS: f64 = 20.0;

/// A bin of a histogram: values from `low` (inclusive) to `high` (exclusive).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Bin {
    pub low: f64,
    pub high: f64,
    pub count: u64,
}

/// A histogram whose bin width is 1, 2 or 5 times a power of ten, and at least `min_width`. The
/// lowest and the highest percent of the values are in the outermost bins, so that outliers don't
/// flatten the rest.
pub(super) fn bins(values: &[f64], min_width: f64) -> Vec<Bin> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        sorted.get((share * sorted.len().saturating_sub(1) as f64).round() as usize).copied()
    };
    let (Some(low), Some(high)) = (at(0.01), at(0.99)) else { return Vec::new() };
    let rough = ((high - low) / BINS).max(min_width);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(power * 10.0);
    let first = (low / step + 1e-9).floor();
    let count = ((high / step + 1e-9).floor() - first) as usize + 1;
    // Rounded to decimals: 0.3, not 0.30000000000000004.
    let edge = |index: usize| ((first + index as f64) * step * 1e6).round() / 1e6;
    let mut bins: Vec<Bin> =
        (0..count).map(|at| Bin { low: edge(at), high: edge(at + 1), count: 0 }).collect();
    for value in &sorted {
        let index = ((value / step + 1e-9).floor() - first).max(0.0) as usize;
        if let Some(bin) = bins.get_mut(index.min(count - 1)) {
            bin.count += 1;
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_is_in_a_bin(values in proptest::collection::vec(0.001f64..5000.0, 0..200), fine in any::<bool>()) {
            let bins = bins(&values, if fine { 0.01 } else { 1.0 });
            prop_assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), values.len() as u64);
            prop_assert!(bins.len() <= 30);
            prop_assert!(bins.windows(2).all(|pair| pair[0].high == pair[1].low && pair[0].low < pair[0].high));
        }
    }
}
