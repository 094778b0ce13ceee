//! A file of records while it is written: the records one after the other, the index last, and the
//! header, which says what there is, in the place that was left for it.

use super::format::{Entry, HEADER, Header, Layout};
use crate::data::DataError;
use crate::store::{Digest, Hasher};
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub(super) struct RecordsFile {
    path: PathBuf,
    file: BufWriter<File>,
    /// The offset of the next record.
    end: u64,
}

impl RecordsFile {
    pub(super) fn create(path: &Path) -> Result<RecordsFile, DataError> {
        let create = || {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
            file.write_all(&[0; HEADER])?;
            Ok(file)
        };
        let file = create().map_err(|error| DataError::io("write", path, error))?;
        Ok(RecordsFile { path: path.to_owned(), file, end: HEADER as u64 })
    }

    /// Adds a record as it is stored. Returns its offset.
    pub(super) fn push(&mut self, stored: &[u8]) -> Result<u64, DataError> {
        let offset = self.end;
        self.file.write_all(stored).map_err(|error| DataError::io("write", &self.path, error))?;
        self.end += stored.len() as u64;
        Ok(offset)
    }

    /// Adds the index and the header.
    pub(super) fn finish(
        mut self,
        layout: Layout,
        size: u32,
        fingerprint: Digest,
        entries: impl Iterator<Item = Entry>,
    ) -> Result<(), DataError> {
        let write = || {
            let (mut index, mut count) = (Hasher::new(), 0);
            for entry in entries {
                let bytes = entry.write(layout);
                index.update(&bytes);
                self.file.write_all(&bytes)?;
                count += 1;
            }
            let stored = self.end - HEADER as u64;
            let index = index.finish();
            let header = Header { layout, size, count, stored, fingerprint, index };
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&header.write())?;
            self.file.flush()
        };
        write().map_err(|error| DataError::io("write", &self.path, error))
    }
}
