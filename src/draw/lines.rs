//! Lines over a common x, such as losses by epoch.

use super::scale::drawable;
use super::{COLORS, Scale, Unit, escape};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Height of the plot and of the strip below it that holds the x axis' numbers, in pixels.
const HEIGHT: f64 = 210.0;
const BELOW: f64 = 38.0;

/// More points than this are thinned out: no screen shows more.
const MOST_POINTS: usize = 600;

/// Side of the square that paths are drawn in; it is stretched to the plot.
const SQUARE: f64 = 1000.0;

/// A line chart.
#[derive(Clone, Debug)]
pub struct Lines {
    /// Its heading.
    pub title: String,
    /// What the x axis counts: "epoch".
    pub x: String,
    /// How x is written.
    pub x_unit: Unit,
    /// How y is written.
    pub y_unit: Unit,
    /// The lines, in the order of the legend.
    pub series: Vec<Series>,
    /// Points that stand out.
    pub marks: Vec<Mark>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its color in the palette.
    pub color: usize,
    /// Whether it is drawn with dashes.
    pub dashed: bool,
    /// (x, y), x ascending.
    pub points: Vec<(f64, f64)>,
}

/// A point that stands out.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Which line it is on.
    pub series: usize,
    /// Its x.
    pub x: f64,
    /// What it is: "best, epoch 7".
    pub label: String,
}

impl Lines {
    /// The chart as HTML: a figure with its legend and the SVG. Empty where there is nothing to draw.
    pub fn draw(&self) -> String {
        let series: Vec<Vec<(f64, f64)>> =
            self.series.iter().map(|series| thinned(&series.points)).collect();
        let all = || series.iter().flatten();
        if all().next().is_none() {
            return String::new();
        }
        let x = Scale::tight(all().map(|point| point.0), 8, self.x_unit);
        let y = Scale::round(all().map(|point| point.1), 4, self.y_unit);
        let mut svg = String::new();
        let _ = write!(
            svg,
            r#"<figure class="chart"><figcaption><b>{}</b>{}</figcaption><svg class="plot" role="img" aria-label="{}" height="{:.0}" style="--left:52px;--right:14px"><desc>{}</desc>"#,
            escape(&self.title),
            self.legend(),
            escape(&format!("{} by {}", self.title, self.x)),
            HEIGHT + BELOW,
            escape(&self.description()),
        );
        self.axes(&mut svg, &x, &y);
        self.bands(&mut svg, &x, &series);
        let _ = write!(
            svg,
            r#"<svg class="through" width="100%" height="{HEIGHT:.0}" viewBox="0 0 {SQUARE:.0} {SQUARE:.0}" preserveAspectRatio="none">"#
        );
        for (series, points) in self.series.iter().zip(&series) {
            let _ = write!(
                svg,
                r#"<path class="line {}{}" d="{}"/>"#,
                color(series.color),
                dash(series),
                path(points, &x, &y)
            );
        }
        svg.push_str("</svg>");
        self.draw_marks(&mut svg, &x, &y);
        svg.push_str("</svg></figure>");
        svg
    }

    fn legend(&self) -> String {
        let mut legend = String::from(r#"<span class="legend">"#);
        for series in &self.series {
            let _ = write!(
                legend,
                r#"<span><svg class="key" width="22" height="10" aria-hidden="true"><line class="line {}{}" x1="1" x2="21" y1="5" y2="5"/></svg>{}</span>"#,
                color(series.color),
                dash(series),
                escape(&series.name)
            );
        }
        legend.push_str("</span>");
        legend
    }

    /// Where each line starts and ends, for those who don't see it.
    fn description(&self) -> String {
        let ends = self.series.iter().filter_map(|series| {
            let mut points = series.points.iter().filter(|point| drawable(point.1));
            let first = points.next()?;
            let last = points.next_back().unwrap_or(first);
            Some(format!("{}: from {} to {}", series.name, self.value(first.1), self.value(last.1)))
        });
        ends.collect::<Vec<_>>().join("; ")
    }

    fn value(&self, value: f64) -> String {
        match self.y_unit {
            Unit::Share => super::percent(value),
            Unit::Whole => format!("{value:.0}"),
            Unit::Number if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) => {
                format!("{value:.3e}")
            }
            Unit::Number => format!("{value:.4}"),
        }
    }

