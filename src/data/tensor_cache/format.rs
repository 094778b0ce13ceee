//! The binary format of `records.bin`.
//!
//! | part | bytes | content |
//! | --- | --- | --- |
//! | header | 4096 | magic, version, side, record length, count, fingerprint, digest of the index, digest of the header |
//! | records | count x side x side x 3 | RGB with 8 bits per channel, row by row; sorted by the digest of the image file |
//! | index | count x 80 | digest of the image file, digest of the record, width, height, notes, zero |
//!
//! Everything is little-endian. Records start at a page boundary and have the same length, so
//! access in any order is cheap. The index comes last because only after decoding all images is it
//! known which are readable; it is part of this file so that the file alone determines which images
//! need not be decoded again. The fingerprint covers the geometry and the decoder's version. The
//! length of the file is determined by its header, so any truncation is detected.

use crate::store::Digest;

/// Bytes of the header: one page, so that records start at a page boundary.
pub(super) const HEADER: usize = 4096;
/// Bytes of an index entry.
pub(super) const ENTRY: usize = 80;
const MAGIC: &[u8; 8] = b"pipe rec";
const VERSION: u32 = 1;
/// Bytes of the header that its digest covers.
const SIGNED: usize = 96;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Side of the squares, in pixels.
    pub size: u32,
    /// Number of records.
    pub count: u64,
    /// See [`super::fingerprint`].
    pub fingerprint: Digest,
    /// Digest of the index.
    pub index: Digest,
}

/// The index entry of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Digest of the image file.
    pub image_digest: Digest,
    pub record_digest: Digest,
    /// Width of the image, after orientation.
    pub width: u32,
    /// Height of the image, after orientation.
    pub height: u32,
    /// [`crate::data::decode::Notes`]
    pub notes: u32,
}

impl Header {
    /// Length of a record.
    pub(super) fn record_bytes(&self) -> u64 {
        u64::from(self.size) * u64::from(self.size) * 3
    }

    /// Length of the file; none on overflow.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        self.index_offset()?.checked_add(self.count.checked_mul(ENTRY as u64)?)
    }

    /// Offset of the index; none on overflow.
    pub(super) fn index_offset(&self) -> Option<u64> {
        self.record_bytes().checked_mul(self.count)?.checked_add(HEADER as u64)
    }

    pub(super) fn write(&self) -> [u8; HEADER] {
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

    /// Parses a header. The error is a sentence.
    pub(super) fn read(bytes: &[u8; HEADER]) -> Result<Header, String> {
        if &bytes[..8] != MAGIC {
            return Err("it is not a file of records".into());
        }
        let version = word(bytes, 8);
        if version > VERSION {
            return Err(format!(
                "its format version is {version}, and this program supports up to {VERSION}"
            ));
        }
        if Digest::of(&bytes[..SIGNED]).as_bytes()[..] != bytes[SIGNED..SIGNED + 32] {
            return Err("its header doesn't match its digest".into());
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
            return Err("its header is invalid".into());
        }
        Ok(header)
    }
}

impl Entry {
    pub fn write(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..32].copy_from_slice(self.image_digest.as_bytes());
        bytes[32..64].copy_from_slice(self.record_digest.as_bytes());
        bytes[64..68].copy_from_slice(&self.width.to_le_bytes());
        bytes[68..72].copy_from_slice(&self.height.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.notes.to_le_bytes());
        bytes
    }

    pub fn read(bytes: &[u8; ENTRY]) -> Entry {
        Entry {
            image_digest: digest(bytes, 0),
            record_digest: digest(bytes, 32),
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
