//! Reads `records.bin`, memory-mapped if possible and through plain reads otherwise. The header and
//! the index are verified on opening, each record on first access. Records are given as pixels,
//! however they are stored.

use super::encoding::Encoding;
use super::format::{Entry, HEADER, Header};
use crate::data::DataError;
use crate::store::Digest;
use memmap2::Mmap;
use std::borrow::Cow;
use std::cmp::Ordering::{Equal, Greater, Less};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// An open file of records; can be shared between threads.
pub struct Records {
    path: PathBuf,
    header: Header,
    access: Access,
    /// Whether each record's digest was verified: one byte per record, the only memory that grows
    /// with their number.
    checked: Vec<AtomicBool>,
}

enum Access {
    Mapped(Mmap),
    Plain { file: Mutex<File>, index: Vec<u8> },
}

impl Records {
    pub fn open(path: &Path) -> Result<Records, DataError> {
        Records::open_as(path, true)
    }

    /// As [`Records::open`]; without `map`, memory mapping isn't tried.
    #[expect(unsafe_code, reason = "a file can only be mapped with `unsafe`")]
    pub(super) fn open_as(path: &Path, map: bool) -> Result<Records, DataError> {
        let reading = |error| DataError::io("read", path, error);
        let mut file = File::open(path).map_err(reading)?;
        let length = file.metadata().map_err(reading)?.len();
        let mut head = [0; HEADER];
        if length < HEADER as u64 {
            return Err(DataError::damaged(
                path,
                format!("its length of {length} bytes is less than that of a header"),
            ));
        }
        file.read_exact(&mut head).map_err(reading)?;
        let header = Header::read(&head).map_err(|reason| DataError::damaged(path, reason))?;
        let (Some(expected), Some(index)) = (header.file_bytes(), header.index_offset()) else {
            return Err(DataError::damaged(path, "its header is invalid"));
        };
        if expected != length {
            return Err(DataError::damaged(
                path,
                format!("its length is {length} bytes instead of {expected}"),
            ));
        }
        // SAFETY: the file was completed, renamed into place and made read-only; this program never
        // writes to or truncates it afterwards. Modification by another process can't be ruled out
        // for any mapping; `populate` faults pages in before their first use, which turns a
        // truncation up to then into an error.
        let mapped = if map { unsafe { Mmap::map(&file) }.ok() } else { None };
        let access = match mapped {
            Some(map) => Access::Mapped(map),
            None => {
                file.seek(SeekFrom::Start(index)).map_err(reading)?;
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(reading)?;
                Access::Plain { file: Mutex::new(file), index: bytes }
            }
        };
        let count = u32::try_from(header.count)
            .map_err(|_| DataError::damaged(path, "it has too many records"))?;
        let checked = (0..count).map(|_| AtomicBool::new(false)).collect();
        let records = Records { path: path.to_owned(), header, access, checked };
        records.check_index()?;
        Ok(records)
    }

    fn check_index(&self) -> Result<(), DataError> {
        if let Access::Mapped(map) = &self.access {
            self.populate(map, self.index_range())?;
        }
        if Digest::of(self.index()) != self.header.index {
            return Err(DataError::damaged(&self.path, "its index doesn't match its digest"));
        }
        if !self.is_sorted() {
            return Err(DataError::damaged(&self.path, "its index isn't sorted"));
        }
        if !self.is_gapless() {
            return Err(DataError::damaged(&self.path, "its index is inconsistent"));
        }
        Ok(())
    }

    fn is_sorted(&self) -> bool {
        (1..self.count()).all(|at| match (self.entry(at - 1), self.entry(at)) {
            (Some(one), Some(next)) => one.image_digest < next.image_digest,
            _ => false,
        })
    }

    /// Whether each record begins where the one before ends, the last ends before the index, and
    /// none is longer than its pixels.
    fn is_gapless(&self) -> bool {
        let pixels = self.header.pixel_bytes();
        let mut end = HEADER as u64;
        for entry in (0..self.count()).map(|index| self.entry(index)) {
            let Some(Entry { encoding, offset, length, .. }) = entry else { return false };
            let fits = match encoding {
                Encoding::Raw => length == pixels,
                Encoding::Jpeg => length < pixels,
            };
            let Some(next) = end.checked_add(length).filter(|_| offset == end && fits) else {
                return false;
            };
            end = next;
        }
        Some(end) == self.header.index_offset()
    }

