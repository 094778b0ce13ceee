//! The tensor cache: resized images of one size in a memory-mapped file (`records.bin`), a table of
//! samples that refer to records (`samples.tsv`), and the preprocessing and classes (`input.json`).
//! A changed label or split rewrites only the table.

mod encoding;
mod file;
mod format;
mod reader;
mod samples;
mod sketches;
mod writer;

pub use encoding::Storage;
pub use format::Entry;
pub use reader::Records;
pub use samples::{Sample, Split};
pub use sketches::Sketches;
pub use writer::{Sketching, Writer, Written, fingerprint};

use super::{DataError, InputInfo};
use crate::store::Digest;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// File name of the records.
pub const RECORDS: &str = "records.bin";
/// File name of the table of samples.
pub const SAMPLES: &str = "samples.tsv";
/// File name of [`InputInfo`].
pub const INPUT: &str = "input.json";

/// A preprocessed set of images, opened for reading; can be shared between threads.
pub struct TensorCache {
    info: InputInfo,
    samples: Vec<Sample>,
    records: Records,
}

impl TensorCache {
    /// Opens the artifact of a preprocess stage and checks that its files are consistent.
    pub fn open(folder: &Path) -> Result<TensorCache, DataError> {
        let info = input_info(folder)?;
        let records = Records::open(&folder.join(RECORDS))?;
        let table = folder.join(SAMPLES);
        let samples = samples::read(&table)?;
        if records.size() != info.preprocessing.resize as usize
            || info.preprocessing.crop > info.preprocessing.resize
        {
            return Err(DataError::damaged(
                &folder.join(INPUT),
                "its sizes differ from those of the records",
            ));
        }
        for sample in &samples {
            let entry = records.entry(sample.record);
            if entry.is_none_or(|entry| entry.image_digest != sample.image_digest) {
                return Err(DataError::damaged(
                    &table,
                    format!("{} refers to the record of a different image", sample.path),
                ));
            }
            if sample.class.is_some_and(|class| class as usize >= info.classes.len()) {
                return Err(DataError::damaged(
                    &table,
                    format!("{} has a class that isn't listed", sample.path),
                ));
            }
        }
        Ok(TensorCache { info, samples, records })
    }

    pub fn info(&self) -> &InputInfo {
        &self.info
    }

    /// Sorted by path.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Side of the stored squares, in pixels.
    pub fn size(&self) -> usize {
        self.records.size()
    }

    /// The pixels of a record: `size * size * 3` bytes of RGB, row by row. The digest of what is
    /// stored is verified on first access.
    pub fn record(&self, index: u32) -> Result<Cow<'_, [u8]>, DataError> {
        self.records.record(index)
    }

    /// The digest of a record; none if there is no such record.
    pub fn record_digest(&self, index: u32) -> Option<Digest> {
        self.records.entry(index).map(|entry| entry.record_digest)
    }

    /// Indices of the samples of a split, in path order.
    pub fn of_split(&self, split: Split) -> Vec<usize> {
        (0..self.samples.len()).filter(|&index| self.samples[index].split == split).collect()
    }
}

/// Writes [`SAMPLES`] and [`INPUT`] next to the records.
pub fn write_table(
    folder: &Path,
    info: &InputInfo,
    samples: impl ExactSizeIterator<Item = Sample>,
) -> Result<(), DataError> {
    samples::write(&folder.join(SAMPLES), samples)?;
    let path: PathBuf = folder.join(INPUT);
    let mut text = serde_json::to_vec_pretty(info)
        .map_err(|error| DataError::io("write", &path, std::io::Error::other(error)))?;
    text.push(b'\n');
    std::fs::write(&path, text).map_err(|error| DataError::io("write", &path, error))
}

/// Reads [`INPUT`] of the artifact of a preprocess stage.
pub fn input_info(folder: &Path) -> Result<InputInfo, DataError> {
    read_info(&folder.join(INPUT))
}

fn read_info(path: &Path) -> Result<InputInfo, DataError> {
    let bytes = std::fs::read(path).map_err(|error| DataError::io("read", path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| DataError::damaged(path, error.to_string()))
}

#[cfg(test)]
mod tests;
