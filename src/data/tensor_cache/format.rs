//! The binary format of `records.bin`.
//!
//! | part | bytes | content |
//! | --- | --- | --- |
//! | header | 4096 | magic, version, side, lengths, count, fingerprint, digest of the index, digest of the header |
//! | records | as the header says | RGB with 8 bits per channel, row by row, or JPEG; sorted by the digest of the image file |
//! | index | count x 80 or 96 | digest of the image file, digest of the record, width, height, notes; encoding, offset, length |
//!
//! Everything is little-endian. In version 1 every record holds pixels, so that all have the same
//! length and the index doesn't say where they are. In version 2 the index says of each record how
//! it is encoded, where it begins and how long it is. Both are current: the first is what
//! `store = "raw"` writes, the second what `store = "jpeg"` writes.
//!
//! Records start at a page boundary, one directly after the other. The index comes last because
//! only after decoding all images is it known which are readable; it is part of this file so that
//! the file alone determines which images need not be decoded again. The fingerprint covers the
//! geometry, the decoder's version and how records are stored. The length of the file is determined
//! by its header, so any truncation is detected.

use super::encoding::Encoding;
use crate::store::Digest;

/// Bytes of the header: one page, so that records start at a page boundary.
pub(super) const HEADER: usize = 4096;
const MAGIC: &[u8; 8] = b"pipe rec";
/// Bytes of the header that its digest covers.
const SIGNED: usize = 96;

/// Where records are: the version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Version 1: pixels, all of the same length.
    Equal = 1,
    /// Version 2: of any length, as the index says.
    Listed = 2,
}

impl Layout {
    /// Bytes of an index entry.
    pub(super) fn entry_bytes(self) -> usize {
        match self {
            Layout::Equal => 80,
            Layout::Listed => 96,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub layout: Layout,
    /// Side of the squares, in pixels.
    pub size: u32,
    /// Number of records.
    pub count: u64,
    /// Bytes of all records.
    pub stored: u64,
    /// See [`super::fingerprint`].
    pub fingerprint: Digest,
    /// Digest of the index.
    pub index: Digest,
}

/// The index entry of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Digest of the image file.
    pub image_digest: Digest,
    /// Digest of the record as it is stored.
    pub record_digest: Digest,
    /// Width of the image, after orientation.
    pub width: u32,
    /// Height of the image, after orientation.
    pub height: u32,
    /// [`crate::data::decode::Notes`]
    pub notes: u32,
    pub(super) encoding: Encoding,
    /// Offset of the record in the file.
    pub(super) offset: u64,
    /// Bytes of the record as it is stored.
    pub(super) length: u64,
}

impl Header {
    /// Bytes of a record's pixels.
    pub(super) fn pixel_bytes(&self) -> u64 {
        (u64::from(self.size) * u64::from(self.size)).saturating_mul(3)
    }

    /// Length of the file; none on overflow.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        let entry = self.layout.entry_bytes() as u64;
        self.index_offset()?.checked_add(self.count.checked_mul(entry)?)
    }

    /// Offset of the index; none on overflow.
    pub(super) fn index_offset(&self) -> Option<u64> {
        self.stored.checked_add(HEADER as u64)
    }

    pub(super) fn write(&self) -> [u8; HEADER] {
        let length = match self.layout {
            Layout::Equal => self.pixel_bytes(),
            Layout::Listed => self.stored,
        };
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&(self.layout as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&self.size.to_le_bytes());
        bytes[16..24].copy_from_slice(&length.to_le_bytes());
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
        let layout = match word(bytes, 8) {
            1 => Layout::Equal,
            2 => Layout::Listed,
            version => {
                let newest = Layout::Listed as u32;
                return Err(format!(
                    "its format version is {version}, and this program supports up to {newest}"
                ));
            }
        };
        if Digest::of(&bytes[..SIGNED]).as_bytes()[..] != bytes[SIGNED..SIGNED + 32] {
            return Err("its header doesn't match its digest".into());
        }
        let (length, count) = (long(bytes, 16), long(bytes, 24));
        let stored = match layout {
            Layout::Equal => length.checked_mul(count),
            Layout::Listed => Some(length),
        };
        let header = Header {
            layout,
            size: word(bytes, 12),
            count,
            stored: stored.ok_or("its header is invalid")?,
            fingerprint: digest(bytes, 32),
            index: digest(bytes, 64),
        };
        if bytes[SIGNED + 32..].iter().any(|&byte| byte != 0)
            || header.size == 0
            || (layout == Layout::Equal && length != header.pixel_bytes())
            || header.file_bytes().is_none()
        {
            return Err("its header is invalid".into());
        }
        Ok(header)
    }

    /// The entry of a record from its bytes in the index. None if they say what can't be.
    pub(super) fn entry(&self, index: u32, bytes: &[u8]) -> Option<Entry> {
        let fields: &[u8; 80] = bytes.first_chunk()?;
        let (encoding, offset, length) = match self.layout {
            Layout::Equal => {
                let length = self.pixel_bytes();
                (Encoding::Raw, HEADER as u64 + u64::from(index) * length, length)
            }
            Layout::Listed => {
                let fields: &[u8; 96] = bytes.first_chunk()?;
                (Encoding::numbered(word(fields, 76))?, long(fields, 80), long(fields, 88))
            }
        };
        Some(Entry {
            image_digest: digest(fields, 0),
            record_digest: digest(fields, 32),
            width: word(fields, 64),
            height: word(fields, 68),
            notes: word(fields, 72),
            encoding,
            offset,
            length,
        })
    }
}

impl Entry {
    /// The bytes of the entry in the index.
    pub(super) fn write(&self, layout: Layout) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(layout.entry_bytes());
        bytes.extend_from_slice(self.image_digest.as_bytes());
        bytes.extend_from_slice(self.record_digest.as_bytes());
        for word in [self.width, self.height, self.notes, self.encoding as u32] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        if layout == Layout::Listed {
            bytes.extend_from_slice(&self.offset.to_le_bytes());
            bytes.extend_from_slice(&self.length.to_le_bytes());
        }
        bytes
    }
}

fn word<const LENGTH: usize>(bytes: &[u8; LENGTH], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn long<const LENGTH: usize>(bytes: &[u8; LENGTH], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

fn digest<const LENGTH: usize>(bytes: &[u8; LENGTH], at: usize) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(&bytes[at..at + 32]);
    Digest::from_bytes(digest)
}
