//! Writing `records.bin`: decoding in parallel, in the order of the sources' digests, a bounded number of images at a
//! time, and copying each record that an earlier file of the same fingerprint already has. Knows nothing of labels.

use super::format::{Entry, HEADER, Header};
use super::reader::Records;
use crate::data::DataError;
use crate::data::decode;
use crate::data::images::{Image, ImageSet};
use crate::data::preprocessing::Geometry;
use crate::events::{CancellationToken, Task};
use crate::store::Digest;
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// Images of [`chunk`], a thread: enough that threads seldom wait for each other, few enough that
/// memory stays small.
const CHUNK: usize = 32;

/// Images decoded between two writes.
fn chunk() -> usize {
    CHUNK * rayon::current_num_threads()
}

/// What a file of records is made of.
pub struct Writer<'a> {
    /// The set of images.
    pub images: &'a ImageSet,
    /// What becomes of each.
    pub geometry: &'a Geometry,
    /// Records that were made before, by the same geometry.
    pub earlier: Option<&'a Records>,
    /// Advanced by one for each different image.
    pub task: &'a Task,
    /// Looked at between images.
    pub cancel: &'a CancellationToken,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Written {
    /// Record of each image that could be read, in the order of the sources' digests.
    pub entries: Vec<Entry>,
    /// Digests of the images that couldn't, each with the reason, in the same order.
    pub rejected: Vec<(Digest, String)>,
    /// Records that were copied from the earlier file.
    pub reused: u64,
    /// Whether the earlier file holds exactly these records: nothing was written, it can be linked.
    pub unchanged: bool,
}

/// What became of one image.
enum Outcome {
    Record { entry: Entry, bytes: Vec<u8>, reused: bool },
    Rejected(String),
}

/// The fingerprint of records made by `geometry`: equal fingerprints, equal bytes for the same image.
pub fn fingerprint(geometry: &Geometry) -> Digest {
    let words = format!("records {} {geometry:?}", decode::VERSION);
    Digest::of(words.as_bytes())
}

impl Writer<'_> {
    /// Makes the records of every different image and writes them to `path`.
    ///
    /// # Errors
    /// Where a image can't be read from disk at all or isn't the one that was listed; one that can't be decoded is
    /// rejected, not an error.
    pub fn write(&self, path: &Path) -> Result<Written, DataError> {
        let mut sources: Vec<&Image> = self.images.list().iter().collect();
        sources.sort_by_key(|image| (image.digest, image.path.as_str()));
        sources.dedup_by_key(|image| image.digest);
        if let Some(made) = self.unchanged(&sources)? {
            return Ok(made);
        }
        self.write_all(path, &sources)
    }

    /// Whether the earlier file holds exactly the records of `sources`, none more, none damaged: then what it lacks are
    /// images that can't be decoded, which must be few.
    fn unchanged(&self, sources: &[&Image]) -> Result<Option<Written>, DataError> {
        let Some(earlier) = self.earlier else { return Ok(None) };
        let (known, missing): (Vec<&Image>, Vec<&Image>) =
            sources.iter().partition(|image| earlier.find(&image.digest).is_some());
        if known.len() != earlier.count() as usize || missing.len() * 10 > sources.len() {
            return Ok(None);
        }
        let intact =
            (0..earlier.count()).into_par_iter().all(|index| earlier.record(index).is_ok());
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
        self.task.advance(sources.len() as u64);
        Ok(Some(made))
    }

    fn write_all(&self, path: &Path, sources: &[&Image]) -> Result<Written, DataError> {
        let writing = |error| DataError::io("writing", path, error);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(writing)?);
        file.write_all(&[0; HEADER]).map_err(writing)?;
        let mut made = Written::default();
        for chunk in sources.chunks(chunk()) {
            for (image, outcome) in chunk.iter().zip(self.outcomes(chunk)) {
                match outcome? {
                    Outcome::Rejected(reason) => made.rejected.push((image.digest, reason)),
                    Outcome::Record { entry, bytes, reused } => {
                        file.write_all(&bytes).map_err(writing)?;
                        made.reused += u64::from(reused);
                        made.entries.push(entry);
                    }
                }
            }
            self.task.advance(chunk.len() as u64);
        }
        let index: Vec<u8> = made.entries.iter().flat_map(Entry::write).collect();
        file.write_all(&index).map_err(writing)?;
        let header = Header {
            size: self.geometry.size,
            count: made.entries.len() as u64,
            fingerprint: fingerprint(self.geometry),
            index: Digest::of(&index),
        };
        file.seek(SeekFrom::Start(0)).map_err(writing)?;
        file.write_all(&header.write()).map_err(writing)?;
        file.flush().map_err(writing)?;
        Ok(made)
    }

    /// What becomes of each image, in their order.
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
        let bytes = self.images.read(image)?;
        match decode::to_square(&bytes, self.geometry) {
            Ok(decoded) => {
                let entry = Entry {
                    image_digest: image.digest,
                    digest: Digest::of(&decoded.pixels),
                    width: decoded.width,
                    height: decoded.height,
                    notes: decoded.notes.0,
                };
                Ok(Outcome::Record { entry, bytes: decoded.pixels, reused: false })
            }
            Err(DataError::Unreadable(reason)) => Ok(Outcome::Rejected(reason)),
            Err(other) => Err(other),
        }
    }

    /// The record as an earlier file has it; none where it has none, or a damaged one.
    fn copied(&self, image: &Image) -> Option<Outcome> {
        let earlier = self.earlier?;
        let index = earlier.find(&image.digest)?;
        let bytes = earlier.record(index).ok()?.into_owned();
        Some(Outcome::Record { entry: earlier.entry(index)?, bytes, reused: true })
    }
}
