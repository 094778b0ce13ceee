//! Writes `records.bin`: decodes images in parallel, a bounded number at a time, sorted by their
//! digests, and copies the records that an earlier file with the same fingerprint already has.

use super::encoding::Storage;
use super::format::{Entry, HEADER, Header, Layout};
use super::reader::Records;
use crate::data::DataError;
use crate::data::decode;
use crate::data::images::{Image, ImageSet};
use crate::data::preprocessing::Geometry;
use crate::data::similarity::Sketches;
use crate::events::{CancellationToken, Task};
use crate::store::Digest;
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// Images of [`chunk`] per thread: enough that threads rarely wait for each other, few enough to
/// bound the memory.
const CHUNK_PER_THREAD: usize = 32;

/// Images decoded between two writes.
fn chunk() -> usize {
    CHUNK_PER_THREAD * rayon::current_num_threads()
}

/// The inputs of a file of records.
pub struct Writer<'a> {
    pub images: &'a ImageSet,
    pub geometry: &'a Geometry,
    pub storage: Storage,
    /// An earlier file with the same [`fingerprint`].
    pub earlier: Option<&'a Records>,
    /// Gets the sketch of each image that is decoded.
    pub sketches: &'a Sketches,
    /// Advanced by one per distinct image.
    pub task: &'a Task,
    pub cancel: &'a CancellationToken,
}

/// The result of [`Writer::write`].
#[derive(Debug, Default)]
pub struct Written {
    /// Index entries, sorted by the digests of the image files.
    pub entries: Vec<Entry>,
    /// Digests of unreadable images with the reason, in the same order.
    pub rejected: Vec<(Digest, String)>,
    /// Number of records copied from the earlier file.
    pub reused: u64,
    /// Whether the earlier file has exactly these records. In this case nothing was written, and it
    /// can be linked.
    pub unchanged: bool,
}

enum Outcome {
    Record { entry: Entry, bytes: Vec<u8>, reused: bool },
    Rejected(String),
}

impl Written {
    /// Number of records that were decoded.
    pub fn decoded(&self) -> u64 {
        self.entries.len() as u64 - self.reused
    }
}

/// Identifies the geometry, the decoder's version and how records are stored: with equal
/// fingerprints, the same image gives the same record.
pub fn fingerprint(geometry: &Geometry, storage: Storage) -> Digest {
    let words = format!("records {} {geometry:?}{}", decode::VERSION, storage.fingerprint());
    Digest::of(words.as_bytes())
}

