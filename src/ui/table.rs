//! Tables of aligned columns without borders, laid out by comfy-table. On a terminal the last
//! column is wrapped at its width. Independent of what the cells mean.

use super::Style;
use super::text::MIN_WRAPPED_WIDTH;
use crate::common::visible::visible_line;
use comfy_table::{CellAlignment, ColumnConstraint, Width, presets};

/// How the cells of a column are aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

/// Spaces between columns.
const GAP: u16 = 2;

/// Rows of cells under headings. Cells carry no colors; control characters in them are escaped.
pub(crate) struct Table {
    columns: Vec<(String, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Side)>) -> Table {
        let columns = columns.into_iter().map(|(name, side)| (visible_line(name), side)).collect();
        Table { columns, rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, extra ones are dropped.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let mut row: Vec<String> =
            cells.into_iter().map(|cell| visible_line(&cell.into())).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Whether the table has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines without trailing spaces, each ending in a newline: the headings (dim),
    /// then the rows.
    pub(crate) fn render(&self, style: Style) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(self.columns.iter().map(|(name, _)| name)).add_rows(&self.rows);
        for (column, (_, side)) in table.column_iter_mut().zip(&self.columns) {
            column.set_padding((0, GAP));
            column.set_cell_alignment(match side {
                Side::Left => CellAlignment::Left,
                Side::Right => CellAlignment::Right,
            });
        }
        if let Some(width) = style.width.and_then(|width| self.last_width(&table, width))
            && let Some(last) = table.column_iter_mut().last()
        {
            last.set_padding((0, 0))
                .set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(width)));
        }
        let text = table.trim_fmt();
        let (headings, rows) = text.split_once('\n').unwrap_or((&text, ""));
        let rows = if rows.is_empty() { String::new() } else { format!("{rows}\n") };
        format!("{}\n{rows}", style.dim(headings))
    }

    /// The columns of a terminal of `width` that are left for the last column; `None` if it holds
    /// numbers or they are too few.
    fn last_width(&self, table: &comfy_table::Table, width: usize) -> Option<u16> {
        let (_, side) = self.columns.last()?;
        let widths = table.column_max_content_widths();
        let before =
            widths.iter().rev().skip(1).map(|&width| usize::from(width) + usize::from(GAP));
        let left = width.checked_sub(before.sum())?;
        (*side == Side::Left && left >= MIN_WRAPPED_WIDTH).then(|| u16::try_from(left).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [(&str, Side); 3] =
        [("class", Side::Left), ("count", Side::Right), ("note", Side::Left)];

    fn on_terminal(table: &Table, width: usize) -> String {
        table.render(Style { width: Some(width), ..Style::PLAIN })
    }

    #[test]
    fn columns_are_aligned_without_trailing_spaces() {
        let mut table = Table::new(COLUMNS);
        table.row(["shirt", "7", ""]);
        table.row(["größer", "1,200", "a\nb\x1b[2J"]);
        assert_eq!(
            table.render(Style::PLAIN),
            "class   count  note\nshirt       7\ngrößer  1,200  a\\nb\\u{1b}[2J\n"
        );
    }

    #[test]
    fn wide_and_combining_characters_are_aligned_in_every_column() {
        let mut table = Table::new(COLUMNS);
        table.row(["衬衫", "7", "x"]);
        table.row(["🙂👩‍👧", "一二三", "y"]);
        table.row(["cafe\u{301}", "8", "z"]);
        assert_eq!(
            table.render(Style::PLAIN),
            "class   count  note\n衬衫        7  x\n🙂👩‍👧   一二三  y\ncafe\u{301}        8  z\n"
        );
    }

    #[test]
    fn only_the_headings_are_dim() {
        let mut table = Table::new(COLUMNS);
        table.row(["shirt", "7", "x"]);
        let text = table.render(Style { color: true, ..Style::PLAIN });
        assert_eq!(text, "\x1b[2mclass  count  note\x1b[0m\nshirt      7  x\n");
    }

    #[test]
    fn the_last_column_is_wrapped_at_the_width_of_the_terminal() {
        let mut table = Table::new([("name", Side::Left), ("stages", Side::Left)]);
        table.row(["a", "one two three four five"]);
        table.row(["b", "a-word-that-is-longer-than-the-column ends"]);
        table.row(["c", "衬衫 衬衫 衬衫 衬衫 衬衫"]);
        assert_eq!(
            on_terminal(&table, 24),
            "name  stages\n\
             a     one two three four\n      five\n\
             b     a-word-that-is-lon\n      ger-than-the-colum\n      n ends\n\
             c     衬衫 衬衫 衬衫\n      衬衫 衬衫\n"
        );
        let unwrapped = table.render(Style::PLAIN);
        assert_eq!(on_terminal(&table, 200), unwrapped);
        assert_eq!(on_terminal(&table, 12), unwrapped, "too few columns are left");
    }

    #[test]
    fn numbers_are_not_wrapped() {
        let mut table = Table::new([("name", Side::Left), ("a long heading here", Side::Right)]);
        table.row(["a", "12345678901234567890123"]);
        assert_eq!(on_terminal(&table, 24), table.render(Style::PLAIN));
    }

    #[test]
    fn a_cell_of_any_length_is_printed_whole() {
        let long = "x".repeat(70_000);
        let mut table = Table::new(COLUMNS);
        table.row([&long, "1", ""]);
        table.row(["short", &long, &long]);
        for text in [table.render(Style::PLAIN), on_terminal(&table, 80)] {
            assert_eq!(text.matches('x').count(), 3 * 70_000);
        }
    }

    #[test]
    fn missing_cells_are_empty() {
        let mut table = Table::new([("a", Side::Left), ("b", Side::Left)]);
        assert!(table.is_empty());
        assert_eq!(table.render(Style::PLAIN), "a  b\n");
        table.row(["x"]);
        assert_eq!(table.render(Style::PLAIN), "a  b\nx\n");
    }
}
