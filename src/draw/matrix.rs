//! A confusion matrix as a heat map: counts, shaded by their share of the row. What lies on the diagonal is right and
//! has another color than what is wrong.

use super::{escape, percent, shorten};
use crate::common::number::thousands;
use std::fmt::Write;

/// A square table of counts by true class (row) and predicted class (column).
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The heading.
    pub title: String,
    /// The classes' names, in the order of rows and columns.
    pub classes: Vec<String>,
    /// Row by row. Rows may be short or missing; what is beyond the classes is left out.
    pub counts: Vec<Vec<u64>>,
    /// Images of each row's class, where columns were left out and the row doesn't add up to them.
    pub totals: Option<Vec<u64>>,
}

/// Sizes in pixels, which depend on the number of classes alone.
struct Layout {
    cell: f64,
    letters: f64,
    name: usize,
    slanted: bool,
}

impl Layout {
    fn of(classes: usize) -> Layout {
        let (cell, letters, name, slanted) = match classes {
            0..=6 => (54.0, 13.0, 20, true),
            7..=12 => (44.0, 12.0, 18, true),
            13..=20 => (34.0, 11.0, 16, true),
            21..=32 => (24.0, 10.0, 16, false),
            33..=50 => (17.0, 9.5, 14, false),
            51..=70 => (13.0, 9.0, 14, false),
            _ => (10.0, 8.0, 14, false),
        };
        Layout { cell, letters, name, slanted }
    }

    /// Whether counts are written into the cells.
    fn numbers(&self) -> bool {
        self.cell >= 24.0
    }

    /// Room that the longest name takes.
    fn name_width(&self, classes: &[String]) -> f64 {
        let longest =
            classes.iter().map(|class| class.chars().count().min(self.name)).max().unwrap_or(0);
        longest as f64 * self.letters * 0.56 + 10.0
    }
}

impl Matrix {
    /// The matrix as HTML, in a box of its own that scrolls where the page is narrower. Empty without classes.
    pub fn draw(&self) -> String {
        let size = self.classes.len();
        if size == 0 {
            return String::new();
        }
        let layout = Layout::of(size);
        let names = layout.name_width(&self.classes);
        // Slanted names rise by the sine of their angle, and the last one leans out to the right.
        let (above, beyond) =
            if layout.slanted { (names * 0.71 + 12.0, names * 0.71) } else { (names + 4.0, 4.0) };
        let (left, top, side) = (names + 22.0, above + 20.0, layout.cell * size as f64);
        let (width, height) = (left + side + beyond, top + side + 2.0);
        let mut svg = format!(
            r#"<figure class="chart"><figcaption><b>{}</b></figcaption><div class="scroll"><svg class="matrix" role="img" aria-label="{}" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" style="font-size:{:.1}px"><desc>{}</desc>"#,
            escape(&self.title),
            escape(&self.title),
            layout.letters,
            escape(&self.description()),
        );
        let _ = write!(
            svg,
            r#"<text class="axis middle" x="{:.1}" y="11">predicted</text><text class="axis middle" transform="translate(11 {:.1}) rotate(-90)">true</text><rect class="board" x="{left:.1}" y="{top:.1}" width="{side:.0}" height="{side:.0}"/>"#,
            left + side / 2.0,
            top + side / 2.0,
        );
        self.draw_grid(&mut svg, &layout, left, top);
        self.draw_names(&mut svg, &layout, left, top);
        self.draw_cells(&mut svg, &layout, left, top);
        svg.push_str("</svg></div></figure>");
        svg
    }

