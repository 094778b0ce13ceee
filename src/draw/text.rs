//! Text and numbers as they stand in a page.

/// Escapes text for HTML and SVG, in content and in quoted attributes. Characters that no XML may hold become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// At most `width` characters: the start and the end of a longer text, an ellipsis between them. Not escaped.
pub fn shorten(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let start: String = text.chars().take(room.div_ceil(2)).collect();
    let end: String = text.chars().skip(count - room / 2).collect();
    format!("{start}…{end}")
}

/// A share as a percentage with one decimal: `93.4 %` with a narrow no-break space; `–` where it is no share.
/// Only 0 and 1 are shown as 0.0 % and 100.0 %.
pub fn percent(share: f64) -> String {
    // A damaged file may hold anything.
    if share.is_nan() || share.abs() > 1e6 {
        return "–".to_owned();
    }
    let mut value = share * 100.0;
    if share < 1.0 && value > 99.9 {
        value = 99.9;
    } else if share > 0.0 && value < 0.1 {
        value = 0.1;
    }
    format!("{value:.1}\u{202f}%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_as_people_write_them() {
        let shares = [0.0, 0.934, 0.99999, 1.0, 0.0001, f64::NAN, 1e306].map(percent);
        assert_eq!(
            shares,
            [
                "0.0\u{202f}%",
                "93.4\u{202f}%",
                "99.9\u{202f}%",
                "100.0\u{202f}%",
                "0.1\u{202f}%",
                "–",
                "–"
            ]
        );
    }

    #[test]
    fn long_names_keep_their_start_and_end() {
        assert_eq!(shorten("trousers", 8), "trousers");
        assert_eq!(shorten("long_sleeved_shirt", 9), "long…hirt");
        assert_eq!(["é", "ab"].map(|text| shorten(text, 0)), ["…", "…"]);
    }

    proptest! {
        #[test]
        fn escaped_text_can_end_nothing(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'', '\0']));
            let plain = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
            let plain = plain.replace("&amp;", "&");
            let same = |(a, b): (char, char)| a == b || b == '\u{fffd}';
            prop_assert_eq!(plain.chars().count(), text.chars().count());
            prop_assert!(text.chars().zip(plain.chars()).all(same));
        }

        #[test]
        fn shortened_is_short(text in any::<String>(), width in 1usize..40) {
            prop_assert!(shorten(&text, width).chars().count() <= width);
        }
    }
}
