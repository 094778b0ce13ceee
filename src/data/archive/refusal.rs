//! Why an archive can't be unpacked, with the archive, the entry and what to do.

use super::entry_use::Level;
use super::unpack::Unpacker;
use crate::data::DataError;

impl Unpacker<'_> {
    /// An error about an entry that makes the archive unusable.
    pub(super) fn refused(&self, level: &Level, entry: &str, reason: &str) -> DataError {
        DataError::invalid(
            format!("{}: the entry `{}` {reason}", self.named, level.shown(entry)),
            "nothing was unpacked from it; unpack it with a tool that you trust, then write `source = \"path:FOLDER\"`",
        )
    }

    /// An error about an entry whose content can't be read.
    pub(super) fn unreadable(&self, level: &Level, entry: &str, reason: &str) -> DataError {
        DataError::invalid(
            format!("{}: the entry `{}` can't be read: {reason}", self.named, level.shown(entry)),
            "the archive is cut short or damaged: get it again",
        )
    }

    /// An error about a whole archive.
    pub(super) fn damaged(&self, level: &Level, reason: &dyn std::fmt::Display) -> DataError {
        DataError::invalid(
            format!("{} can't be read: {reason}", self.name_of(level)),
            "the archive is cut short or damaged: get it again",
        )
    }

    pub(super) fn bomb(&self, level: &Level, reason: &str) -> DataError {
        DataError::invalid(
            format!("{} {reason}", self.name_of(level)),
            "if you trust it, unpack it yourself, then write `source = \"path:FOLDER\"`",
        )
    }

    pub(super) fn no_archive(&self, level: &Level, head: &[u8]) -> DataError {
        let begins = match head {
            [] => "it is empty".to_owned(),
            [b'<', ..] => "it begins like a web page".to_owned(),
            [b'R', b'a', b'r', b'!', ..] => "it is a RAR archive".to_owned(),
            [b'7', b'z', 0xbc, 0xaf, ..] => "it is a 7z archive".to_owned(),
            [b'B', b'Z', b'h', ..] => "it is compressed with bzip2".to_owned(),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => "it is compressed with xz".to_owned(),
            _ => format!(
                "it begins with `{}`",
                head.get(..head.len().min(8)).unwrap_or_default().escape_ascii()
            ),
        };
        DataError::invalid(
            format!("{} is no archive of images: {begins}", self.name_of(level)),
            "expected a zip, tar, tar.gz or tar.zst archive; unpack others yourself, then write `source = \"path:FOLDER\"`",
        )
    }

    fn name_of(&self, level: &Level) -> String {
        match level.depth {
            0 => self.named.to_owned(),
            _ => format!("{}: `{}`", self.named, level.archive),
        }
    }
}
