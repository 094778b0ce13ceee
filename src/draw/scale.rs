//! Maps values to positions on an axis, and chooses round numbers for its ticks.

/// Larger values come from an overflow and not from a measurement; they and NaNs are left out of
/// charts.
const LARGEST: f64 = 1e30;

/// The format of the numbers along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Number,
    /// Integers: epochs, counts. No tick is placed between two of them.
    Whole,
    /// Shares from 0 to 1, written as percentages.
    Share,
}

/// A linear axis: its ends and the distance between its ticks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    step: f64,
    unit: Unit,
}

pub(super) fn is_drawable(value: f64) -> bool {
    value.abs() <= LARGEST
}

impl Scale {
    /// An axis that ends at ticks and covers all `values`, with about `ticks` steps. 0 to 1 where
    /// there are no values.
    pub(crate) fn nice(values: impl IntoIterator<Item = f64>, ticks: usize, unit: Unit) -> Scale {
        let scale = Scale::tight(values, ticks, unit);
        let Scale { low, high, step, .. } = scale;
        Scale { low: (low / step).floor() * step, high: (high / step).ceil() * step, ..scale }
    }

    /// An axis that ends at the smallest and largest of `values`, with about `ticks` steps within.
    pub(crate) fn tight(values: impl IntoIterator<Item = f64>, ticks: usize, unit: Unit) -> Scale {
        let ends = values.into_iter().filter(|value| is_drawable(*value)).fold(
            None,
            |ends: Option<(f64, f64)>, value| {
                let (low, high) = ends.unwrap_or((value, value));
                Some((low.min(value), high.max(value)))
            },
        );
        let (mut low, mut high) = ends.unwrap_or((0.0, 1.0));
        // Within rounding error of each other: treated as one value.
        if high - low <= 1e-9 * high.abs().max(low.abs()) || high - low < 1e-30 {
            let around = if unit == Unit::Whole { 1.0 } else { (0.1 * high.abs()).max(0.01) };
            (low, high) = (low - around, high + around);
        }
        let step = round_step((high - low) / ticks.max(1) as f64);
        Scale { low, high, step: if unit == Unit::Whole { step.max(1.0) } else { step }, unit }
    }

    /// The position of a value: 0 at the low end, 1 at the high end, clamped to that range. 0 for
    /// NaN.
    pub(crate) fn position(&self, value: f64) -> f64 {
        let position = (value - self.low) / (self.high - self.low);
        if position.is_nan() { 0.0 } else { position.clamp(0.0, 1.0) }
    }

    /// (value, text), ascending.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let slack = 1e-6;
        let first = (self.low / self.step - slack).ceil();
        let count = ((self.high / self.step + slack).floor() - first).clamp(0.0, 100.0) as usize;
        let value = |index: usize| (first + index as f64) * self.step;
        (0..=count).map(|index| (value(index), self.text(value(index)))).collect()
    }

    fn text(&self, value: f64) -> String {
        // Rounding may turn a tick at 0 into 1e-17.
        let value = if value.abs() < self.step / 2.0 { 0.0 } else { value };
        let (value, step, sign) = match self.unit {
            Unit::Share => (value * 100.0, self.step * 100.0, "\u{202f}%"),
            Unit::Number | Unit::Whole => (value, self.step, ""),
        };
        let decimals = (-(step * 1.0001).log10().floor()).max(0.0) as usize;
        if decimals > 6 || value.abs() >= 1e9 {
            format!("{value:.0e}{sign}")
        } else {
            format!("{value:.decimals$}{sign}")
        }
    }
}

/// The smallest of 1, 2, 5 and 10 times a power of ten that is at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let within = step / power;
    // Not 2.5: it would need one decimal more.
    let round =
        [1.0, 2.0, 5.0].into_iter().find(|round| within <= round * (1.0 + 1e-9)).unwrap_or(10.0);
    round * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(
            texts(&Scale::nice([0.0, 2.31], 5, Unit::Number)),
            ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]
        );
        assert_eq!(
            texts(&Scale::nice([0.62, 0.97], 4, Unit::Share)),
            ["60\u{202f}%", "70\u{202f}%", "80\u{202f}%", "90\u{202f}%", "100\u{202f}%"]
        );
        assert_eq!(texts(&Scale::tight([1.0, 3.0], 8, Unit::Whole)), ["1", "2", "3"]);
        assert_eq!(texts(&Scale::tight([1.0, 1.0], 8, Unit::Whole)), ["0", "1", "2"]);
        assert_eq!(texts(&Scale::nice([], 2, Unit::Number)), ["0.0", "0.5", "1.0"]);
        assert_eq!(
            texts(&Scale::nice([f64::NAN, f64::INFINITY, -1e300], 2, Unit::Number)).len(),
            3
        );
    }

    proptest! {
        #[test]
        fn ticks_ascend_and_positions_are_within_the_axis(values in prop::collection::vec(any::<f64>(), 0..6), ticks in 1usize..12, whole: bool) {
            let unit = if whole { Unit::Whole } else { Unit::Number };
            for scale in [Scale::nice(values.clone(), ticks, unit), Scale::tight(values.clone(), ticks, unit)] {
                let found = scale.ticks();
                prop_assert!(found.len() <= 101);
                prop_assert!(found.iter().all(|(value, _)| value.is_finite()));
                prop_assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "{found:?}");
                for &value in &values {
                    prop_assert!((0.0..=1.0).contains(&scale.position(value)));
                }
            }
        }

        #[test]
        fn a_nice_scale_covers_its_values(values in prop::collection::vec(-1e6..1e6f64, 1..6)) {
            let scale = Scale::nice(values.clone(), 5, Unit::Number);
            prop_assert!(scale.low <= scale.high);
            prop_assert!(values.iter().all(|value| *value >= scale.low - 1e-6 && *value <= scale.high + 1e-6));
            prop_assert!(scale.ticks().len() >= 2);
        }
    }
}
