//! The frame that charts share: a figure with a caption, the SVG that is its plot, and the axes in
//! it.

use super::Scale;
use maud::{Markup, html};

/// Height of the strip below a plot, which holds the numbers and the label of its x axis, in
/// pixels.
pub(super) const X_AXIS: f64 = 38.0;

/// A length in pixels, as an attribute.
pub(super) fn px(value: f64) -> String {
    format!("{value:.1}")
}

/// A share of the plot's width in 0..=1, as an attribute.
pub(super) fn width(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

/// A figure: the title and what stands beside it, then `content`.
pub(super) fn figure(title: &str, legend: &Markup, content: &Markup) -> Markup {
    html! {
        figure.chart {
            figcaption { b { (title) } (legend) }
            (content)
        }
    }
}

/// The frame of a plot that is as wide as the page allows.
pub(super) struct Plot<'a> {
    /// The accessible name.
    pub(super) label: &'a str,
    /// The values in words, for readers that don't see the plot.
    pub(super) description: &'a str,
    /// In pixels.
    pub(super) height: f64,
    /// Margins to the left and right, in pixels.
    pub(super) margins: [f64; 2],
}

impl Plot<'_> {
    pub(super) fn render(&self, content: &Markup) -> Markup {
        let [left, right] = self.margins;
        html! {
            svg.plot role="img" aria-label=(self.label) height=(px(self.height))
                style=(format_args!("--left:{left:.0}px;--right:{right:.0}px")) {
                desc { (self.description) }
                (content)
            }
        }
    }
}

/// Grid lines with their values at the left, for a plot area of `height` pixels.
pub(super) fn y_axis(scale: &Scale, height: f64) -> Markup {
    html! {
        @for (value, text) in scale.ticks() {
            @let y = px(height * (1.0 - scale.position(value)));
            line.grid x2="100%" y1=(y) y2=(y) {}
            text.tick.end x="-8" y=(y) dy=".32em" { (text) }
        }
    }
}

/// Values and the label below a plot area of `height` pixels.
pub(super) fn x_axis(scale: &Scale, height: f64, label: &str) -> Markup {
    html! {
        @for (value, text) in scale.ticks() {
            text.tick.middle x=(width(scale.position(value))) y=(px(height + 16.0)) { (text) }
        }
        text.axis.middle x="50%" y=(px(height + 33.0)) { (label) }
    }
}
