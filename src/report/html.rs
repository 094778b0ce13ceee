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
            section { h2 { (title) } (content) }
        }
    }
}

/// Charts side by side where there is room, each of the same width.
pub(super) fn side_by_side<const N: usize>(charts: [Markup; N]) -> Markup {
    let charts: Vec<Markup> = charts.into_iter().filter(|chart| !is_empty(chart)).collect();
    html! {
        @if !charts.is_empty() {
            .pair { @for chart in charts { div { (chart) } } }
        }
    }
}

/// Content that opens on a click.
pub(super) fn details(summary: &str, content: &Markup) -> Markup {
    html! {
        @if !is_empty(content) {
            details { summary { (summary) } (content) }
        }
    }
}

/// A paragraph in the secondary color.
pub(super) fn note(text: &str) -> Markup {
    html! { p.soft { (text) } }
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

/// A table, built row by row, in a box that scrolls where the page is narrower.
pub(super) struct Table {
    head: Markup,
    rows: Vec<Markup>,
    columns: Vec<Column>,
}

/// The format of a column.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Column {
    /// Aligned to the left.
    Text,
    /// Aligned to the right.
    Number,
    /// Keys and digests.
    Code,
}

impl Column {
    fn class(self) -> Option<&'static str> {
        match self {
            Column::Text => None,
            Column::Number => Some("number"),
            Column::Code => Some("code"),
        }
    }
}

impl Table {
    pub(super) fn new(columns: &[(&str, Column)]) -> Table {
        let head = html! {
            @for (name, column) in columns { th scope="col" class=[column.class()] { (name) } }
        };
        let columns = columns.iter().map(|(_, column)| *column).collect();
        Table { head, rows: Vec::new(), columns }
    }

    /// Adds a row of texts or of markup. Cells beyond the columns are left out.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = impl Render>) {
        self.rows.push(html! {
            tr {
                @for (cell, column) in cells.into_iter().zip(&self.columns) {
                    td class=[column.class()] { (cell) }
                }
            }
        });
    }

    /// The table. Empty without rows.
    pub(super) fn render(&self) -> Markup {
        html! {
            @if !self.rows.is_empty() {
                .scroll {
                    table {
                        thead { tr { (self.head) } }
                        tbody { @for row in &self.rows { (row) } }
                    }
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
