//! The features that stages used, as entries of its memo, for a push to another store.

use super::index::{self, BUCKET, Index};
use super::segment::Segment;
use crate::store::{Digest, Memo};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;

/// The files of one backbone and view in a memo.
pub(crate) struct SharedFeatures {
    memo: Memo,
    key: Digest,
}

/// One of the files.
pub(crate) struct SharedFile {
    /// The memo's key of the file.
    pub entry: String,
    digest: Digest,
    pub rows: u64,
    pub bytes: u64,
    segment: Segment,
}

impl SharedFeatures {
    /// The bucket of all entries.
    pub(crate) const BUCKET: &str = BUCKET;

    /// Those that the stages with these cache keys used, each once.
    pub(crate) fn of_stages(memo: &Memo, stages: &[Digest]) -> Vec<SharedFeatures> {
        let keys = stages.iter().flat_map(|stage| index::used_by(memo, stage));
        let keys = keys.collect::<BTreeSet<Digest>>().into_iter();
        keys.map(|key| SharedFeatures { memo: memo.clone(), key }).collect()
    }

    /// The memo's key of the list of files.
    pub(crate) fn entry(&self) -> String {
        self.key.to_string()
    }

    /// The files that are complete, apart from those that another store has: it lists them, and has
    /// the file of their entry.
    pub(crate) fn files(&self, list: Option<&[u8]>, has: impl Fn(&str) -> bool) -> Vec<SharedFile> {
        let there = list.and_then(Index::parse).unwrap_or_default().segments;
        let is_new =
            |digest: &&Digest| !there.contains(digest) || !has(&index::name(&self.key, digest));
        let digests = Index::of(&self.memo, &self.key).segments;
        digests.iter().filter(is_new).filter_map(|digest| self.file(digest)).collect()
    }

    fn file(&self, digest: &Digest) -> Option<SharedFile> {
        let entry = index::name(&self.key, digest);
        let path = self.memo.file(BUCKET, &entry)?;
        let segment = Segment::of_any_width(&path, digest, &self.key)?;
        let (rows, bytes) = (segment.records().len() as u64, path.metadata().ok()?.len());
        Some(SharedFile { entry, digest: *digest, rows, bytes, segment })
    }

    /// The list of another store with these files added.
    pub(crate) fn merged(&self, list: Option<&[u8]>, files: &[SharedFile]) -> Vec<u8> {
        let mut index = list.and_then(Index::parse).unwrap_or_default();
        files.iter().for_each(|file| index.add(&file.digest));
        index.value()
    }

    /// Copies a file into another memo, and adds it to the list there.
    ///
    /// # Errors
    /// If it can't be read here or written there.
    pub(crate) fn copy(&self, file: &SharedFile, to: &Memo) -> io::Result<()> {
        let path = self.memo.file(BUCKET, &file.entry).ok_or(io::ErrorKind::NotFound)?;
        let _lock = to.lock(BUCKET, &file.entry)?;
        let partial = to.partial(BUCKET, &file.entry)?;
        io::copy(&mut File::open(path)?, &mut File::create(&partial)?)?;
        index::add(to, &self.key, &file.digest, &file.segment, &partial)?;
        std::fs::remove_file(&partial)
    }
}