    /// Side of the squares, in pixels.
    pub fn size(&self) -> usize {
        self.header.size as usize
    }

    pub fn count(&self) -> u32 {
        self.checked.len() as u32
    }

    /// See [`super::fingerprint`].
    pub fn fingerprint(&self) -> Digest {
        self.header.fingerprint
    }

    fn index_range(&self) -> Range<usize> {
        let start = HEADER + self.header.stored as usize;
        start..start + self.checked.len() * self.header.layout.entry_bytes()
    }

    fn index(&self) -> &[u8] {
        match &self.access {
            Access::Mapped(map) => map.get(self.index_range()).unwrap_or_default(),
            Access::Plain { index, .. } => index,
        }
    }

    /// The index entry of a record; none if there is no such record.
    pub fn entry(&self, index: u32) -> Option<Entry> {
        let length = self.header.layout.entry_bytes();
        let bytes = self.index().chunks_exact(length).nth(index as usize)?;
        self.header.entry(index, bytes)
    }

    /// The record of an image, by the digest of its file.
    pub fn find(&self, image: &Digest) -> Option<u32> {
        let digest = |index: u32| self.entry(index).map(|entry| entry.image_digest);
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            match digest(middle)?.cmp(image) {
                Less => low = middle + 1,
                Equal => return Some(middle),
                Greater => high = middle,
            }
        }
        None
    }

    /// The pixels of a record: `size * size * 3` bytes of RGB, row by row.
    pub fn record(&self, index: u32) -> Result<Cow<'_, [u8]>, DataError> {
        let (entry, stored) = self.stored(index)?;
        if entry.encoding == Encoding::Raw {
            return Ok(stored);
        }
        let pixels = entry.encoding.pixels(&stored, self.size()).map(Cow::into_owned);
        pixels.map(Cow::Owned).map_err(|reason| {
            let reason = format!("record {index} can't be decoded: {reason}");
            DataError::damaged(&self.path, reason)
        })
    }

    /// The bytes of a record as they are stored, with its entry. Their digest is verified on first
    /// access.
    pub(super) fn stored(&self, index: u32) -> Result<(Entry, Cow<'_, [u8]>), DataError> {
        let (Some(entry), Some(checked)) = (self.entry(index), self.checked.get(index as usize))
        else {
            return Err(DataError::damaged(&self.path, format!("there is no record {index}")));
        };
        let first = !checked.load(Ordering::Relaxed);
        let (start, length) = (entry.offset as usize, entry.length as usize);
        let bytes = match &self.access {
            Access::Mapped(map) => {
                if first {
                    self.populate(map, start..start + length)?;
                }
                Cow::Borrowed(map.get(start..start + length).unwrap_or_default())
            }
            Access::Plain { file, .. } => Cow::Owned(self.read_plainly(file, start, length)?),
        };
        if first {
            if Digest::of(&bytes) != entry.record_digest {
                return Err(DataError::damaged(
                    &self.path,
                    format!("record {index} doesn't match its digest"),
                ));
            }
            checked.store(true, Ordering::Relaxed);
        }
        Ok((entry, bytes))
    }

    fn read_plainly(
        &self,
        file: &Mutex<File>,
        start: usize,
        length: usize,
    ) -> Result<Vec<u8>, DataError> {
        let mut bytes = vec![0; length];
        let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(start as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|error| DataError::io("read", &self.path, error))?;
        Ok(bytes)
    }

    /// Faults a range of the map in, so that a read failure is an error here instead of a signal
    /// later. On kernels without support (Linux before 5.14), pages are faulted in on access.
    fn populate(&self, map: &Mmap, range: Range<usize>) -> Result<(), DataError> {
        if range.is_empty() {
            return Ok(());
        }
        #[cfg(target_os = "linux")]
        if let Err(error) =
            map.advise_range(memmap2::Advice::PopulateRead, range.start, range.len())
            && error.kind() != std::io::ErrorKind::InvalidInput
        {
            return Err(DataError::io("read", &self.path, error));
        }
        Ok(())
    }
}
