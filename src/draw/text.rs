//! Numbers and names as a page shows them.

use crate::common::number;

/// [`number::percent`] with the narrow no-break space of typeset text.
pub(crate) fn percent(share: f64) -> String {
    number::percent(share).replace(' ', "\u{202f}")
}

/// At most `width` characters: the start and the end of a longer text with an ellipsis between
/// them.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let start: String = text.chars().take(room.div_ceil(2)).collect();
    let end: String = text.chars().skip(count - room / 2).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_names_keep_their_start_and_end() {
        assert_eq!(shorten("trousers", 8), "trousers");
        assert_eq!(shorten("long_sleeved_shirt", 9), "long…hirt");
        assert_eq!(["é", "ab"].map(|text| shorten(text, 0)), ["…", "…"]);
    }

    proptest! {
        #[test]
        fn shortened_text_fits(text in any::<String>(), width in 1usize..40) {
            prop_assert!(shorten(&text, width).chars().count() <= width);
        }
    }
}
