//! A confusion matrix as a table: images or shares of the row in the cells, shaded by that share.
//! The diagonal, which is correct, has another color than the errors. Cells may link to their
//! images. It is a table rather than an SVG, so that cells are links, and a screen reader reads the
//! classes of a cell; sizes follow the width of its place, so that it fits anywhere.

use super::figure::figure;
use super::{percent, shorten};
use crate::common::number::thousands;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Characters of a class's name that are shown.
const NAME: usize = 16;

/// A square table of counts by true class (row) and predicted class (column).
#[derive(Clone, Debug)]
pub(crate) struct ConfusionMatrix {
    pub title: String,
    /// Distinguishes its switch from those of other matrices on the page.
    pub id: String,
    /// Names, in the order of rows and columns.
    pub classes: Vec<String>,
    /// Rows. They may be short or missing; counts beyond the classes are left out.
    pub counts: Vec<Vec<u64>>,
    /// Images of each row's class, where columns were left out and a row doesn't sum to them.
    pub totals: Option<Vec<u64>>,
    /// Where cells (row, column) link to: `#fragment`.
    pub links: BTreeMap<(usize, usize), String>,
}

impl ConfusionMatrix {
    /// The matrix as HTML. Empty without classes.
    pub(crate) fn render(&self) -> Markup {
        if self.classes.is_empty() {
            return Markup::default();
        }
        let longest = self.classes.iter().map(|class| class.chars().count().min(NAME)).max();
        let sizes = format!("--n:{};--w:{}", self.classes.len(), longest.unwrap_or(0));
        let content = html! {
            .fit {
                table.matrix.(self.density()) style=(sizes) {
                    caption.unseen { (self.description()) }
                    thead { tr {
                        th.corner scope="col" { span { "true" } span { "predicted" } }
                        @for class in &self.classes { (header("col", class)) }
                    } }
                    tbody {
                        @for (row, class) in self.classes.iter().enumerate() {
                            tr {
                                (header("row", class))
                                @for column in 0..self.classes.len() { (self.cell(row, column)) }
                            }
                        }
                    }
                }
            }
        };
        figure(&self.title, &self.switch(), &content)
    }

    /// The CSS class that says at which widths numbers and names are shown.
    fn density(&self) -> &'static str {
        match self.classes.len() {
            0..=14 => "roomy",
            15..=24 => "tight",
            _ => "dense",
        }
    }

    /// The choice between images and shares, which works without a script.
    fn switch(&self) -> Markup {
        html! {
            span.switch role="radiogroup" aria-label="Numbers in the cells" {
                label { input.by-count type="radio" name=(self.id) checked; "images" }
                label { input.by-share type="radio" name=(self.id); "% of the true class" }
            }
        }
    }

    fn cell(&self, row: usize, column: usize) -> Markup {
        let (count, total) = (self.count(row, column), self.total(row));
        if count == 0 {
            return html! { td {} };
        }
        let share = count as f64 / total as f64;
        let is_correct = row == column;
        // Errors are few: the square root makes them visible beside zero.
        let shade = if is_correct { 0.08 + 0.87 * share } else { 0.1 + 0.85 * share.sqrt() };
        let side = if is_correct { "right" } else { "wrong" };
        let class = if shade > 0.55 { format!("{side} over") } else { side.to_owned() };
        let text = self.sentence(row, column);
        let numbers = html! {
            span.count { (abbreviated(count)) }
            span.share { (whole_percent(count, total)) }
        };
        html! {
            td class=(class) title=(text) style=(format_args!("--s:{shade:.2}")) {
                @match self.links.get(&(row, column)) {
                    Some(link) => a href=(link) aria-label=(text) { (numbers) },
                    None => span { (numbers) },
                }
            }
        }
    }

    /// `shirt predicted as coat: 18 of 38 (47.4 %)`.
    fn sentence(&self, row: usize, column: usize) -> String {
        let (count, total) = (self.count(row, column), self.total(row));
        let (truth, prediction) = (&self.classes[row], &self.classes[column]);
        let numbers = format!("{} of {}", thousands(count), thousands(total));
        let share = percent(count as f64 / total as f64);
        match row == column {
            true => format!("{truth}: {numbers} correct ({share})"),
            false => format!("{truth} predicted as {prediction}: {numbers} ({share})"),
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
        let rows = (0..self.classes.len()).filter(|row| self.total(*row) > 0);
        let texts = rows.map(|row| {
            format!("{} {} of {}", self.classes[row], self.count(row, row), self.total(row))
        });
        format!(
            "Rows are true classes, columns predicted ones. Correct: {}",
            texts.collect::<Vec<_>>().join(", ")
        )
    }
}

fn header(scope: &str, class: &str) -> Markup {
    html! { th scope=(scope) title=(class) { span { (shorten(class, NAME)) } } }
}

/// A count in at most four characters: `1.2k` for 1,234.
fn abbreviated(count: u64) -> String {
    match count {
        0..=999 => count.to_string(),
        1_000..=9_949 => format!("{:.1}k", count as f64 / 1e3),
        9_950..=999_499 => format!("{:.0}k", count as f64 / 1e3),
        _ => format!("{:.0}M", count as f64 / 1e6),
    }
}

/// A share as a whole percentage without its sign. Only nothing is 0 and only all is 100.
fn whole_percent(count: u64, total: u64) -> String {
    match 100.0 * count as f64 / total as f64 {
        _ if count == total => "100".to_owned(),
        value if value < 1.0 => "<1".to_owned(),
        value if value > 99.0 => ">99".to_owned(),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matrix(size: usize, counts: Vec<Vec<u64>>) -> ConfusionMatrix {
        let classes = (0..size).map(|class| format!("class <{class}>")).collect();
        let (title, id) = ("Confusion".to_owned(), "matrix".to_owned());
        let links = BTreeMap::from([((0, 1), "#cell".to_owned())]);
        ConfusionMatrix { title, id, classes, counts, totals: None, links }
    }

    #[test]
    fn cells_have_counts_and_shares_of_the_row() {
        let html = matrix(2, vec![vec![3, 1], vec![0, 2]]).render().into_string();
        for part in [
            "class &lt;0&gt;: 3 of 4 correct (75.0\u{202f}%)",
            r##"<a href="#cell" aria-label="class &lt;0&gt; predicted as class &lt;1&gt;: 1 of 4 (25.0"##,
            "2 of 2 correct",
            r#"<span class="share">25</span>"#,
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
        assert_eq!((html.matches("<td").count(), html.matches("<a ").count()), (4, 1));
    }

    #[test]
    fn counts_fit_their_cells() {
        let texts = [7, 999, 1234, 9_960, 45_678, 999_500, 12_345_678].map(abbreviated);
        assert_eq!(texts, ["7", "999", "1.2k", "10k", "46k", "1M", "12M"]);
        let shares = [(1, 3), (1, 1000), (999, 1000), (5, 5)];
        let shares = shares.map(|(count, total)| whole_percent(count, total));
        assert_eq!(shares, ["33", "<1", ">99", "100"]);
    }

    proptest! {
        #[test]
        fn any_table_is_drawn(size in 0usize..8, counts in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..9), 0..9), totals in prop::collection::vec(any::<u64>(), 0..9)) {
            let matrix = ConfusionMatrix { totals: Some(totals), ..matrix(size, counts) };
            let html = matrix.render().into_string();
            prop_assert!(!html.contains("NaN") && !html.contains("inf"), "{}", html);
        }
    }
}
