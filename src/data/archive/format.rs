//! Which files are archives: by content, and by name where there is no content yet.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// File names of archives end in one of these, in lower case.
const ENDINGS: [&str; 6] = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];

/// Bytes of a header in a tar archive.
pub(super) const BLOCK: usize = 512;
/// The field of a tar header with the sum of its bytes.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// The format of a file that may be an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Zip,
    Tar,
    /// Compressed with gzip: a tar archive, or any other file.
    Gzip,
    /// Compressed with zstd, likewise.
    Zstd,
}

/// Whether a file name is that of an archive, whatever its case.
pub(crate) fn is_named_like_archive(name: &str) -> bool {
    without_ending(name).is_some()
}

/// A file name without the ending of an archive.
pub(crate) fn without_ending(name: &str) -> Option<&str> {
    let lower = name.to_ascii_lowercase();
    let ending =
        ENDINGS.iter().filter(|ending| lower.ends_with(**ending)).max_by_key(|one| one.len());
    // The ending is ASCII, so that lower case has the same length.
    ending.and_then(|ending| name.get(..name.len() - ending.len())).filter(|rest| !rest.is_empty())
}

/// The format of the file at `path`, by its first bytes. None if it isn't an archive.
pub(crate) fn format(path: &Path) -> io::Result<Option<Format>> {
    let mut head = Vec::with_capacity(BLOCK);
    File::open(path)?.take(BLOCK as u64).read_to_end(&mut head)?;
    Ok(of_head(&head))
}

pub(super) fn of_head(head: &[u8]) -> Option<Format> {
    match head {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Format::Zip),
        [0x1f, 0x8b, 8, ..] => Some(Format::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Format::Zstd),
        _ if is_tar(head) => Some(Format::Tar),
        _ => None,
    }
}

/// Whether a file begins with the header of a tar archive. Archives of before 1988 have no magic
/// number, so the checksum decides. An empty archive is a block of zeros.
pub(super) fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.first_chunk::<BLOCK>() else { return false };
    if header.iter().all(|&byte| byte == 0) {
        return true;
    }
    let field = header[CHECKSUM].split(|byte| matches!(byte, 0 | b' '));
    let digits: Vec<&[u8]> = field.filter(|part| !part.is_empty()).collect();
    let [digits] = digits.as_slice() else { return false };
    let stated =
        std::str::from_utf8(digits).ok().and_then(|text| u32::from_str_radix(text, 8).ok());
    let sum = |at: usize, byte: u8| u32::from(if CHECKSUM.contains(&at) { b' ' } else { byte });
    stated == Some(header.iter().enumerate().map(|(at, &byte)| sum(at, byte)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_archives_end_in_known_ways() {
        for (name, rest) in [
            ("a.zip", "a"),
            ("A.TAR.GZ", "A"),
            ("x.tgz", "x"),
            ("x.y.tar.zst", "x.y"),
            ("x.tar", "x"),
            ("é.ZIP", "é"),
        ] {
            assert_eq!(without_ending(name), Some(rest), "{name}");
        }
        for name in ["zip", ".zip", "a.gz", "a.zip.jpg", "w.pth", "a.7z", ""] {
            assert!(!is_named_like_archive(name), "{name}");
        }
    }

    #[test]
    fn formats_are_recognized_by_content() {
        let mut header = tar::Header::new_old();
        header.set_path("a.jpg").unwrap();
        header.set_size(3);
        header.set_cksum();
        assert_eq!(of_head(header.as_bytes()), Some(Format::Tar));
        assert_eq!(of_head(&[0; BLOCK]), Some(Format::Tar));
        assert_eq!(of_head(b"PK\x03\x04"), Some(Format::Zip));
        assert_eq!(of_head(b"PK\x05\x06"), Some(Format::Zip));
        assert_eq!(of_head(b"\x1f\x8b\x08"), Some(Format::Gzip));
        let mut changed = *header.as_bytes();
        changed[0] ^= 1;
        for other in [&changed[..], b"PK", b"", &[0; BLOCK - 1], &[b'7'; BLOCK]] {
            assert_eq!(of_head(other), None);
        }
    }
}
