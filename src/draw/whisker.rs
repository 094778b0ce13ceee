//! A share with its interval as a thin line, for a cell of a table. The cell says the numbers.

use super::figure::{px, width};
use maud::{Markup, html};

/// Height in pixels.
const HEIGHT: f64 = 10.0;

/// A line from 0 to 1 with the interval and the share on it; values beyond are drawn at the nearer
/// end. Empty where the numbers aren't finite.
pub(crate) fn whisker(share: f64, [low, high]: [f64; 2]) -> Markup {
    if ![share, low, high].iter().all(|value| value.is_finite()) {
        return Markup::default();
    }
    let [share, low, high] = [share, low, high].map(|value| width(value.clamp(0.0, 1.0)));
    let middle = px(HEIGHT / 2.0);
    html! {
        svg.whisker aria-hidden="true" width="100%" height=(HEIGHT) {
            line.rail x2="100%" y1=(middle) y2=(middle) {}
            line.reach x1=(low) x2=(high) y1=(middle) y2=(middle) {}
            circle.dot cx=(share) cy=(middle) r="3.5" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_values_are_drawn(share: f64, ends: [f64; 2]) {
            let svg = whisker(share, ends).into_string();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
        }
    }
}