impl Writer<'_> {
    /// Writes the records of all distinct images to `path`.
    ///
    /// # Errors
    /// If a file can't be read or differs from the listing. An image that can't be decoded is
    /// rejected instead.
    pub fn write(&self, path: &Path) -> Result<Written, DataError> {
        let mut distinct: Vec<&Image> = self.images.list().iter().collect();
        distinct.sort_by_key(|image| (image.digest, image.path.as_str()));
        distinct.dedup_by_key(|image| image.digest);
        if let Some(made) = self.unchanged(&distinct)? {
            return Ok(made);
        }
        self.write_all(path, &distinct)
    }

    /// The result if the earlier file has exactly the records of `distinct`, all intact. Images
    /// that it lacks must be unreadable; only a few are tried.
    fn unchanged(&self, distinct: &[&Image]) -> Result<Option<Written>, DataError> {
        let Some(earlier) = self.earlier else { return Ok(None) };
        let (known, missing): (Vec<&Image>, Vec<&Image>) =
            distinct.iter().partition(|image| earlier.find(&image.digest).is_some());
        if known.len() != earlier.count() as usize || missing.len() * 10 > distinct.len() {
            return Ok(None);
        }
        let intact =
            (0..earlier.count()).into_par_iter().all(|index| earlier.stored(index).is_ok());
        if !intact {
            return Ok(None);
        }
        let mut made =
            Written { unchanged: true, reused: known.len() as u64, ..Written::default() };
        for chunk in missing.chunks(chunk()) {
            for (image, outcome) in chunk.iter().zip(self.outcomes(chunk)) {
                match outcome? {
                    Outcome::Record { .. } => return Ok(None),
                    Outcome::Rejected(reason) => made.rejected.push((image.digest, reason)),
                }
            }
        }
        made.entries = (0..earlier.count()).filter_map(|index| earlier.entry(index)).collect();
        self.task.advance(distinct.len() as u64);
        Ok(Some(made))
    }

    fn write_all(&self, path: &Path, distinct: &[&Image]) -> Result<Written, DataError> {
        let writing = |error| DataError::io("write", path, error);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(writing)?);
        file.write_all(&[0; HEADER]).map_err(writing)?;
        let (mut made, mut end) = (Written::default(), HEADER as u64);
        for chunk in distinct.chunks(chunk()) {
            for (image, outcome) in chunk.iter().zip(self.outcomes(chunk)) {
                match outcome? {
                    Outcome::Rejected(reason) => made.rejected.push((image.digest, reason)),
                    Outcome::Record { entry, bytes, reused } => {
                        file.write_all(&bytes).map_err(writing)?;
                        made.reused += u64::from(reused);
                        made.entries.push(Entry { offset: end, ..entry });
                        end += bytes.len() as u64;
                    }
                }
            }
            self.task.advance(chunk.len() as u64);
        }
        let layout = match self.storage {
            Storage::Raw => Layout::Equal,
            Storage::Jpeg { .. } => Layout::Listed,
        };
        let index: Vec<u8> = made.entries.iter().flat_map(|entry| entry.write(layout)).collect();
        file.write_all(&index).map_err(writing)?;
        let header = Header {
            layout,
            size: self.geometry.size,
            count: made.entries.len() as u64,
            stored: end - HEADER as u64,
            fingerprint: fingerprint(self.geometry, self.storage),
            index: Digest::of(&index),
        };
        file.seek(SeekFrom::Start(0)).map_err(writing)?;
        file.write_all(&header.write()).map_err(writing)?;
        file.flush().map_err(writing)?;
        Ok(made)
    }

    /// In the order of `images`.
    fn outcomes(&self, images: &[&Image]) -> Vec<Result<Outcome, DataError>> {
        images.par_iter().map(|image| self.outcome(image)).collect()
    }

    fn outcome(&self, image: &Image) -> Result<Outcome, DataError> {
        if self.cancel.is_cancelled() {
            return Err(DataError::Cancelled);
        }
        if let Some(copied) = self.copied(image) {
            return Ok(copied);
        }
        let decode = |bytes: Vec<u8>| decode::to_square(&bytes, self.geometry);
        match self.images.read(image).and_then(decode) {
            Ok(decoded) => {
                // An image stored as JPEG decodes to other pixels.
                if self.storage == Storage::Raw {
                    self.sketches.add(image.digest, &decoded.pixels, self.geometry.size);
                }
                let (encoding, bytes) = self.storage.encode(decoded.pixels, self.geometry.size);
                let entry = Entry {
                    image_digest: image.digest,
                    record_digest: Digest::of(&bytes),
                    width: decoded.width,
                    height: decoded.height,
                    notes: decoded.notes.0,
                    encoding,
                    // Known when it is written.
                    offset: 0,
                    length: bytes.len() as u64,
                };
                Ok(Outcome::Record { entry, bytes, reused: false })
            }
            Err(DataError::Unreadable(reason)) => Ok(Outcome::Rejected(reason)),
            Err(other) => Err(other),
        }
    }

    /// The record from the earlier file; none if it is missing or damaged.
    fn copied(&self, image: &Image) -> Option<Outcome> {
        let earlier = self.earlier?;
        let index = earlier.find(&image.digest)?;
        let (entry, bytes) = earlier.stored(index).ok()?;
        Some(Outcome::Record { entry, bytes: bytes.into_owned(), reused: true })
    }
}
