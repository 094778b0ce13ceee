//! Counts over ranges of a number.

use super::scale::drawable;
use super::{Scale, Unit, escape};
use crate::common::number::thousands;
use std::fmt::Write;

/// Height of the plot and of the strip below it, in pixels.
const HEIGHT: f64 = 130.0;
const BELOW: f64 = 38.0;

/// A histogram.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// The heading.
    pub title: String,
    /// What is measured, with its unit: "shorter side, pixels".
    pub x: String,
    /// The ranges, ascending, each beginning where the one before ends.
    pub bins: Vec<Bin>,
}

/// How many values lie in one range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Where the range begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
    /// How many lie in it.
    pub count: u64,
}

impl Histogram {
    /// The chart as HTML. Empty where there is nothing to draw.
    pub fn draw(&self) -> String {
        let fits = |bin: &&Bin| drawable(bin.low) && drawable(bin.high) && bin.low < bin.high;
        let bins: Vec<&Bin> = self.bins.iter().filter(fits).collect();
        if bins.iter().all(|bin| bin.count == 0) {
            return String::new();
        }
        let x = Scale::tight(bins.iter().flat_map(|bin| [bin.low, bin.high]), 6, Unit::Number);
        let y = Scale::round(bins.iter().map(|bin| bin.count as f64).chain([0.0]), 3, Unit::Whole);
        let total: u64 = bins.iter().map(|bin| bin.count).fold(0, u64::saturating_add);
        let mut svg = format!(
            r#"<figure class="chart"><figcaption><b>{}</b></figcaption><svg class="plot" role="img" aria-label="{}" height="{:.0}" style="--left:52px;--right:14px"><desc>{}</desc>"#,
            escape(&self.title),
            escape(&format!("{} as a histogram", self.title)),
            HEIGHT + BELOW,
            escape(&format!("{} in {} ranges of {}", thousands(total), bins.len(), self.x)),
        );
        for (value, text) in y.ticks() {
            let at = HEIGHT * (1.0 - y.place(value));
            let _ = write!(
                svg,
                r#"<line class="grid" x2="100%" y1="{at:.1}" y2="{at:.1}"/><text class="tick end" x="-8" y="{at:.1}" dy=".32em">{text}</text>"#
            );
        }
        for bin in bins {
            let (low, high) = (x.place(bin.low), x.place(bin.high));
            let height = HEIGHT * y.place(bin.count as f64);
            // A sliver of the paper stays between two bars.
            let _ = write!(
                svg,
                r#"<g class="row"><title>{}</title><rect class="band" x="{:.2}%" width="{:.2}%" height="{HEIGHT:.0}"/><rect class="bar" x="{:.2}%" width="{:.2}%" y="{:.1}" height="{height:.1}"/></g>"#,
                escape(&format!(
                    "{} to {}: {}",
                    short(bin.low),
                    short(bin.high),
                    thousands(bin.count)
                )),
                100.0 * low,
                100.0 * (high - low),
                100.0 * low,
                (100.0 * (high - low) - 0.4).max(0.2),
                HEIGHT - height,
            );
        }
        for (value, text) in x.ticks() {
            let _ = write!(
                svg,
                r#"<text class="tick middle" x="{:.2}%" y="{:.0}">{text}</text>"#,
                100.0 * x.place(value),
                HEIGHT + 16.0
            );
        }
        let _ = write!(
            svg,
            r#"<text class="axis middle" x="50%" y="{:.0}">{}</text></svg></figure>"#,
            HEIGHT + 33.0,
            escape(&self.x)
        );
        svg
    }
}

fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bars_stand_where_their_ranges_are() {
        let bins = vec![
            Bin { low: 0.0, high: 100.0, count: 5 },
            Bin { low: 100.0, high: 400.0, count: 10 },
        ];
        let svg = Histogram { title: "Sides".to_owned(), x: "pixels".to_owned(), bins }.draw();
        for part in [
            r#"x="25.00%" width="74.60%" y="0.0" height="130.0""#,
            "100 to 400: 10",
            "15 in 2 ranges of pixels",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert_eq!(
            Histogram { title: String::new(), x: String::new(), bins: Vec::new() }.draw(),
            ""
        );
    }

    proptest! {
        #[test]
        fn any_numbers_draw(bins in prop::collection::vec(any::<(f64, f64, u64)>(), 0..8)) {
            let bins = bins.into_iter().map(|(low, high, count)| Bin { low, high, count }).collect();
            let svg = Histogram { title: String::new(), x: String::new(), bins }.draw();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
        }
    }
}
