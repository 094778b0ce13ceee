//! A share with its interval on a ruler from 0 to 100 %.

use super::{escape, percent};
use std::fmt::Write;

const HEIGHT: f64 = 46.0;
const MIDDLE: f64 = 14.0;

/// A share, what is known of it, and what it is held against.
#[derive(Clone, Debug)]
pub struct Interval {
    /// What it is the share of, for those who don't see it.
    pub about: String,
    /// The share, 0 to 1.
    pub value: f64,
    /// The ends of its interval.
    pub ends: [f64; 2],
    /// A share to hold it against, and its name.
    pub baseline: Option<(f64, String)>,
}

impl Interval {
    /// The ruler as SVG. Empty where the numbers aren't finite.
    pub fn draw(&self) -> String {
        let [low, high] = self.ends;
        if ![self.value, low, high].iter().all(|value| value.is_finite()) {
            return String::new();
        }
        // What lies beyond the ruler is drawn, and told, as its end.
        let [value, low, high] = [self.value, low, high].map(|share| share.clamp(0.0, 1.0));
        let at = |share: f64| 100.0 * share;
        let mut svg = format!(
            r#"<svg class="plot" role="img" aria-label="{}" height="{HEIGHT:.0}" style="--left:8px;--right:8px"><desc>{}</desc><line class="rail" x2="100%" y1="{MIDDLE}" y2="{MIDDLE}"/>"#,
            escape(&self.about),
            escape(&format!("{}, between {} and {}", percent(value), percent(low), percent(high))),
        );
        for tick in [0, 25, 50, 75, 100] {
            let anchor = match tick {
                0 => "start",
                100 => "end",
                _ => "middle",
            };
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{tick}%" x2="{tick}%" y1="{:.0}" y2="{:.0}"/><text class="tick {anchor}" x="{tick}%" y="{:.0}">{tick}{}</text>"#,
                MIDDLE + 5.0,
                MIDDLE + 11.0,
                MIDDLE + 26.0,
                if tick == 100 { "\u{202f}%" } else { "" },
            );
        }
        if let Some((share, name)) = self.baseline.as_ref().filter(|(share, _)| share.is_finite()) {
            let share = share.clamp(0.0, 1.0);
            let _ = write!(
                svg,
                r#"<g><title>{}</title><line class="baseline" x1="{:.2}%" x2="{:.2}%" y1="{:.0}" y2="{:.0}"/></g>"#,
                escape(&format!("{name}: {}", percent(share))),
                at(share),
                at(share),
                MIDDLE - 9.0,
                MIDDLE + 9.0,
            );
        }
        let _ = write!(
            svg,
            r#"<line class="reach" x1="{:.2}%" x2="{:.2}%" y1="{MIDDLE}" y2="{MIDDLE}"/><circle class="dot" cx="{:.2}%" cy="{MIDDLE}" r="5"/></svg>"#,
            at(low),
            at(high),
            at(value),
        );
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_numbers_draw(value: f64, ends: [f64; 2], baseline: f64) {
            let svg = Interval { about: String::new(), value, ends, baseline: Some((baseline, "<b>".to_owned())) }.draw();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<b>"), "{}", svg);
        }
    }
}
