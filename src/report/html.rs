//! The frame of a page and the elements that its content is made of. `maud` escapes every text;
//! content is passed as [`Markup`], and a part without content renders as an empty one.

use crate::draw;
use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

/// Nothing is fetched and nothing runs; styles are inline, images are `data:` URIs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// A whole page.
pub(super) fn page(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(draw::STYLE)) (PreEscaped(include_str!("style.css"))) }
            }
            body { (body) }
        }
    }
}

/// A section under a heading.
pub(super) fn section(title: &str, content: &Markup) -> Markup {
    html! {
        @if !is_empty(content) {
            section { h2 { (with_code(title)) } (content) }
        }
    }
}

/// Charts side by side where there is room, each of the same width.
pub(super) fn side_by_side<const N: usize>(charts: [Markup; N]) -> Markup {
    let charts: Vec<Markup> = charts.into_iter().filter(|chart| !is_empty(chart)).collect();
    html! {
        @if !charts.is_empty() {
            .pair.three[charts.len() == 3] { @for chart in charts { div { (chart) } } }
        }
    }
}

/// Content that opens on a click.
pub(super) fn details(summary: &str, content: &Markup) -> Markup {
    html! {
        @if !is_empty(content) {
            details { summary { (with_code(summary)) } (content) }
        }
    }
}

/// A paragraph in the secondary color.
pub(super) fn note(text: &str) -> Markup {
    html! { p.soft { (with_code(text)) } }
}

/// A sentence whose names between backticks are set as code.
pub(super) fn with_code(sentence: &str) -> Markup {
    let parts: Vec<&str> = sentence.split('`').collect();
    let last = parts.len() - 1;
    html! {
        @for (index, part) in parts.iter().enumerate() {
            @if index % 2 == 0 { (part) }
            // The last one has no partner.
            @else if index == last { "`" (part) }
            @else { code { (part) } }
        }
    }
}

/// Names with values.
pub(super) fn tiles(tiles: &[(&str, String)]) -> Markup {
    html! {
        @if !tiles.is_empty() {
            dl.tiles {
                @for (name, value) in tiles { div { dt { (name) } dd { (value) } } }
            }
        }
    }
}

pub(super) fn is_empty(content: &Markup) -> bool {
    content.0.is_empty()
}

/// A table, built row by row. Where the page is too narrow for its columns, each row becomes a block
/// of names and values.
pub(super) struct Table {
    rows: Vec<Markup>,
    columns: Vec<(String, Column)>,
}

/// The number of columns that fit a phone.
const FEW_COLUMNS: usize = 3;

/// The format of a column.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Column {
    /// Aligned to the left.
    Text,
    /// Aligned to the right.
    Number,
    /// Keys and digests.
    Code,
    /// A value with its interval.
    Measure,
}

impl Column {
    fn class(self) -> Option<&'static str> {
        match self {
            Column::Text => None,
            Column::Number => Some("number"),
            Column::Code => Some("code"),
            Column::Measure => Some("measure"),
        }
    }
}

impl Table {
    pub(super) fn new(columns: &[(&str, Column)]) -> Table {
        let columns = columns.iter().map(|(name, column)| ((*name).to_owned(), *column)).collect();
        Table { rows: Vec::new(), columns }
    }

    fn is_wide(&self) -> bool {
        self.columns.len() > FEW_COLUMNS
    }

    /// Adds a row of texts or of markup. Cells beyond the columns are left out.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = impl Render>) {
        let is_wide = self.is_wide();
        self.rows.push(html! {
            tr role=[is_wide.then_some("row")] {
                @for (cell, (name, column)) in cells.into_iter().zip(&self.columns) {
                    td class=[column.class()] role=[is_wide.then_some("cell")]
                        data-name=[is_wide.then_some(name)] { (cell) }
                }
            }
        });
    }

    /// The table. Empty without rows.
    pub(super) fn render(&self) -> Markup {
        let is_wide = self.is_wide();
        html! {
            @if !self.rows.is_empty() {
                table class=[is_wide.then_some("wide")] role=[is_wide.then_some("table")] {
                    thead { tr {
                        @for (name, column) in &self.columns {
                            th scope="col" class=[column.class()] { (name) }
                        }
                    } }
                    tbody { @for row in &self.rows { (row) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_without_content_are_empty() {
        let empty = Markup::default;
        let parts = [
            section("a", &empty()),
            details("b", &empty()),
            side_by_side([empty()]),
            tiles(&[]),
            Table::new(&[("a", Column::Text)]).render(),
        ];
        assert!(parts.iter().all(is_empty));
    }

    #[test]
    fn names_between_backticks_are_code() {
        let html = |text| with_code(text).into_string();
        assert_eq!(html("as `a<b` is"), "as <code>a&lt;b</code> is");
        assert_eq!(html("`a` and a ` alone"), "<code>a</code> and a ` alone");
        assert_eq!(html(""), "");
    }

    #[test]
    fn cells_are_escaped() {
        let mut table = Table::new(&[("a<", Column::Text)]);
        table.row(["<script>", "beyond the columns"]);
        let html = table.render().into_string();
        assert!(
            html.contains("a&lt;") && html.contains("&lt;script&gt;") && !html.contains("beyond"),
            "{html}"
        );
    }
}
