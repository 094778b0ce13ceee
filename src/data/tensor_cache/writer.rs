//! Writes `records.bin`: decodes images in parallel, a bounded number at a time, sorted by their
//! digests, and copies the records that an earlier file with the same fingerprint already has. The
//! sketches of the records are written beside it.

use super::encoding::Storage;
use super::file::RecordsFile;
use super::format::{Entry, Layout};
use super::reader::Records;
use super::sketches::{SketchFile, Sketches};
use crate::data::DataError;
use crate::data::decode;
use crate::data::images::{Image, ImageSet};
use crate::data::preprocessing::Geometry;
use crate::data::similarity::{Sketch, Thumbnail};
use crate::events::{CancellationToken, Task};
use crate::store::Digest;
use rayon::prelude::*;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

/// Images that a thread decodes between two writes: enough that threads rarely wait for each other,
/// few enough to bound the memory.
const CHUNK_PER_THREAD: RangeInclusive<usize> = 32..=512;
/// Bytes of their records, unless they are fewer images.
const CHUNK_BYTES: usize = 8 << 20;

/// Images of this size in pixels that are decoded between two writes.
fn chunk(size: u32) -> usize {
    let record = (size as usize).pow(2).saturating_mul(3).max(1);
    let most = (CHUNK_BYTES / record).clamp(*CHUNK_PER_THREAD.start(), *CHUNK_PER_THREAD.end());
    most * rayon::current_num_threads()
}

/// The inputs of a file of records.
pub struct Writer<'a> {
    pub images: &'a ImageSet,
    pub geometry: &'a Geometry,
    pub storage: Storage,
    /// An earlier file with the same [`fingerprint`].
    pub earlier: Option<&'a Records>,
    /// None: no sketches are made.
    pub sketches: Option<Sketching<'a>>,
    /// Advanced by one per distinct image.
    pub task: &'a Task,
    pub cancel: &'a CancellationToken,
}

/// Where the sketches of all records are written.
pub struct Sketching<'a> {
    pub path: &'a Path,
    /// Those of the earlier records.
    pub earlier: Option<Arc<Sketches>>,
}

/// The result of [`Writer::write`].
#[derive(Default)]
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
    /// The sketches of the records, if they were wanted: the earlier ones, or those of the file that
    /// was written.
    pub sketches: Option<Arc<Sketches>>,
}

enum Outcome {
    Record { entry: Entry, bytes: Vec<u8>, sketch: Option<Box<Sketch>>, reused: bool },
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
        for chunk in missing.chunks(chunk(self.geometry.size)) {
            for (image, outcome) in chunk.iter().zip(self.outcomes(chunk)) {
                match outcome? {
                    Outcome::Record { .. } => return Ok(None),
                    Outcome::Rejected(reason) => made.rejected.push((image.digest, reason)),
                }
            }
        }
        made.entries = (0..earlier.count()).filter_map(|index| earlier.entry(index)).collect();
        made.sketches = self.sketches_of(earlier, &made.entries)?;
        self.task.advance(distinct.len() as u64);
        Ok(Some(made))
    }

    /// The sketches of the earlier records: those that are known, if they are of the same images.
    fn sketches_of(
        &self,
        earlier: &Records,
        entries: &[Entry],
    ) -> Result<Option<Arc<Sketches>>, DataError> {
        let Some(Sketching { path, earlier: known }) = &self.sketches else { return Ok(None) };
        if let Some(known) = known.as_ref().filter(|known| known.are_of(entries)) {
            return Ok(Some(Arc::clone(known)));
        }
        let mut file = SketchFile::create(path)?;
        for chunk in entries.chunks(chunk(self.geometry.size)) {
            let sketch = |entry: &Entry| {
                let index = earlier.find(&entry.image_digest);
                let index = index.ok_or_else(|| DataError::damaged(path, "a record is missing"))?;
                self.sketch(entry, &earlier.stored(index)?.1)
            };
            let made: Result<Vec<Sketch>, DataError> = chunk.par_iter().map(sketch).collect();
            made?.iter().try_for_each(|sketch| file.push(sketch))?;
        }
        let records = fingerprint(self.geometry, self.storage);
        Ok(Some(Arc::new(file.finish(entries, &records)?)))
    }

    fn write_all(&self, path: &Path, distinct: &[&Image]) -> Result<Written, DataError> {
        let mut file = RecordsFile::create(path)?;
        let sketches = self.sketches.as_ref().map(|sketching| SketchFile::create(sketching.path));
        let mut sketches = sketches.transpose()?;
        let mut made = Written::default();
        for chunk in distinct.chunks(chunk(self.geometry.size)) {
            for (image, outcome) in chunk.iter().zip(self.outcomes(chunk)) {
                match outcome? {
                    Outcome::Rejected(reason) => made.rejected.push((image.digest, reason)),
                    Outcome::Record { entry, bytes, sketch, reused } => {
                        let offset = file.push(&bytes)?;
                        if let Some((file, sketch)) = sketches.as_mut().zip(sketch) {
                            file.push(&sketch)?;
                        }
                        made.reused += u64::from(reused);
                        made.entries.push(Entry { offset, ..entry });
                    }
                }
            }
            self.task.advance(chunk.len() as u64);
        }
        let layout = match self.storage {
            Storage::Raw => Layout::Equal,
            Storage::Jpeg { .. } => Layout::Listed,
        };
        let fingerprint = fingerprint(self.geometry, self.storage);
        file.finish(layout, self.geometry.size, fingerprint, made.entries.iter().copied())?;
        let sketches = sketches.map(|file| file.finish(&made.entries, &fingerprint));
        made.sketches = sketches.transpose()?.map(Arc::new);
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
                let sketch =
                    self.sketches.as_ref().map(|_| self.sketch(&entry, &bytes).map(Box::new));
                Ok(Outcome::Record { entry, bytes, sketch: sketch.transpose()?, reused: false })
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
        let sketch = match &self.sketches {
            Some(Sketching { earlier: known, .. }) => {
                let known = known.as_ref().and_then(|known| known.of_image(&image.digest));
                Some(Box::new(known.map_or_else(|| self.sketch(&entry, &bytes), Ok).ok()?))
            }
            None => None,
        };
        Some(Outcome::Record { entry, bytes: bytes.into_owned(), sketch, reused: true })
    }

    /// The sketch of a record as it is stored.
    fn sketch(&self, entry: &Entry, stored: &[u8]) -> Result<Sketch, DataError> {
        let size = self.geometry.size;
        let pixels = entry.encoding.pixels(stored, size as usize);
        let pixels = pixels.map_err(DataError::Unreadable)?;
        Ok(Sketch::of(&Thumbnail::of_square(&pixels, size)?))
    }
}
