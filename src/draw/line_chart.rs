//! Lines over a common x axis, such as losses by epoch.

use super::figure::{Plot, X_AXIS, figure, px, width, x_axis, y_axis};
use super::scale::is_drawable;
use super::{COLORS, Scale, Unit, percent};
use maud::{Markup, html};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Height of the plot area, in pixels.
const HEIGHT: f64 = 210.0;

/// Longer series are thinned to this many points: no screen shows more.
const MAX_POINTS: usize = 600;

/// The number of tooltips of a chart on the unit square.
const TOOLTIPS: usize = 40;

/// Side of the square that paths are drawn in; the browser stretches it to the plot area.
const SQUARE: f64 = 1000.0;

/// A line chart.
#[derive(Clone, Debug)]
pub(crate) struct LineChart {
    pub title: String,
    /// The quantity on the x axis: "epoch".
    pub x_label: String,
    pub x_unit: Unit,
    pub y_unit: Unit,
    pub axes: Axes,
    /// In the order of the legend.
    pub series: Vec<Series>,
    pub markers: Vec<Marker>,
}

/// The ends of the axes, and where tooltips are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Axes {
    /// Axes that cover the values, with a tooltip at each x of a series.
    #[default]
    Fitted,
    /// Both axes from 0 to 1, with tooltips at equal distances, interpolated: for curves whose
    /// points have no x in common.
    Unit,
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub name: String,
    /// An index into the palette, modulo [`COLORS`].
    pub color: usize,
    pub dashed: bool,
    /// (x, y), x ascending.
    pub points: Vec<(f64, f64)>,
}

/// A highlighted point of a series.
#[derive(Clone, Debug)]
pub(crate) struct Marker {
    /// An index into [`LineChart::series`].
    pub series: usize,
    pub x: f64,
    /// "best, epoch 7".
    pub label: String,
}

impl LineChart {
    /// The chart as HTML: a figure with its legend and the SVG. Empty where there is nothing to
    /// draw.
    pub(crate) fn render(&self) -> Markup {
        let series: Vec<Vec<(f64, f64)>> =
            self.series.iter().map(|series| thinned(&series.points)).collect();
        let all = || series.iter().flatten();
        if all().next().is_none() {
            return Markup::default();
        }
        let (x, y) = match self.axes {
            Axes::Fitted => (
                Scale::tight(all().map(|point| point.0), 8, self.x_unit),
                Scale::nice(all().map(|point| point.1), 4, self.y_unit),
            ),
            Axes::Unit => {
                (Scale::tight([0.0, 1.0], 5, self.x_unit), Scale::tight([0.0, 1.0], 5, self.y_unit))
            }
        };
        let plot = Plot {
            label: &format!("{} by {}", self.title, self.x_label),
            description: &self.description(),
            height: HEIGHT + X_AXIS,
            margins: [52.0, 14.0],
        };
        let content = html! {
            (y_axis(&y, HEIGHT))
            (x_axis(&x, HEIGHT, &self.x_label))
            @match self.axes {
                Axes::Fitted => { (self.bands(&x, &series)) }
                Axes::Unit => { (self.bands(&x, &interpolated(&series))) }
            }
            svg.through width="100%" height=(HEIGHT) viewBox=(format_args!("0 0 {SQUARE} {SQUARE}"))
                preserveAspectRatio="none" {
                @for (series, points) in self.series.iter().zip(&series) {
                    path.line.(series.class()).dashed[series.dashed] d=(path(points, &x, &y)) {}
                }
            }
            @for marker in &self.markers { (self.marker(marker, &x, &y)) }
        };
        figure(&self.title, &self.legend(), &plot.render(&content))
    }

    fn legend(&self) -> Markup {
        html! {
            span.legend {
                @for series in &self.series {
                    span {
                        svg.key width="22" height="10" aria-hidden="true" {
                            line.line.(series.class()).dashed[series.dashed] x1="1" x2="21" y1="5" y2="5" {}
                        }
                        (series.name)
                    }
                }
            }
        }
    }