    fn axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        for (value, text) in y.ticks() {
            let at = HEIGHT * (1.0 - y.place(value));
            let _ = write!(
                svg,
                r#"<line class="grid" x2="100%" y1="{at:.1}" y2="{at:.1}"/><text class="tick end" x="-8" y="{at:.1}" dy=".32em">{text}</text>"#
            );
        }
        for (value, text) in x.ticks() {
            let at = 100.0 * x.place(value);
            let _ = write!(
                svg,
                r#"<text class="tick middle" x="{at:.2}%" y="{:.0}">{text}</text>"#,
                HEIGHT + 16.0
            );
        }
        let _ = write!(
            svg,
            r#"<text class="axis middle" x="50%" y="{:.0}">{}</text>"#,
            HEIGHT + 33.0,
            escape(&self.x)
        );
    }

    /// A strip for each x: hovering it tells every line's value there.
    fn bands(&self, svg: &mut String, x: &Scale, series: &[Vec<(f64, f64)>]) {
        let mut strips: BTreeMap<u64, (f64, String)> = BTreeMap::new();
        for (series, points) in self.series.iter().zip(series) {
            for &(at, value) in points {
                let place = x.place(at);
                let (_, text) = strips
                    .entry(place.to_bits())
                    .or_insert_with(|| (place, format!("{} {}", self.x, short(at))));
                let _ = write!(text, "\n{}: {}", series.name, self.value(value));
            }
        }
        let places: Vec<f64> = strips.values().map(|(place, _)| *place).collect();
        for (index, (place, text)) in strips.values().enumerate() {
            let before = index
                .checked_sub(1)
                .and_then(|index| places.get(index))
                .map_or(0.0, |other| (other + place) / 2.0);
            let after = places.get(index + 1).map_or(1.0, |other| (other + place) / 2.0);
            let _ = write!(
                svg,
                r#"<rect class="band" x="{:.2}%" width="{:.2}%" height="{HEIGHT:.0}"><title>{}</title></rect>"#,
                100.0 * before,
                100.0 * (after - before),
                escape(text)
            );
        }
    }

    fn draw_marks(&self, svg: &mut String, x: &Scale, y: &Scale) {
        for mark in &self.marks {
            let Some(series) = self.series.get(mark.series) else { continue };
            let Some(&(_, value)) =
                series.points.iter().find(|(at, value)| *at == mark.x && drawable(*value))
            else {
                continue;
            };
            let (across, down) = (100.0 * x.place(mark.x), HEIGHT * (1.0 - y.place(value)));
            let _ = write!(
                svg,
                r#"<circle class="mark {}" cx="{across:.2}%" cy="{down:.1}" r="4.5"><title>{}: {}</title></circle>"#,
                color(series.color),
                escape(&mark.label),
                escape(&self.value(value))
            );
            // One label is a help, several lie on one another.
            if self.marks.len() == 1 {
                let (anchor, dx) = if across > 50.0 { ("end", -8) } else { ("start", 8) };
                let dy = if down > HEIGHT / 2.0 { down - 10.0 } else { down + 20.0 };
                let _ = write!(
                    svg,
                    r#"<text class="note {anchor}" x="{across:.2}%" dx="{dx}" y="{dy:.1}">{}</text>"#,
                    escape(&mark.label)
                );
            }
        }
    }
}

/// The points that can be drawn, every nth where there are too many; first and last stay.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> =
        points.iter().copied().filter(|(x, y)| drawable(*x) && drawable(*y)).collect();
    let every = points.len().div_ceil(MOST_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points
        .iter()
        .enumerate()
        .filter(|(index, _)| index % every == 0 || *index == last)
        .map(|(_, point)| *point)
        .collect()
}

/// A path through the points; a lone point is a short stroke, so that it is seen.
fn path(points: &[(f64, f64)], x: &Scale, y: &Scale) -> String {
    let mut path = String::new();
    for (index, point) in points.iter().enumerate() {
        let letter = if index == 0 { 'M' } else { 'L' };
        let _ = write!(
            path,
            "{letter}{:.1} {:.1}",
            SQUARE * x.place(point.0),
            SQUARE * (1.0 - y.place(point.1))
        );
    }
    if points.len() == 1 {
        path.push_str("h6");
    }
    path
}

fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn color(index: usize) -> String {
    format!("c{}", index % COLORS + 1)
}

fn dash(series: &Series) -> &'static str {
    if series.dashed { " dashed" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chart(points: Vec<(f64, f64)>) -> Lines {
        let series = vec![Series { name: "a<b".to_owned(), color: 7, dashed: true, points }];
        let marks = vec![
            Mark { series: 0, x: 2.0, label: "best".to_owned() },
            Mark { series: 9, x: 0.0, label: String::new() },
        ];
        let (title, x) = ("Loss & more".to_owned(), "epoch".to_owned());
        Lines { title, x, x_unit: Unit::Whole, y_unit: Unit::Number, series, marks }
    }

    #[test]
    fn nothing_drawable_draws_nothing() {
        assert_eq!(chart(vec![]).draw(), "");
        assert_eq!(chart(vec![(1.0, f64::NAN), (f64::INFINITY, 1.0)]).draw(), "");
    }

    #[test]
    fn a_chart_names_its_lines_and_values() {
        let svg = chart(vec![(1.0, 2.0), (2.0, 0.5)]).draw();
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
    fn a_long_history_is_thinned() {
        let svg =
            chart((0..100_000).map(|x| (f64::from(x), 1.0 / f64::from(x + 1))).collect()).draw();
        assert!(svg.len() < 150_000, "{}", svg.len());
        assert!(svg.contains("epoch 99999"));
    }

    proptest! {
        #[test]
        fn any_numbers_draw(points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..20)) {
            let svg = chart(points).draw();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
            prop_assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        }
    }
}
