//! Text as a terminal shows it: display widths, padding and indentation.

use unicode_width::UnicodeWidthStr;

/// Words are not wrapped to fewer terminal columns than this.
pub(super) const MIN_WRAPPED_WIDTH: usize = 16;

/// The number of terminal columns that `text` takes: two for wide characters (CJK, emoji), none for
/// combining ones.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// `text`, followed by spaces up to `columns` terminal columns.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Breaks the lines of `text` between words so that they fit into `columns` terminal columns (if
/// given), and indents all but the first by `indent` spaces. Longer words, such as paths, are not
/// broken.
pub(crate) fn wrapped(text: &str, columns: Option<usize>, indent: usize) -> String {
    let columns = columns.and_then(|columns| columns.checked_sub(indent));
    let text = match columns.filter(|&columns| columns >= MIN_WRAPPED_WIDTH) {
        None => text.to_owned(),
        Some(columns) => {
            text.lines().map(|line| wrapped_line(line, columns)).collect::<Vec<_>>().join("\n")
        }
    };
    indented(&text, indent)
}

fn wrapped_line(line: &str, columns: usize) -> String {
    let mut lines = vec![String::new()];
    let mut taken = 0;
    for (at, word) in line.split(' ').enumerate() {
        let width = width(&unstyled(word));
        if taken > 0 && taken + 1 + width > columns {
            lines.push(String::new());
            taken = 0;
        }
        let is_first = if lines.len() == 1 { at == 0 } else { taken == 0 };
        if let Some(text) = lines.last_mut() {
            text.push_str(if is_first { "" } else { " " });
            text.push_str(word);
        }
        taken += usize::from(!is_first) + width;
    }
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// `text` without the escape sequences of [`super::Style`].
fn unstyled(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest)));
    plain
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
    fn lines_are_wrapped_between_words() {
        let text = "one two  three four\nfive a-word-longer-than-the-line 衬衫 衬衫衬衫";
        assert_eq!(
            wrapped(text, Some(20), 4),
            "one two  three\n    four\n    five\n    a-word-longer-than-the-line\n    衬衫 衬衫衬衫"
        );
        assert_eq!(wrapped(text, None, 4), text.replace('\n', "\n    "));
        assert_eq!(wrapped(text, Some(19), 4), wrapped(text, None, 4), "too few columns are left");
        let dim = "\x1b[2mone two three\x1b[0m four";
        assert_eq!(wrapped(dim, Some(16), 0), "\x1b[2mone two three\x1b[0m\nfour");
    }
}