    /// The first and last value of each line, for readers that don't see the plot.
    fn description(&self) -> String {
        let ends = self.series.iter().filter_map(|series| {
            let mut points = series.points.iter().filter(|point| is_drawable(point.1));
            let first = points.next()?;
            let last = points.next_back().unwrap_or(first);
            Some(format!("{}: from {} to {}", series.name, self.value(first.1), self.value(last.1)))
        });
        ends.collect::<Vec<_>>().join("; ")
    }

    fn at(&self, x: f64) -> String {
        match self.x_unit {
            Unit::Share => percent(x),
            _ if x.fract() == 0.0 => format!("{x:.0}"),
            _ => format!("{x:.3}"),
        }
    }

    fn value(&self, value: f64) -> String {
        match self.y_unit {
            Unit::Share => percent(value),
            Unit::Whole => format!("{value:.0}"),
            Unit::Number if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) => {
                format!("{value:.3e}")
            }
            Unit::Number => format!("{value:.4}"),
        }
    }

    /// An invisible strip for each x, whose tooltip shows the value of every line there.
    fn bands(&self, x: &Scale, series: &[Vec<(f64, f64)>]) -> Markup {
        // Positions are at least 0, so that their bits have their order.
        let mut tooltips: BTreeMap<u64, String> = BTreeMap::new();
        for (series, points) in self.series.iter().zip(series) {
            for &(at, value) in points {
                let tooltip = tooltips
                    .entry(x.position(at).to_bits())
                    .or_insert_with(|| format!("{} {}", self.x_label, self.at(at)));
                let _ = write!(tooltip, "\n{}: {}", series.name, self.value(value));
            }
        }
        let positions: Vec<f64> = tooltips.keys().map(|bits| f64::from_bits(*bits)).collect();
        let between = positions.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
        let edges: Vec<f64> = [0.0].into_iter().chain(between).chain([1.0]).collect();
        html! {
            @for (edge, tooltip) in edges.windows(2).zip(tooltips.values()) {
                rect.band x=(width(edge[0])) width=(width(edge[1] - edge[0])) height=(HEIGHT) {
                    title { (tooltip) }
                }
            }
        }
    }

    fn marker(&self, marker: &Marker, x: &Scale, y: &Scale) -> Markup {
        let Some(series) = self.series.get(marker.series) else { return Markup::default() };
        let is_marked = |point: &&(f64, f64)| {
            point.0 == marker.x && is_drawable(point.0) && is_drawable(point.1)
        };
        let Some(&(_, value)) = series.points.iter().find(is_marked) else {
            return Markup::default();
        };
        let (across, down) = (x.position(marker.x), HEIGHT * (1.0 - y.position(value)));
        let (anchor, dx) = if across > 0.5 { ("end", -8) } else { ("start", 8) };
        let label_y = if down > HEIGHT / 2.0 { down - 10.0 } else { down + 20.0 };
        html! {
            circle.mark.(series.class()) cx=(width(across)) cy=(px(down)) r="4.5" {
                title { (marker.label) ": " (self.value(value)) }
            }
            // Several labels would overlap.
            @if self.markers.len() == 1 {
                text.note.(anchor) x=(width(across)) dx=(dx) y=(px(label_y)) { (marker.label) }
            }
        }
    }
}

impl Series {
    /// The CSS class of the color.
    fn class(&self) -> String {
        format!("c{}", self.color % COLORS + 1)
    }
}

/// The points that can be drawn, every nth where there are too many; the first and the last stay.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> =
        points.iter().copied().filter(|(x, y)| is_drawable(*x) && is_drawable(*y)).collect();
    let every = points.len().div_ceil(MAX_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points
        .iter()
        .enumerate()
        .filter(|(index, _)| index % every == 0 || *index == last)
        .map(|(_, point)| *point)
        .collect()
}

