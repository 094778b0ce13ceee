//! The frame of a page and the few shapes that its content is made of. Whatever is handed in as a heading or a cell's
//! text is escaped here; what is called `html` is not.

use crate::draw::{self, escape};
use std::fmt::Write;

/// Nothing is fetched and nothing runs; styles are inline, images come as `data:`.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// A whole page.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}{}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(title),
        draw::STYLE,
        include_str!("style.css"),
    )
}

/// A section under a heading; nothing at all where there is nothing in it.
pub(super) fn section(title: &str, html: &str) -> String {
    if html.is_empty() {
        String::new()
    } else {
        format!("<section>\n<h2>{}</h2>\n{html}\n</section>\n", escape(title))
    }
}

/// Charts side by side where there is room, each of the same width; nothing where all are empty.
pub(super) fn side_by_side(charts: &[String]) -> String {
    let charts: Vec<&String> = charts.iter().filter(|chart| !chart.is_empty()).collect();
    if charts.is_empty() {
        return String::new();
    }
    let cells: String = charts.iter().map(|chart| format!("<div>{chart}</div>")).collect();
    format!("<div class=\"pair\">{cells}</div>")
}

/// What opens on a click. Nothing where there is nothing in it.
pub(super) fn details(summary: &str, html: &str) -> String {
    if html.is_empty() {
        return String::new();
    }
    format!("<details><summary>{}</summary>{html}</details>", escape(summary))
}

/// A paragraph in the quieter color.
pub(super) fn note(text: &str) -> String {
    format!("<p class=\"soft\">{}</p>", escape(text))
}

/// A named value.
pub(super) fn tiles(tiles: &[(&str, String)]) -> String {
    if tiles.is_empty() {
        return String::new();
    }
    let cells: String = tiles
        .iter()
        .map(|(name, value)| {
            format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value))
        })
        .collect();
    format!("<dl class=\"tiles\">{cells}</dl>")
}

/// A table, row by row, in a box of its own that scrolls where the page is narrower.
pub(super) struct Table {
    head: String,
    rows: String,
    columns: Vec<Column>,
}

/// How a column is set.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Column {
    /// Words, to the left.
    Text,
    /// Numbers, to the right.
    Number,
    /// Keys and digests.
    Code,
}

impl Column {
    fn class(self) -> &'static str {
        match self {
            Column::Text => "",
            Column::Number => " class=\"number\"",
            Column::Code => " class=\"code\"",
        }
    }
}

impl Table {
    pub(super) fn new(columns: &[(&str, Column)]) -> Table {
        let head = columns
            .iter()
            .map(|(name, column)| {
                format!("<th scope=\"col\"{}>{}</th>", column.class(), escape(name))
            })
            .collect();
        Table {
            head,
            rows: String::new(),
            columns: columns.iter().map(|(_, column)| *column).collect(),
        }
    }

    /// A row of texts.
    pub(super) fn row(&mut self, cells: &[String]) {
        let cells: Vec<String> = cells.iter().map(|cell| escape(cell)).collect();
        self.row_html(&cells);
    }

    /// A row of HTML.
    pub(super) fn row_html(&mut self, cells: &[String]) {
        self.rows.push_str("<tr>");
        for (cell, column) in cells.iter().zip(&self.columns) {
            let _ = write!(self.rows, "<td{}>{cell}</td>", column.class());
        }
        self.rows.push_str("</tr>\n");
    }

    /// The table; nothing where it has no rows.
    pub(super) fn html(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        format!(
            "<div class=\"scroll\"><table><thead><tr>{}</tr></thead><tbody>\n{}</tbody></table></div>",
            self.head, self.rows
        )
    }
}

/// Seconds as people say them: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub(super) fn duration(seconds: f64) -> String {
    if !(0.0..1e9).contains(&seconds) {
        return "–".to_owned();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..=9 => format!("{seconds:.1} s"),
        10..=59 => format!("{whole} s"),
        60..=3_599 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_say_them() {
        let texts = [0.04, 9.96, 75.0, 7_500.0, f64::NAN, -1.0].map(duration);
        assert_eq!(texts, ["0.0 s", "10 s", "1 min 15 s", "2 h 5 min", "–", "–"]);
    }

    #[test]
    fn what_is_empty_leaves_nothing() {
        assert_eq!(
            section("a", "") + &details("b", "") + &side_by_side(&[String::new()]) + &tiles(&[]),
            ""
        );
        assert_eq!(Table::new(&[("a", Column::Text)]).html(), "");
    }

    #[test]
    fn cells_are_escaped() {
        let mut table = Table::new(&[("a<", Column::Text)]);
        table.row(&["<script>".to_owned(), "beyond the columns".to_owned()]);
        let html = table.html();
        assert!(
            html.contains("a&lt;") && html.contains("&lt;script&gt;") && !html.contains("beyond"),
            "{html}"
        );
    }
}
