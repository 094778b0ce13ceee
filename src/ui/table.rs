//! A small table with aligned columns, whose last one is wrapped where a terminal ends. Knows text and widths, nothing of
//! what the cells mean.

use super::Style;

/// On which side a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A last column narrower than this is left to the terminal's own wrapping: a word a line helps nobody.
const LEAST_ROOM: usize = 16;

/// Rows under headings. Cells are single lines; colors go on whole rows so that widths stay right.
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

    /// The table as lines, each ending in a newline: headings (dim), then the rows, two spaces between columns. Where the
    /// stream has a width, words of the last column that don't fit beside the others stand below their like.
    pub fn render(&self, style: Style) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|at| self.width(at)).collect();
        let headings: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let mut text = style.dim(&self.line(&headings, &widths));
        text.push('\n');
        let room = style.width.and_then(|width| self.room_of_last(&widths, width));
        for row in &self.rows {
            for row in wrapped_last(row, room) {
                text.push_str(&self.line(&row, &widths));
                text.push('\n');
            }
        }
        text
    }

    /// Columns that are left for the cells of the last column; `None` where it holds numbers or there is no use in wrapping.
    fn room_of_last(&self, widths: &[usize], width: usize) -> Option<usize> {
        let before: usize =
            widths[..widths.len().checked_sub(1)?].iter().map(|width| width + 2).sum();
        let room = width.checked_sub(before).filter(|&room| room >= LEAST_ROOM)?;
        (self.columns.last()?.1 == Side::Left).then_some(room)
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

/// The row, and below it one for each further line that its last cell takes.
fn wrapped_last(row: &[String], room: Option<usize>) -> Vec<Vec<String>> {
    let (Some(room), Some((last, before))) = (room, row.split_last()) else {
        return vec![row.to_vec()];
    };
    let lines = wrapped(last, room).into_iter().enumerate();
    lines
        .map(|(at, line)| {
            before
                .iter()
                .map(|cell| if at == 0 { cell.clone() } else { String::new() })
                .chain([line])
                .collect()
        })
        .collect()
}

/// Text in lines of at most `room` characters, broken between words; a longer word has a line of its own.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A cell must not break the table, whatever a file's name holds: control characters are shown escaped.
pub(super) fn one_line(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars()
            .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
            .collect()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_clean() {
        let mut table =
            Table::new([("class", Side::Left), ("count", Side::Right), ("note", Side::Left)]);
        table.row(["shirt", "7", ""]);
        table.row(["größer", "1,200", "a\nb"]);
        assert_eq!(
            table.render(Style::PLAIN),
            "class   count  note\nshirt       7\ngrößer  1,200  a\\nb\n"
        );
    }

    #[test]
    fn the_last_column_is_wrapped_where_the_terminal_ends() {
        let mut table = Table::new([("name", Side::Left), ("stages", Side::Left)]);
        table.row(["a", "one two  three four five"]);
        table.row(["b", "a-word-that-is-longer-than-the-room ends"]);
        let render = |width| table.render(Style { width: Some(width), ..Style::PLAIN });
        assert_eq!(
            render(24),
            "name  stages\na     one two  three\n      four five\nb     a-word-that-is-longer-than-the-room\n      ends\n"
        );
        let whole = table.render(Style::PLAIN);
        assert_eq!(render(200), whole);
        assert_eq!(render(12), whole, "too narrow for any use");
    }

    #[test]
    fn short_rows_are_filled() {
        let mut table = Table::new([("a", Side::Left), ("b", Side::Left)]);
        assert!(table.is_empty());
        table.row(["x"]);
        assert_eq!(table.render(Style::PLAIN), "a  b\nx\n");
    }
}
