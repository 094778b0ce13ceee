//! Counts by ranges of a value.

use super::figure::{self, Plot, X_AXIS, figure, px, x_axis, y_axis};
use super::scale::is_drawable;
use super::{Scale, Unit};
use crate::common::number::thousands;
use maud::{Markup, html};

/// Height of the plot area, in pixels.
const HEIGHT: f64 = 130.0;

/// The gap between two bars, as a share of the plot's width.
const GAP: f64 = 0.004;

/// A histogram.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    pub title: String,
    /// The quantity with its unit: "shorter side, pixels".
    pub x_label: String,
    /// Ascending; each bin begins where the one before it ends.
    pub bins: Vec<Bin>,
}

/// The number of values from `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bin {
    pub low: f64,
    pub high: f64,
    pub count: u64,
}

impl Histogram {
    /// The chart as HTML. Empty where there is nothing to draw.
    pub(crate) fn render(&self) -> Markup {
        let is_valid =
            |bin: &&Bin| is_drawable(bin.low) && is_drawable(bin.high) && bin.low < bin.high;
        let bins: Vec<&Bin> = self.bins.iter().filter(is_valid).collect();
        if bins.iter().all(|bin| bin.count == 0) {
            return Markup::default();
        }
        let x = Scale::tight(bins.iter().flat_map(|bin| [bin.low, bin.high]), 6, Unit::Number);
        let y = Scale::nice(bins.iter().map(|bin| bin.count as f64).chain([0.0]), 3, Unit::Whole);
        let total: u64 = bins.iter().map(|bin| bin.count).fold(0, u64::saturating_add);
        let plot = Plot {
            label: &format!("{} as a histogram", self.title),
            description: &format!(
                "{} in {} ranges of {}",
                thousands(total),
                bins.len(),
                self.x_label
            ),
            height: HEIGHT + X_AXIS,
            margins: [52.0, 14.0],
        };
        let content = html! {
            (y_axis(&y, HEIGHT))
            @for bin in bins { (bar(bin, &x, &y)) }
            (x_axis(&x, HEIGHT, &self.x_label))
        };
        figure(&self.title, &Markup::default(), &plot.render(&content))
    }
}

fn bar(bin: &Bin, x: &Scale, y: &Scale) -> Markup {
    let (low, high) = (x.position(bin.low), x.position(bin.high));
    let height = HEIGHT * y.position(bin.count as f64);
    let left = figure::width(low);
    let bar_width = figure::width((high - low - GAP).max(GAP / 2.0));
    html! {
        g.row {
            title { (short(bin.low)) " to " (short(bin.high)) ": " (thousands(bin.count)) }
            rect.band x=(left) width=(figure::width(high - low)) height=(HEIGHT) {}
            rect.bar x=(left) width=(bar_width) y=(px(HEIGHT - height)) height=(px(height)) {}
        }
    }
}

fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render(title: &str, x_label: &str, bins: Vec<Bin>) -> String {
        let (title, x_label) = (title.to_owned(), x_label.to_owned());
        Histogram { title, x_label, bins }.render().into_string()
    }

    #[test]
    fn bars_cover_their_ranges() {
        let bins = vec![
            Bin { low: 0.0, high: 100.0, count: 5 },
            Bin { low: 100.0, high: 400.0, count: 10 },
        ];
        let svg = render("Sides", "pixels", bins);
        for part in [
            r#"x="25.00%" width="74.60%" y="0.0" height="130.0""#,
            "100 to 400: 10",
            "15 in 2 ranges of pixels",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert_eq!(render("", "", Vec::new()), "");
    }

    proptest! {
        #[test]
        fn any_values_are_drawn(bins in prop::collection::vec(any::<(f64, f64, u64)>(), 0..8)) {
            let bins = bins.into_iter().map(|(low, high, count)| Bin { low, high, count }).collect();
            let svg = render("", "", bins);
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
        }
    }
}
