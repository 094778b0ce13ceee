//! A confusion matrix as a heat map: counts, shaded by their share of the row. The diagonal, which
//! is correct, has another color than the errors.

use super::figure::{figure, px};
use super::{percent, shorten};
use crate::common::number::thousands;
use maud::{Markup, html};
use std::fmt::Write;

/// A square table of counts by true class (row) and predicted class (column).
#[derive(Clone, Debug)]
pub(crate) struct ConfusionMatrix {
    pub title: String,
    /// Names, in the order of rows and columns.
    pub classes: Vec<String>,
    /// Rows. They may be short or missing; counts beyond the classes are left out.
    pub counts: Vec<Vec<u64>>,
    /// Images of each row's class, where columns were left out and a row doesn't sum to them.
    pub totals: Option<Vec<u64>>,
}

/// Sizes and positions in pixels.
struct Layout {
    cell: f64,
    font: f64,
    /// Characters of a class's name that are shown.
    name: usize,
    slanted: bool,
    left: f64,
    top: f64,
    /// The side of the whole matrix.
    side: f64,
    /// Room for slanted names to the right of the last column.
    beyond: f64,
}

impl Layout {
    fn of(classes: &[String]) -> Layout {
        let (cell, font, name, slanted) = match classes.len() {
            0..=6 => (54.0, 13.0, 20, true),
            7..=12 => (44.0, 12.0, 18, true),
            13..=20 => (34.0, 11.0, 16, true),
            21..=32 => (24.0, 10.0, 16, false),
            33..=50 => (17.0, 9.5, 14, false),
            51..=70 => (13.0, 9.0, 14, false),
            _ => (10.0, 8.0, 14, false),
        };
        let longest = classes.iter().map(|class| class.chars().count().min(name)).max();
        let names = longest.unwrap_or(0) as f64 * font * 0.56 + 10.0;
        // Slanted names rise by the sine of 45 degrees, and the last one extends to the right as
        // far.
        let (above, beyond) =
            if slanted { (names * 0.71 + 12.0, names * 0.71) } else { (names + 4.0, 4.0) };
        let (left, top, side) = (names + 22.0, above + 20.0, cell * classes.len() as f64);
        Layout { cell, font, name, slanted, left, top, side, beyond }
    }

    fn x(&self, column: f64) -> f64 {
        self.left + self.cell * column
    }

    fn y(&self, row: f64) -> f64 {
        self.top + self.cell * row
    }

    /// Whether counts fit into the cells.
    fn has_numbers(&self) -> bool {
        self.cell >= 24.0
    }
}

impl ConfusionMatrix {
    /// The matrix as HTML; it shrinks where the page is narrower. Empty without classes.
    pub(crate) fn render(&self) -> Markup {
        if self.classes.is_empty() {
            return Markup::default();
        }
        let layout = Layout::of(&self.classes);
        let Layout { left, top, side, .. } = layout;
        let (width, height) = (left + side + layout.beyond, top + side + 2.0);
        let true_label = format!("translate(11 {:.1}) rotate(-90)", top + side / 2.0);
        let content = html! {
            svg.matrix role="img" aria-label=(self.title) width=(format_args!("{width:.0}"))
                height=(format_args!("{height:.0}")) viewBox=(format_args!("0 0 {width:.0} {height:.0}"))
                style=(format_args!("font-size:{:.1}px", layout.font)) {
                desc { (self.description()) }
                text.axis.middle x=(px(left + side / 2.0)) y="11" { "predicted" }
                text.axis.middle transform=(true_label) { "true" }
                rect.board x=(px(left)) y=(px(top)) width=(side) height=(side) {}
                path.mesh d=(self.grid(&layout)) {}
                (self.names(&layout))
                @for row in 0..self.classes.len() {
                    @for column in 0..self.classes.len() {
                        @if self.count(row, column) > 0 { (self.cell(&layout, row, column)) }
                    }
                }
            }
        };
        figure(&self.title, &Markup::default(), &content)
    }

    fn grid(&self, layout: &Layout) -> String {
        let Layout { left, top, side, .. } = layout;
        let mut path = String::new();
        for index in 1..self.classes.len() {
            let (x, y) = (layout.x(index as f64), layout.y(index as f64));
            let _ = write!(path, "M{x:.1} {top:.1}v{side:.0}M{left:.1} {y:.1}h{side:.0}");
        }
        path
    }