/// A path through the points; a single point becomes a short stroke, which is visible.
fn path(points: &[(f64, f64)], x: &Scale, y: &Scale) -> String {
    let mut path = String::new();
    for (index, point) in points.iter().enumerate() {
        let letter = if index == 0 { 'M' } else { 'L' };
        let (across, down) = (SQUARE * x.position(point.0), SQUARE * (1.0 - y.position(point.1)));
        let _ = write!(path, "{letter}{across:.1} {down:.1}");
    }
    if points.len() == 1 {
        path.push_str("h6");
    }
    path
}

/// The series at equal distances from 0 to 1, between two points on the straight line, within the
/// range of each.
fn interpolated(series: &[Vec<(f64, f64)>]) -> Vec<Vec<(f64, f64)>> {
    let value = |points: &[(f64, f64)], x: f64| {
        let after = points.iter().position(|point| point.0 >= x)?;
        let (x1, y1) = points[after];
        if x1 == x {
            return Some((x, y1));
        }
        let (x0, y0) = *points.get(after.checked_sub(1)?)?;
        Some((x, y0 + (y1 - y0) * (x - x0) / (x1 - x0)))
    };
    let grid = || (0..=TOOLTIPS).map(|step| step as f64 / TOOLTIPS as f64);
    series.iter().map(|points| grid().filter_map(|x| value(points, x)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render(points: Vec<(f64, f64)>) -> String {
        let series = vec![Series { name: "a<b".to_owned(), color: 7, dashed: true, points }];
        let markers = vec![
            Marker { series: 0, x: 2.0, label: "best".to_owned() },
            Marker { series: 9, x: 0.0, label: String::new() },
        ];
        let (title, x_label) = ("Loss & more".to_owned(), "epoch".to_owned());
        let (x_unit, y_unit) = (Unit::Whole, Unit::Number);
        let axes = Axes::Fitted;
        LineChart { title, x_label, x_unit, y_unit, axes, series, markers }.render().into_string()
    }

    #[test]
    fn a_chart_without_finite_values_is_empty() {
        assert_eq!(render(vec![]), "");
        assert_eq!(render(vec![(1.0, f64::NAN), (f64::INFINITY, 1.0)]), "");
    }

    #[test]
    fn a_chart_names_its_lines_and_values() {
        let svg = render(vec![(1.0, 2.0), (2.0, 0.5)]);
        assert!(svg.contains(r#"d="M0.0 0.0L1000.0 1000.0""#), "{svg}");
        for part in [
            "Loss &amp; more",
            "a&lt;b",
            "epoch 2\na&lt;b: 0.5000",
            "from 2.0000 to 0.5000",
            "best",
            "c2 dashed",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
    }

    #[test]
    fn a_chart_on_the_unit_square_has_its_tooltips_between_the_points() {
        let line = |name: &str, points: &[(f64, f64)]| Series {
            name: name.to_owned(),
            color: 0,
            dashed: false,
            points: points.to_vec(),
        };
        let chart = LineChart {
            title: String::new(),
            x_label: "recall".to_owned(),
            x_unit: Unit::Share,
            y_unit: Unit::Share,
            axes: Axes::Unit,
            series: vec![
                line("a", &[(0.0, 0.0), (1.0, 0.5)]),
                line("b", &[(0.3, 0.2), (0.4, 0.3)]),
            ],
            markers: Vec::new(),
        };
        let svg = chart.render().into_string();
        assert_eq!(svg.matches("<rect").count(), TOOLTIPS + 1);
        let plain = svg.replace('\u{202f}', " ");
        for part in ["recall 35.0 %\na: 17.5 %\nb: 25.0 %<", "recall 97.5 %\na: 48.8 %<"] {
            assert!(plain.contains(part), "{part} in {plain}");
        }
        assert!(svg.contains(r#"d="M0.0 1000.0L1000.0 500.0""#), "{svg}");
    }

    #[test]
    fn a_long_series_is_thinned() {
        let svg = render((0..100_000).map(|x| (f64::from(x), 1.0 / f64::from(x + 1))).collect());
        assert!(svg.len() < 150_000, "{}", svg.len());
        assert!(svg.contains("epoch 99999"));
    }

    proptest! {
        #[test]
        fn any_values_are_drawn(points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..20)) {
            let svg = render(points);
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
            prop_assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        }
    }
}
