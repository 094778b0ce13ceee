//! The file format of cached features: a row of numbers for each of some records. A file is
//! immutable, and the reader checks its digest: it is complete or rejected. Depends on no network
//! or memo.
//!
//! | field | bytes, little endian |
//! | --- | --- |
//! | magic | 8 |
//! | key of the features | 32 |
//! | values per row | 4 (u32) |
//! | rows | 4 (u32) |
//! | digest of each row's record | 32 * rows |
//! | rows | 4 * values * rows (f32) |

use crate::store::{Digest, digest_file};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The last byte is the version of the format.
const MAGIC: &[u8; 8] = b"pipefea\x01";
/// Length of the fields before the record digests.
const HEADER: usize = 8 + 32 + 4 + 4;

/// The length of a file, in bytes.
pub(super) fn length(rows: usize, width: usize) -> u64 {
    (HEADER + rows * (32 + 4 * width)) as u64
}

/// Writes a file and returns its digest. `rows` has `width` values for each record.
pub(super) fn write(
    path: &Path,
    key: &Digest,
    width: usize,
    records: &[Digest],
    rows: &[f32],
) -> io::Result<Digest> {
    let sizes = (u32::try_from(width), u32::try_from(records.len()));
    let (Ok(width), Ok(count)) = sizes else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(MAGIC)?;
    file.write_all(key.as_bytes())?;
    file.write_all(&width.to_le_bytes())?;
    file.write_all(&count.to_le_bytes())?;
    records.iter().try_for_each(|record| file.write_all(record.as_bytes()))?;
    rows.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    digest_file(path)
}

/// An open file.
pub(super) struct Segment {
    file: File,
    width: usize,
    records: Vec<Digest>,
}

impl Segment {
    /// Opens a file of features. None unless it is the complete file with this digest, key and
    /// width.
    pub(super) fn open(
        path: &Path,
        digest: &Digest,
        key: &Digest,
        width: usize,
    ) -> Option<Segment> {
        Segment::of_any_width(path, digest, key).filter(|segment| segment.width == width)
    }

    /// The same with any width.
    pub(super) fn of_any_width(path: &Path, digest: &Digest, key: &Digest) -> Option<Segment> {
        if digest_file(path).ok()? != *digest {
            return None;
        }
        let mut file = File::open(path).ok()?;
        let mut header = [0; HEADER];
        file.read_exact(&mut header).ok()?;
        let word =
            |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?) as usize);
        let (width, count) = (word(40)?, word(44)?);
        if header[..8] != MAGIC[..] || header[8..40] != key.as_bytes()[..] {
            return None;
        }
        let length = count.checked_mul(32 + 4 * width)?.checked_add(HEADER)?;
        if file.metadata().ok()?.len() != length as u64 {
            return None;
        }
        let mut digests = vec![0; count * 32];
        file.read_exact(&mut digests).ok()?;
        let records =
            digests.as_chunks::<32>().0.iter().map(|&bytes| Digest::from_bytes(bytes)).collect();
        Some(Segment { file, width, records })
    }

    /// The digest of each row's record.
    pub(super) fn records(&self) -> &[Digest] {
        &self.records
    }

    /// Reads a row into `out`, which has its length.
    pub(super) fn read(&self, row: usize, out: &mut [f32]) -> io::Result<()> {
        let mut bytes = vec![0; 4 * self.width];
        let start = HEADER + self.records.len() * 32 + row * bytes.len();
        self.file.read_exact_at(&mut bytes, start as u64)?;
        for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (tempfile::TempDir, std::path::PathBuf, Digest, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment");
        let records = [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c")];
        let rows: Vec<f32> = (0..6).map(|value| value as f32 / 3.0).collect();
        let digest = write(&path, &Digest::of(b"network"), 2, &records, &rows).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (folder, path, digest, bytes)
    }

    #[test]
    fn rows_are_found_by_record() {
        let (_folder, path, digest, _) = written();
        let segment = Segment::open(&path, &digest, &Digest::of(b"network"), 2).unwrap();
        assert_eq!(segment.records()[1], Digest::of(b"b"));
        let mut row = [0.0; 2];
        segment.read(1, &mut row).unwrap();
        assert_eq!(row, [2.0 / 3.0, 1.0]);
        assert!(segment.read(3, &mut row).is_err());
        assert!(Segment::open(&path, &digest, &Digest::of(b"another network"), 2).is_none());
        assert!(Segment::open(&path, &digest, &Digest::of(b"network"), 3).is_none());
    }

    #[test]
    fn a_truncated_or_changed_file_is_refused() {
        let (_folder, path, digest, bytes) = written();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            // Even if the truncated file's digest is the expected one.
            for digest in [digest, digest_file(&path).unwrap()] {
                assert!(
                    Segment::open(&path, &digest, &Digest::of(b"network"), 2).is_none(),
                    "{length}"
                );
            }
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            std::fs::write(&path, &changed).unwrap();
            assert!(Segment::open(&path, &digest, &Digest::of(b"network"), 2).is_none(), "{at}");
        }
    }
}