    fn names(&self, layout: &Layout) -> Markup {
        let angle = if layout.slanted { -45 } else { -90 };
        html! {
            @for (index, class) in self.classes.iter().enumerate() {
                @let name = shorten(class, layout.name);
                @let (x, y) = (layout.x(index as f64 + 0.5), layout.y(index as f64 + 0.5));
                @let above = format!("translate({x:.1} {:.1}) rotate({angle})", layout.top - 7.0);
                text.name.end x=(px(layout.left - 6.0)) y=(px(y)) dy=".33em" { (name) }
                text.name transform=(above) dy=".33em" { (name) }
            }
        }
    }

    fn cell(&self, layout: &Layout, row: usize, column: usize) -> Markup {
        let (count, total) = (self.count(row, column), self.total(row));
        let share = count as f64 / total as f64;
        let is_correct = row == column;
        // Errors are few: the square root makes them visible beside zero.
        let shade = if is_correct { 0.08 + 0.87 * share } else { 0.1 + 0.85 * share.sqrt() };
        let (x, y, cell) = (layout.x(column as f64), layout.y(row as f64), layout.cell);
        html! {
            rect.right[is_correct].wrong[!is_correct] x=(px(x)) y=(px(y)) width=(cell) height=(cell)
                fill-opacity=(format_args!("{shade:.2}")) {
                title {
                    (self.classes[row])
                    @if !is_correct { " predicted as " (self.classes[column]) }
                    ": " (thousands(count)) " of " (thousands(total))
                    @if is_correct { " correct" }
                    " (" (percent(share)) ")"
                }
            }
            @if layout.has_numbers() {
                text.count.middle.over[shade > 0.55] x=(px(x + cell / 2.0)) y=(px(y + cell / 2.0)) dy=".35em" {
                    (abbreviated(count, cell))
                }
            }
        }
    }

    fn count(&self, row: usize, column: usize) -> u64 {
        self.counts.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0)
    }

    /// Images of the row's class; at least the sum of the row.
    fn total(&self, row: usize) -> u64 {
        let shown = (0..self.classes.len())
            .map(|column| self.count(row, column))
            .fold(0, u64::saturating_add);
        self.totals.as_ref().and_then(|totals| totals.get(row)).copied().unwrap_or(0).max(shown)
    }

    fn description(&self) -> String {
        let rows = (0..self.classes.len()).take(40).filter(|row| self.total(*row) > 0);
        let texts = rows.map(|row| {
            format!("{} {} of {}", self.classes[row], self.count(row, row), self.total(row))
        });
        format!(
            "Rows are true classes, columns predicted ones. Correct: {}",
            texts.collect::<Vec<_>>().join(", ")
        )
    }
}

/// A count that fits into a cell: `1.2k` for 1,234 where there is no room.
fn abbreviated(count: u64, cell: f64) -> String {
    let digits = (cell / 8.0) as usize;
    let text = count.to_string();
    if text.len() <= digits.max(3) {
        return text;
    }
    match count {
        0..=9_999 => format!("{:.1}k", count as f64 / 1e3),
        10_000..=999_999 => format!("{}k", count / 1_000),
        _ => format!("{}M", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matrix(size: usize, counts: Vec<Vec<u64>>) -> ConfusionMatrix {
        let classes = (0..size).map(|class| format!("class <{class}>")).collect();
        ConfusionMatrix { title: "Confusion".to_owned(), classes, counts, totals: None }
    }

    #[test]
    fn tooltips_have_counts_and_shares_of_the_row() {
        let svg = matrix(2, vec![vec![3, 1], vec![0, 2]]).render().into_string();
        for part in [
            "class &lt;0&gt;: 3 of 4 correct (75.0\u{202f}%)",
            "class &lt;0&gt; predicted as class &lt;1&gt;: 1 of 4 (25.0\u{202f}%)",
            "2 of 2 correct",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert_eq!(svg.matches("<title>").count(), 3);
    }

    #[test]
    fn a_hundred_classes_fit_a_page() {
        let svg = matrix(100, vec![vec![7; 100]; 100]).render().into_string();
        assert!(svg.contains(r#"width="1"#) && svg.len() < 2_500_000, "{}", svg.len());
    }

    #[test]
    fn counts_fit_their_cells() {
        let texts = [7, 999, 1234, 45_678, 12_345_678].map(|count| abbreviated(count, 24.0));
        assert_eq!(texts, ["7", "999", "1.2k", "45k", "12M"]);
        assert_eq!(abbreviated(1234, 44.0), "1234");
    }

    proptest! {
        #[test]
        fn any_table_is_drawn(size in 0usize..8, counts in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..9), 0..9), totals in prop::collection::vec(any::<u64>(), 0..9)) {
            let matrix = ConfusionMatrix { totals: Some(totals), ..matrix(size, counts) };
            let svg = matrix.render().into_string();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
        }
    }
}
