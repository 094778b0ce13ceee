//! The bytes of `records.bin`. Knows offsets and checks; opens no file.
//!
//! | part | bytes | what |
//! | --- | --- | --- |
//! | header | 4096 | magic, version, side, record length, count, fingerprint, digest of the index, digest of the header |
//! | records | count x side x side x 3 | red, green, blue of 8 bits, row by row; ordered by the digest of their source |
//! | index | count x 80 | source digest, record digest, width, height, notes, zero |
//!
//! Everything is little-endian. Records begin on a page and have one length, so any order is one multiplication away. The
//! index comes last because which images can be read is known only when all were tried; it is in this file, not in a
//! table, so that the file alone says which images need not be decoded again. The fingerprint is that of the geometry
//! and the decoder's version. The file has exactly the length that its header says, so a cut anywhere is noticed.

use crate::store::Digest;

/// Bytes of the header: one page, so that records begin on one.
pub const HEADER: usize = 4096;
/// Bytes of an entry of the index.
pub const ENTRY: usize = 80;
const MAGIC: &[u8; 8] = b"pipe rec";
/// Version 1: the first.
const VERSION: u32 = 1;
/// Bytes of the header that its digest is of.
const SIGNED: usize = 96;

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Side of the squares, in pixels.
    pub size: u32,
    /// Records in the file.
    pub count: u64,
    /// Fingerprint of what made them.
    pub fingerprint: Digest,
    /// Digest of the index.
    pub index: Digest,
}

/// What the index says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Digest of the image file.
    pub image_digest: Digest,
    /// Digest of the record.
    pub digest: Digest,
    /// Width of the image, upright.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// What was done to it: [`crate::data::decode::Notes`].
    pub notes: u32,
}

impl Header {
    /// Bytes of a record.
    pub fn record_bytes(&self) -> u64 {
        u64::from(self.size) * u64::from(self.size) * 3
    }

    /// Bytes of the whole file; none where they can't be counted.
    pub fn file_bytes(&self) -> Option<u64> {
        self.index_offset()?.checked_add(self.count.checked_mul(ENTRY as u64)?)
    }

    /// Where the index begins; none where it can't be said.
    pub fn index_offset(&self) -> Option<u64> {
        self.record_bytes().checked_mul(self.count)?.checked_add(HEADER as u64)
    }

    /// The header's bytes.
    pub fn write(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.record_bytes().to_le_bytes());
        bytes[24..32].copy_from_slice(&self.count.to_le_bytes());
        bytes[32..64].copy_from_slice(self.fingerprint.as_bytes());
        bytes[64..96].copy_from_slice(self.index.as_bytes());
        let digest = Digest::of(&bytes[..SIGNED]);
        bytes[SIGNED..SIGNED + 32].copy_from_slice(digest.as_bytes());
        bytes
    }

    /// Reads a header; the sentence says what is wrong with it.
    pub fn read(bytes: &[u8; HEADER]) -> Result<Header, String> {
        if &bytes[..8] != MAGIC {
            return Err("it isn't a file of records".into());
        }
        let version = word(bytes, 8);
        if version > VERSION {
            return Err(format!(
                "its format is version {version}, this program reads up to {VERSION}"
            ));
        }
        if Digest::of(&bytes[..SIGNED]).as_bytes()[..] != bytes[SIGNED..SIGNED + 32] {
            return Err("its header isn't as it was written".into());
        }
        let header = Header {
            size: word(bytes, 12),
            count: u64::from(word(bytes, 24)) | u64::from(word(bytes, 28)) << 32,
            fingerprint: digest(bytes, 32),
            index: digest(bytes, 64),
        };
        if bytes[SIGNED + 32..].iter().any(|&byte| byte != 0)
            || header.size == 0
            || header.file_bytes().is_none()
        {
            return Err("its header says what can't be".into());
        }
        Ok(header)
    }
}

impl Entry {
    /// The entry's bytes.
    pub fn write(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..32].copy_from_slice(self.image_digest.as_bytes());
        bytes[32..64].copy_from_slice(self.digest.as_bytes());
        bytes[64..68].copy_from_slice(&self.width.to_le_bytes());
        bytes[68..72].copy_from_slice(&self.height.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.notes.to_le_bytes());
        bytes
    }

    /// Reads an entry.
    pub fn read(bytes: &[u8; ENTRY]) -> Entry {
        Entry {
            image_digest: digest(bytes, 0),
            digest: digest(bytes, 32),
            width: word(bytes, 64),
            height: word(bytes, 68),
            notes: word(bytes, 72),
        }
    }
}

fn word<const LENGTH: usize>(bytes: &[u8; LENGTH], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn digest<const LENGTH: usize>(bytes: &[u8; LENGTH], at: usize) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(&bytes[at..at + 32]);
    Digest::from_bytes(digest)
}
