//! Digests of a file: those that are computed while it is downloaded, and those that servers state.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::Md5;
use sha2::{Digest as _, Sha256};
use ureq::http::HeaderMap;

/// Checksums of a whole file as Google's storage states them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checksums {
    /// In hexadecimal digits.
    pub md5: Option<String>,
    pub crc32c: Option<String>,
}

/// A checksum that a file doesn't have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub kind: &'static str,
    pub expected: String,
    pub found: String,
}

impl Checksums {
    /// Those of the headers `x-goog-hash: crc32c=BASE64,md5=BASE64`.
    pub(super) fn of(headers: &HeaderMap) -> Checksums {
        let mut checksums = Checksums::default();
        let values = headers.get_all("x-goog-hash").into_iter().filter_map(|one| one.to_str().ok());
        for (name, value) in
            values.flat_map(|one| one.split(',')).filter_map(|one| one.split_once('='))
        {
            let decoded = BASE64_STANDARD.decode(value.trim()).ok().map(|bytes| hex(&bytes));
            match name.trim() {
                "md5" => checksums.md5 = decoded.filter(|text| text.len() == 32),
                "crc32c" => checksums.crc32c = decoded.filter(|text| text.len() == 8),
                _ => {}
            }
        }
        checksums
    }
}

/// The digests of what was read so far.
#[derive(Clone, Default)]
pub(super) struct Hashes {
    sha256: Sha256,
    md5: Md5,
    crc32c: u32,
}

impl Hashes {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
    }

    /// The SHA-256 in hexadecimal digits.
    pub(super) fn sha256(&self) -> String {
        hex(&self.sha256.clone().finalize())
    }

    /// The first of the stated checksums that the file doesn't have.
    pub(super) fn mismatch(&self, stated: &Checksums) -> Option<Mismatch> {
        let found = [
            ("MD5", &stated.md5, hex(&self.md5.clone().finalize())),
            ("CRC32C", &stated.crc32c, hex(&self.crc32c.to_be_bytes())),
        ];
        found.into_iter().find_map(|(kind, expected, found)| {
            let expected = expected.clone().filter(|expected| *expected != found)?;
            Some(Mismatch { kind, expected, found })
        })
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | openssl md5 -binary | base64`, and the CRC32C of RFC 3720 for 32 zeros.
    #[test]
    fn checksums_are_googles() {
        let mut headers = HeaderMap::new();
        headers.append("x-goog-hash", "crc32c=mnG7TA==".parse().unwrap());
        headers.append("x-goog-hash", "md5=XUFAKrxLKna5cZ2REBfFkg==".parse().unwrap());
        let stated = Checksums::of(&headers);
        assert_eq!(stated.md5.as_deref(), Some("5d41402abc4b2a76b9719d911017c592"));
        let mut hashes = Hashes::default();
        hashes.update(b"hel");
        hashes.update(b"lo");
        assert_eq!(hashes.mismatch(&stated), None);
        hashes.update(b"!");
        assert_eq!(hashes.mismatch(&stated).unwrap().kind, "MD5");
        let only_crc = Checksums { md5: None, ..stated };
        assert_eq!(hashes.mismatch(&only_crc).unwrap().kind, "CRC32C");
        let mut zeros = Hashes::default();
        zeros.update(&[0; 32]);
        assert_eq!(zeros.crc32c, 0x8a91_36aa);
        let mut other = HeaderMap::new();
        other.append("x-goog-hash", "md5=!,crc32c=AA==, x".parse().unwrap());
        assert_eq!(Checksums::of(&other), Checksums::default());
    }
}
