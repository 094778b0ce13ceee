//! Text as a terminal shows it: display widths, padding, indentation, and escaping of control
//! characters.

use unicode_width::UnicodeWidthStr;

/// The number of terminal columns that `text` takes: two for wide characters (CJK, emoji), none for
/// combining ones.
pub fn width(text: &str) -> usize {
    text.width()
}

/// `text`, followed by spaces up to `columns` terminal columns.
pub fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Escapes control characters except newlines, so that text from outside (file names, library
/// messages) can't control the terminal.
pub(super) fn escaped(text: &str) -> String {
    escaped_if(text, |c| c.is_control() && c != '\n')
}

/// Escapes all control characters: the result is a single line.
pub(super) fn escaped_line(text: &str) -> String {
    escaped_if(text, char::is_control)
}

fn escaped_if(text: &str, escape: impl Fn(char) -> bool) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        if escape(c) {
            result.extend(c.escape_default());
        } else {
            result.push(c);
        }
    }
    result
}

/// Indents every line but the first by `columns` spaces, and trims the end.
pub(super) fn indented(text: &str, columns: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{}", " ".repeat(columns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_counts_terminal_columns() {
        let combining = "e\u{301}";
        assert_eq!([width("shirt"), width("衬衫"), width("🙂"), width(combining)], [5, 4, 2, 1]);
        assert_eq!(padded("衬衫", 6), "衬衫  ");
        assert_eq!(padded("too long", 3), "too long");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escaped("a\x1b[2J\nb\t"), "a\\u{1b}[2J\nb\\t");
        assert_eq!(escaped_line("a\nb"), "a\\nb");
    }
}
