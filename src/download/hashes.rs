//! Digests of a file: those that are computed while it is downloaded, and those that servers state.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use ureq::http::HeaderMap;

/// Checksums of a whole file as servers state them, in hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checksums {
    pub md5: Option<String>,
    pub crc32c: Option<String>,
    pub sha256: Option<String>,
}

/// A checksum that a file doesn't have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub kind: &'static str,
    pub expected: String,
    pub found: String,
}

impl Checksums {
    /// Those of Google's headers `x-goog-hash: crc32c=BASE64,md5=BASE64`.
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
            ("SHA-256", &stated.sha256, self.sha256()),
        ];
        found.into_iter().find_map(|(kind, expected, found)| {
            let expected = expected.clone().filter(|expected| *expected != found)?;
            Some(Mismatch { kind, expected, found })
        })
    }
}

/// The SHA-256 in the header `X-Linked-Etag` of the Hugging Face Hub, which it sends with the
/// redirect to a large file. Small files have Git's SHA-1 there.
pub(super) fn linked_sha256(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("x-linked-etag")?.to_str().ok()?;
    let digest = text.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
    is_hex(&digest, 64).then_some(digest)
}

/// Git's SHA-1 of the file at `path` in hexadecimal digits, as `git hash-object` prints it.
pub(super) fn git_sha1(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha1::new();
    digest.update(format!("blob {}\0", file.metadata()?.len()));
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// Whether a text is `length` hexadecimal digits.
pub(super) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | git hash-object --stdin`
    #[test]
    fn small_files_of_a_repository_have_gits_sha1() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"hello").unwrap();
        assert_eq!(git_sha1(file.path()).unwrap(), "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0");
    }

    #[test]
    fn a_linked_etag_may_be_a_sha256() {
        let linked = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.append("x-linked-etag", value.parse().unwrap());
            linked_sha256(&headers)
        };
        let digest = "a1".repeat(32);
        assert_eq!(linked(&format!("\"{digest}\"")), Some(digest.clone()));
        assert_eq!(linked(&format!("W/\"{digest}\"")), Some(digest));
        assert_eq!(linked(&"a1".repeat(20)), None);
    }

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
        let known = Checksums { sha256: Some("0".repeat(64)), ..Checksums::default() };
        assert_eq!(hashes.mismatch(&known).unwrap().kind, "SHA-256");
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
