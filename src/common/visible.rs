//! Text from outside (names of files and classes, messages of libraries) made safe to show: control
//! characters can't drive a terminal, and changes of direction can't disguise a name.

/// `text` with such characters as escapes (`\u{1b}`). Line ends stay.
pub(crate) fn visible(text: &str) -> String {
    escape(text, |c| is_hidden(c) && c != '\n')
}

/// The same as one line: line ends are escaped, too.
pub(crate) fn visible_line(text: &str) -> String {
    escape(text, is_hidden)
}

/// Whether a character acts on the text around it instead of being shown: control characters,
/// embeddings, overrides and isolates of the direction, and line ends of Unicode.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        match is_escaped(c) {
            true => result.extend(c.escape_default()),
            false => result.push(c),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_characters_and_directions_are_escaped() {
        assert_eq!(visible("a\x1b[2J\nb\t"), "a\\u{1b}[2J\nb\\t");
        assert_eq!(visible("cat\u{202e}gnp.exe"), "cat\\u{202e}gnp.exe");
        assert_eq!(visible_line("a\nb\u{9b}"), "a\\nb\\u{9b}");
        assert_eq!(visible("größe 衬衫 👩\u{200d}👧"), "größe 衬衫 👩\u{200d}👧");
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(text in any::<String>()) {
            prop_assert!(!visible_line(&text).chars().any(is_hidden));
        }
    }
}
