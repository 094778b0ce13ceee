//! The tensor cache: decoded, resized images of one size in a file that is mapped (`records.bin`), a table of samples
//! that point into it (`samples.tsv`), and how both are to be read (`input.json`). A changed label or split rewrites the
//! table alone. Knows nothing of how images are decoded or where they come from.

mod format;
mod reader;
mod samples;
mod writer;

pub use format::Entry;
pub use reader::Records;
pub use samples::{Sample, Split};
pub use writer::{Writer, Written, fingerprint};

use super::{DataError, InputInfo, table};
use crate::store::Digest;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// File name of the records.
pub const RECORDS: &str = "records.bin";
/// File name of the table of samples.
pub const SAMPLES: &str = "samples.tsv";
/// File name of [`InputInfo`].
pub const INPUT: &str = "input.json";

/// A preprocessed set of images, opened for reading. Shared between threads.
pub struct TensorCache {
    info: InputInfo,
    samples: Vec<Sample>,
    records: Records,
}

impl TensorCache {
    /// Opens the artifact of a preprocess stage, and checks that its parts belong together.
    pub fn open(folder: &Path) -> Result<TensorCache, DataError> {
        let info = read_info(&folder.join(INPUT))?;
        let records = Records::open(&folder.join(RECORDS))?;
        let table = folder.join(SAMPLES);
        let samples = samples::read(&table)?;
        if records.size() != info.preprocessing.resize as usize
            || info.preprocessing.crop > info.preprocessing.resize
        {
            return Err(DataError::damaged(
                &folder.join(INPUT),
                "its sizes aren't those of the records",
            ));
        }
        for sample in &samples {
            let entry = records.entry(sample.record);
            if entry.is_none_or(|entry| entry.image_digest != sample.image_digest) {
                return Err(DataError::damaged(
                    &table,
                    format!("{} points to a record of another image", sample.path),
                ));
            }
            if sample.class.is_some_and(|class| class as usize >= info.classes.len()) {
                return Err(DataError::damaged(
                    &table,
                    format!("{} is of a class that isn't listed", sample.path),
                ));
            }
        }
        Ok(TensorCache { info, samples, records })
    }

    /// How the records are to be read, and the classes' names.
    pub fn info(&self) -> &InputInfo {
        &self.info
    }

    /// Every sample, sorted by path.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Side of the stored squares, in pixels.
    pub fn size(&self) -> usize {
        self.records.size()
    }

    /// The bytes of a record: `size * size * 3`, red, green, blue, row by row. Its digest is checked at first touch.
    pub fn record(&self, index: u32) -> Result<Cow<'_, [u8]>, DataError> {
        self.records.record(index)
    }

    /// The digest of a record's bytes; none where there is no such record.
    pub fn record_digest(&self, index: u32) -> Option<Digest> {
        self.records.entry(index).map(|entry| entry.digest)
    }

    /// Indices of the samples of a split, in the order of their paths.
    pub fn of_split(&self, split: Split) -> Vec<usize> {
        (0..self.samples.len()).filter(|&index| self.samples[index].split == split).collect()
    }
}

/// Writes [`SAMPLES`] and [`INPUT`] beside the records.
pub fn write_table(folder: &Path, info: &InputInfo, samples: &[Sample]) -> Result<(), DataError> {
    samples::write(&folder.join(SAMPLES), samples)?;
    let path: PathBuf = folder.join(INPUT);
    let mut text = serde_json::to_vec_pretty(info)
        .map_err(|error| DataError::io("writing", &path, std::io::Error::other(error)))?;
    text.push(b'\n');
    std::fs::write(&path, text).map_err(|error| DataError::io("writing", &path, error))
}

/// Writes the table of images that couldn't be read: path, reason.
pub fn write_rejected(path: &Path, rows: Vec<[String; 2]>) -> Result<(), DataError> {
    table::write_file(path, "rejected 1", rows)
}

fn read_info(path: &Path) -> Result<InputInfo, DataError> {
    let bytes = std::fs::read(path).map_err(|error| DataError::io("reading", path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| DataError::damaged(path, error.to_string()))
}

#[cfg(test)]
mod tests;
