//! A share with its confidence interval on a scale from 0 to 100 %.

use super::figure::{Plot, px, width};
use super::percent;
use maud::{Markup, html};

const HEIGHT: f64 = 46.0;
const MIDDLE: f64 = 14.0;

/// A share with its interval and a baseline. Values beyond 0..=1 are drawn and described as the
/// nearer end.
#[derive(Clone, Debug)]
pub(crate) struct Interval {
    /// The quantity, as the accessible name.
    pub description: String,
    /// The share, 0 to 1.
    pub value: f64,
    pub ends: [f64; 2],
    /// The share to compare with, and its name.
    pub baseline: Option<(f64, String)>,
}

impl Interval {
    /// The scale as SVG. Empty where the numbers aren't finite.
    pub(crate) fn render(&self) -> Markup {
        let [low, high] = self.ends;
        if ![self.value, low, high].iter().all(|value| value.is_finite()) {
            return Markup::default();
        }
        let [value, low, high] = [self.value, low, high].map(|share| share.clamp(0.0, 1.0));
        let plot = Plot {
            label: &self.description,
            description: &format!(
                "{}, between {} and {}",
                percent(value),
                percent(low),
                percent(high)
            ),
            height: HEIGHT,
            margins: [8.0, 8.0],
        };
        plot.render(&html! {
            line.rail x2="100%" y1=(MIDDLE) y2=(MIDDLE) {}
            @for (percent, anchor) in [(0, "start"), (25, "middle"), (50, "middle"), (75, "middle"), (100, "end")] {
                @let x = format!("{percent}%");
                line.grid x1=(x) x2=(x) y1=(px(MIDDLE + 5.0)) y2=(px(MIDDLE + 11.0)) {}
                text.tick.(anchor) x=(x) y=(px(MIDDLE + 26.0)) {
                    (percent) @if percent == 100 { "\u{202f}%" }
                }
            }
            @if let Some((share, name)) = self.baseline.as_ref().filter(|(share, _)| share.is_finite()) {
                @let share = share.clamp(0.0, 1.0);
                g {
                    title { (name) ": " (percent(share)) }
                    line.baseline x1=(width(share)) x2=(width(share)) y1=(px(MIDDLE - 9.0)) y2=(px(MIDDLE + 9.0)) {}
                }
            }
            line.reach x1=(width(low)) x2=(width(high)) y1=(MIDDLE) y2=(MIDDLE) {}
            circle.dot cx=(width(value)) cy=(MIDDLE) r="5" {}
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_values_are_drawn(value: f64, ends: [f64; 2], baseline: f64) {
            let baseline = Some((baseline, "<b>".to_owned()));
            let svg = Interval { description: String::new(), value, ends, baseline }.render().into_string();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<b>"), "{}", svg);
        }
    }
}
