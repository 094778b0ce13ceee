//! The sketches of records, in their order: a file of records itself, of 8 x 8 pixels, so that it is
//! mapped and checked alike. It is kept in the memo beside the records.

use super::encoding::Encoding;
use super::file::RecordsFile;
use super::format::{Entry, Layout};
use super::reader::Records;
use crate::data::DataError;
use crate::data::similarity::{SKETCH, SKETCH_SIDE, SKETCH_VERSION, Sketch};
use crate::store::Digest;
use std::path::{Path, PathBuf};

/// Sketches in the order of records, opened for reading.
pub struct Sketches(Records);

impl Sketches {
    /// Opens the sketches of the records with this fingerprint. None if the file has others.
    ///
    /// # Errors
    /// If it can't be read or is damaged.
    pub fn open(path: &Path, records: &Digest) -> Result<Option<Sketches>, DataError> {
        let file = Records::open(path)?;
        let is_of =
            file.size() == SKETCH_SIDE as usize && file.fingerprint() == fingerprint(records);
        Ok(is_of.then_some(Sketches(file)))
    }

    /// The sketch of a record.
    pub fn of_record(&self, index: u32) -> Result<Sketch, DataError> {
        let colors = self.0.record(index)?;
        let colors = colors.first_chunk().expect("a record of 8 x 8 pixels is as long as a sketch");
        Ok(Sketch::from_bytes(*colors))
    }

    /// The sketch of the record of an image, by the digest of its file. None if there is no such
    /// record or it is damaged.
    pub(super) fn of_image(&self, image: &Digest) -> Option<Sketch> {
        self.of_record(self.0.find(image)?).ok()
    }

    /// Whether there is exactly one for each record, all intact.
    pub(super) fn are_of(&self, entries: &[Entry]) -> bool {
        let is_of = |(index, entry): (u32, &Entry)| {
            self.0.entry(index).is_some_and(|found| found.image_digest == entry.image_digest)
                && self.0.record(index).is_ok()
        };
        self.0.count() as usize == entries.len() && (0..).zip(entries).all(is_of)
    }
}

fn fingerprint(records: &Digest) -> Digest {
    Digest::of(format!("sketches {SKETCH_VERSION} {records}").as_bytes())
}

/// The file while it is written.
pub(super) struct SketchFile {
    path: PathBuf,
    file: RecordsFile,
    digests: Vec<Digest>,
}

impl SketchFile {
    pub(super) fn create(path: &Path) -> Result<SketchFile, DataError> {
        let file = RecordsFile::create(path)?;
        Ok(SketchFile { path: path.to_owned(), file, digests: Vec::new() })
    }

    /// Adds the sketch of the next record.
    pub(super) fn push(&mut self, sketch: &Sketch) -> Result<(), DataError> {
        self.digests.push(Digest::of(sketch.as_bytes()));
        self.file.push(sketch.as_bytes()).map(drop)
    }

    /// Completes the sketches of these records and opens them.
    pub(super) fn finish(self, entries: &[Entry], records: &Digest) -> Result<Sketches, DataError> {
        let SketchFile { path, file, digests } = self;
        let sketched = entries.iter().zip(&digests).map(|(entry, digest)| Entry {
            record_digest: *digest,
            encoding: Encoding::Raw,
            length: SKETCH as u64,
            ..*entry
        });
        file.finish(Layout::Equal, SKETCH_SIDE, fingerprint(records), sketched)?;
        Ok(Sketches(Records::open(&path)?))
    }
}