    fn draw_grid(&self, svg: &mut String, layout: &Layout, left: f64, top: f64) {
        let side = layout.cell * self.classes.len() as f64;
        let mut path = String::new();
        for index in 1..self.classes.len() {
            let at = layout.cell * index as f64;
            let _ = write!(
                path,
                "M{:.1} {top:.1}v{side:.0}M{left:.1} {:.1}h{side:.0}",
                left + at,
                top + at
            );
        }
        let _ = write!(svg, r#"<path class="mesh" d="{path}"/>"#);
    }

    fn draw_names(&self, svg: &mut String, layout: &Layout, left: f64, top: f64) {
        let angle = if layout.slanted { -45 } else { -90 };
        for (index, class) in self.classes.iter().enumerate() {
            let middle = layout.cell * (index as f64 + 0.5);
            let name = escape(&shorten(class, layout.name));
            let _ = write!(
                svg,
                r#"<text class="name end" x="{:.1}" y="{:.1}" dy=".33em">{name}</text><text class="name" transform="translate({:.1} {:.1}) rotate({angle})" dy=".33em">{name}</text>"#,
                left - 6.0,
                top + middle,
                left + middle,
                top - 7.0,
            );
        }
    }

    fn draw_cells(&self, svg: &mut String, layout: &Layout, left: f64, top: f64) {
        for row in 0..self.classes.len() {
            for column in 0..self.classes.len() {
                let count = self.count(row, column);
                if count > 0 {
                    let (x, y) =
                        (left + layout.cell * column as f64, top + layout.cell * row as f64);
                    self.draw_cell(svg, layout, (row, column), (x, y));
                }
            }
        }
    }

    fn draw_cell(
        &self,
        svg: &mut String,
        layout: &Layout,
        (row, column): (usize, usize),
        (x, y): (f64, f64),
    ) {
        let (count, total) = (self.count(row, column), self.total(row));
        let share = count as f64 / total as f64;
        // Errors are few: by their root they can be told from none at all.
        let shade = if row == column { 0.08 + 0.87 * share } else { 0.1 + 0.85 * share.sqrt() };
        let class = if row == column { "right" } else { "wrong" };
        let (truth, guess) = (&self.classes[row], &self.classes[column]);
        let hover = if row == column {
            format!(
                "{truth}: {} of {} right ({})",
                thousands(count),
                thousands(total),
                percent(share)
            )
        } else {
            format!(
                "{truth} taken for {guess}: {} of {} ({})",
                thousands(count),
                thousands(total),
                percent(share)
            )
        };
        let cell = layout.cell;
        let _ = write!(
            svg,
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{cell:.0}" height="{cell:.0}" fill-opacity="{shade:.2}"><title>{}</title></rect>"#,
            escape(&hover)
        );
        if layout.numbers() {
            let text = brief(count, cell);
            let over = if shade > 0.55 { " over" } else { "" };
            let _ = write!(
                svg,
                r#"<text class="count middle{over}" x="{:.1}" y="{:.1}" dy=".35em">{text}</text>"#,
                x + cell / 2.0,
                y + cell / 2.0
            );
        }
    }

    fn count(&self, row: usize, column: usize) -> u64 {
        self.counts.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0)
    }

    /// Images of the row's class; never below what the row shows.
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
            "Rows are true classes, columns predicted ones. Right: {}",
            texts.collect::<Vec<_>>().join(", ")
        )
    }
}

/// A count that fits into a cell: `1234` as `1.2k` where there is no room.
fn brief(count: u64, cell: f64) -> String {
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

    fn matrix(size: usize, counts: Vec<Vec<u64>>) -> Matrix {
        let classes = (0..size).map(|class| format!("class <{class}>")).collect();
        Matrix { title: "Confusion".to_owned(), classes, counts, totals: None }
    }

    #[test]
    fn cells_tell_counts_and_shares_of_their_row() {
        let svg = matrix(2, vec![vec![3, 1], vec![0, 2]]).draw();
        let three = "class &lt;0&gt;: 3 of 4 right (75.0\u{202f}%)";
        for part in [
            three,
            "class &lt;0&gt; taken for class &lt;1&gt;: 1 of 4 (25.0\u{202f}%)",
            "2 of 2 right",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert_eq!(svg.matches("<title>").count(), 3);
    }

    #[test]
    fn a_hundred_classes_fit_a_page() {
        let svg = matrix(100, vec![vec![7; 100]; 100]).draw();
        assert!(svg.contains(r#"width="1"#) && svg.len() < 2_500_000, "{}", svg.len());
    }

    #[test]
    fn counts_fit_their_cells() {
        let texts = [7, 999, 1234, 45_678, 12_345_678].map(|count| brief(count, 24.0));
        assert_eq!(texts, ["7", "999", "1.2k", "45k", "12M"]);
        assert_eq!(brief(1234, 44.0), "1234");
    }

    proptest! {
        #[test]
        fn any_table_draws(size in 0usize..8, counts in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..9), 0..9), totals in prop::collection::vec(any::<u64>(), 0..9)) {
            let svg = Matrix { totals: Some(totals), ..matrix(size, counts) }.draw();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
        }
    }
}
