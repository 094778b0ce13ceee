//! Text from outside in Markdown.

use super::visible::visible_line;

/// `text` on one line, without meaning in Markdown or HTML.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in visible_line(text).chars() {
        match c {
            '<' => plain.push_str("&lt;"),
            '&' => plain.push_str("&amp;"),
            // An escaped one would still notify the user of that name.
            '@' => plain.push_str("@<!-- -->"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '~' | '#' => plain.extend(['\\', c]),
            _ => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_meaning_in_markdown() {
        assert_eq!(plain("a|b <i>*c*\u{202e}"), "a\\|b &lt;i>\\*c\\*\\\\u{202e}");
        assert_eq!(plain("@all"), "@<!-- -->all");
    }
}
