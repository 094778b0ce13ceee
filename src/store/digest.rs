//! Content digests: SHA-256, and for a file of several blocks a hash tree, so that the blocks can
//! be digested in parallel.

use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;

/// Bytes per block. The digest of a file of at most one block is the SHA-256 of its content, as
/// printed by `sha256sum`.
pub const BLOCK: u64 = 4 << 20;

/// Bytes per read: few enough to stay in a core's cache until they are digested.
const READ: usize = 128 << 10;

/// The prefix of what the root of a tree digests: it separates trees from plain files.
const TREE: &[u8] = b"pipe tree 1\0";

/// A SHA-256 digest, displayed as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    pub const fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits, for display.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.pad(std::str::from_utf8(&text).expect("hexadecimal digits are UTF-8"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseDigestError;

impl fmt::Display for ParseDigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest is 64 lowercase hexadecimal digits")
    }
}

impl std::error::Error for ParseDigestError {}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Digest, ParseDigestError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(ParseDigestError),
        };
        let text: &[u8; 64] = text.as_bytes().try_into().map_err(|_| ParseDigestError)?;
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Digest(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 lowercase hexadecimal digits")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Computes [`Digest::of`] incrementally.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    pub fn new() -> Hasher {
        Hasher::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// The digest of a file's content: SHA-256 up to one [`BLOCK`], the root of the hash tree
/// otherwise. The root is the SHA-256 of a prefix, the length and the digests of the blocks, which
/// are computed on rayon's current pool.
pub fn digest_file(path: &Path) -> io::Result<Digest> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    digest_open(&file, length)
}

/// [`digest_file`] for content in memory.
pub fn digest_bytes(bytes: &[u8]) -> Digest {
    if bytes.len() as u64 <= BLOCK {
        return Digest::of(bytes);
    }
    let blocks: Vec<Digest> = bytes.par_chunks(BLOCK as usize).map(Digest::of).collect();
    root_of(bytes.len() as u64, &blocks)
}

/// The digest of the first `length` bytes of an open file. Fails if the file is shorter.
pub(super) fn digest_open(file: &File, length: u64) -> io::Result<Digest> {
    if length <= BLOCK {
        return digest_span(file, 0, length);
    }
    let blocks: Vec<Digest> = (0..length.div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let start = block * BLOCK;
            digest_span(file, start, BLOCK.min(length - start))
        })
        .collect::<io::Result<_>>()?;
    Ok(root_of(length, &blocks))
}

fn root_of(length: u64, blocks: &[Digest]) -> Digest {
    let mut root = Hasher::new();
    root.update(TREE);
    root.update(&length.to_le_bytes());
    for block in blocks {
        root.update(block.as_bytes());
    }
    root.finish()
}

fn digest_span(file: &File, start: u64, length: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0u8; READ.min(usize::try_from(length).unwrap_or(READ))];
    let (mut position, end) = (start, start + length);
    while position < end {
        let wanted = buffer.len().min(usize::try_from(end - position).unwrap_or(READ));
        let piece = &mut buffer[..wanted];
        file.read_exact_at(piece, position)?;
        hasher.update(piece);
        position += wanted as u64;
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_round_trips_and_other_text_is_refused() {
        let digest = Digest::of(b"abc");
        assert_eq!(
            digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.short(), "ba7816bf8f01");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(
            serde_json::from_str::<Digest>(&serde_json::to_string(&digest).unwrap()).unwrap(),
            digest
        );
        for wrong in ["", "ba", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65), &"é".repeat(32)]
        {
            assert_eq!(wrong.parse::<Digest>(), Err(ParseDigestError), "{wrong}");
        }
    }

    #[test]
    fn a_long_file_has_a_tree_and_every_changed_byte_changes_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        let mut bytes: Vec<u8> = (0..BLOCK * 2 + 5).map(|i| (i * 31 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let whole = digest_file(&path).unwrap();
        let mut root = Hasher::new();
        root.update(TREE);
        root.update(&(bytes.len() as u64).to_le_bytes());
        bytes.chunks(BLOCK as usize).for_each(|block| root.update(Digest::of(block).as_bytes()));
        assert_eq!(whole, root.finish());
        assert_eq!(whole, digest_bytes(&bytes));
        for position in [0, BLOCK as usize, bytes.len() - 1] {
            bytes[position] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_ne!(digest_file(&path).unwrap(), whole);
            bytes[position] ^= 1;
        }
        std::fs::write(&path, &bytes[..BLOCK as usize]).unwrap();
        assert_eq!(digest_file(&path).unwrap(), Digest::of(&bytes[..BLOCK as usize]));
        let file = File::open(&path).unwrap();
        assert!(digest_open(&file, BLOCK + 1).is_err());
    }

    proptest! {
        #[test]
        fn incremental_digests_equal_digests_of_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..2000), cut in 0usize..2000) {
            let cut = cut.min(bytes.len());
            let mut hasher = Hasher::new();
            hasher.update(&bytes[..cut]);
            hasher.update(&bytes[cut..]);
            prop_assert_eq!(hasher.finish(), Digest::of(&bytes));
        }
    }
}
