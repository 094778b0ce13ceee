//! A small table with aligned columns. Knows text and widths, nothing of what the cells mean.

use super::Style;

/// On which side a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings. Cells are single lines; colours go on whole rows so that widths stay right.
pub struct Table {
    columns: Vec<(String, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Side)>) -> Table {
        let columns = columns.into_iter().map(|(name, side)| (name.to_owned(), side)).collect();
        Table { columns, rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, spare ones are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| one_line(&cell.into())).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Whether no row was added.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines, each ending in a newline: headings (dim), then the rows, two spaces between columns.
    pub fn render(&self, style: Style) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|at| self.width(at)).collect();
        let headings: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let mut text = style.dim(&self.line(&headings, &widths));
        text.push('\n');
        for row in &self.rows {
            text.push_str(&self.line(row, &widths));
            text.push('\n');
        }
        text
    }

    fn width(&self, at: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[at].chars().count());
        cells.chain([self.columns[at].0.chars().count()]).max().unwrap_or(0)
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (at, (cell, &width)) in cells.iter().zip(widths).enumerate() {
            if at > 0 {
                line.push_str("  ");
            }
            match self.columns[at].1 {
                Side::Left => line.push_str(&format!("{cell:<width$}")),
                Side::Right => line.push_str(&format!("{cell:>width$}")),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// A cell must not break the table, whatever a file's name holds: control characters are shown escaped.
pub(super) fn one_line(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_clean() {
        let mut table = Table::new([("class", Side::Left), ("count", Side::Right), ("note", Side::Left)]);
        table.row(["shirt", "7", ""]);
        table.row(["größer", "1,200", "a\nb"]);
        assert_eq!(table.render(Style::PLAIN), "class   count  note\nshirt       7\ngrößer  1,200  a\\nb\n");
    }

    #[test]
    fn short_rows_are_filled() {
        let mut table = Table::new([("a", Side::Left), ("b", Side::Left)]);
        assert!(table.is_empty());
        table.row(["x"]);
        assert_eq!(table.render(Style::PLAIN), "a  b\nx\n");
    }
}
