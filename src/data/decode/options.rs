//! How images are decoded: what transparent pixels lie on, and what becomes of damaged images.

use crate::config::choices;
use serde::{Deserialize, Serialize};

choices! {
    /// What becomes of an image that is cut short or damaged. Either way it is named.
    #[derive(Default)]
    pub enum OnDamaged {
        /// It is rejected if more than a tenth of it is missing.
        #[default]
        Reject = "reject",
        /// What can be decoded is used; the rest is gray.
        Keep = "keep",
    }
}

/// What transparent pixels are blended with: a color; or `none`, which drops the alpha channel, as
/// Pillow's `convert("RGB")` does. Written as one word: "white", "#ffffff" or "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Background(pub Option<[u8; 3]>);

impl Default for Background {
    fn default() -> Background {
        Background(Some([255; 3]))
    }
}

/// Colors that have a name.
const NAMES: [(&str, Background); 4] = [
    ("white", Background(Some([255; 3]))),
    ("black", Background(Some([0; 3]))),
    ("gray", Background(Some([128; 3]))),
    ("none", Background(None)),
];

impl TryFrom<String> for Background {
    type Error = String;

    fn try_from(word: String) -> Result<Background, String> {
        if let Some((_, named)) = NAMES.iter().find(|(name, _)| *name == word) {
            return Ok(*named);
        }
        let channel = |at: usize| {
            let digits =
                word.strip_prefix('#').filter(|digits| digits.len() == 6)?.get(at..at + 2)?;
            digits.bytes().all(|one| one.is_ascii_hexdigit()).then_some(())?;
            u8::from_str_radix(digits, 16).ok()
        };
        match [channel(0), channel(2), channel(4)] {
            [Some(red), Some(green), Some(blue)] => Ok(Background(Some([red, green, blue]))),
            _ => Err(format!("`{word}` is not a color")),
        }
    }
}

impl From<Background> for String {
    fn from(background: Background) -> String {
        match (NAMES.iter().find(|(_, named)| *named == background), background.0) {
            (Some((name, _)), _) => (*name).to_owned(),
            (None, Some([red, green, blue])) => format!("#{red:02x}{green:02x}{blue:02x}"),
            (None, None) => "none".to_owned(),
        }
    }
}

/// How images are decoded. Enters the fingerprint of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodeOptions {
    pub background: Background,
    pub on_damaged: OnDamaged,
}

impl DecodeOptions {
    /// Whether nothing was chosen.
    pub fn is_default(&self) -> bool {
        *self == DecodeOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_background_is_a_name_or_six_hexadecimal_digits() {
        let read = |word: &str| Background::try_from(word.to_owned());
        assert_eq!(read("white"), Ok(Background::default()));
        assert_eq!(read("none"), Ok(Background(None)));
        assert_eq!(read("#0a80FF"), Ok(Background(Some([10, 128, 255]))));
        for wrong in ["", "#fff", "0a80ff", "#0a80fg", "#+a80ff", "#0a8é0f", "pink"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for word in ["white", "none", "#0a80ff"] {
            assert_eq!(String::from(read(word).unwrap()), word);
        }
    }
}
