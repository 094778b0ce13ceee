//! The memo's entries of features: the list of the files of one backbone and view, and for each file
//! its records, so that who has it elsewhere needn't be asked for a file without use. A stage's
//! entry names the lists that it used.

use super::segment::Segment;
use crate::store::{Digest, Memo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Bucket of the memo.
pub(super) const BUCKET: &str = "features";
/// Bucket of the entries of stages.
const USED: &str = "features_of";

/// The files of one backbone and view.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Index {
    /// Digests of the files.
    pub segments: Vec<Digest>,
}

impl Index {
    /// The list of a memo; empty if it has none.
    pub(super) fn of(memo: &Memo, key: &Digest) -> Index {
        memo.get(BUCKET, &key.to_string())
            .and_then(|value| Index::parse(&value))
            .unwrap_or_default()
    }

    pub(super) fn parse(value: &[u8]) -> Option<Index> {
        serde_json::from_slice(value).ok()
    }

    pub(super) fn value(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a list of digests serializes to JSON")
    }

    pub(super) fn add(&mut self, segment: &Digest) {
        if !self.segments.contains(segment) {
            self.segments.push(*segment);
        }
    }
}

/// The memo's key of a file.
pub(super) fn name(key: &Digest, segment: &Digest) -> String {
    format!("{key}-{segment}")
}

/// The records of a file, from the value beside it.
pub(super) fn records(value: &[u8]) -> Option<Vec<Digest>> {
    let (digests, rest) = value.as_chunks::<32>();
    rest.is_empty().then(|| digests.iter().map(|&bytes| Digest::from_bytes(bytes)).collect())
}

/// Adds a file to a memo, by a link.
pub(super) fn add(
    memo: &Memo,
    key: &Digest,
    digest: &Digest,
    segment: &Segment,
    file: &Path,
) -> io::Result<()> {
    let _lock = memo.lock(BUCKET, &key.to_string())?;
    let name = name(key, digest);
    memo.link(BUCKET, &name, file)?;
    let records: Vec<u8> = segment.records().iter().flat_map(|record| *record.as_bytes()).collect();
    memo.put(BUCKET, &name, &records)?;
    let mut index = Index::of(memo, key);
    index.add(digest);
    memo.put(BUCKET, &key.to_string(), &index.value())
}

/// The keys of the features that a stage used.
pub(super) fn used_by(memo: &Memo, stage: &Digest) -> BTreeSet<Digest> {
    let value = memo.get(USED, &stage.to_string());
    value.and_then(|value| serde_json::from_slice(&value).ok()).unwrap_or_default()
}

/// Remembers that a stage used features. Without the entry, a push leaves them out.
pub(super) fn remember_use(memo: &Memo, stage: &Digest, key: &Digest) {
    let mut used = used_by(memo, stage);
    if used.insert(*key)
        && let Ok(value) = serde_json::to_vec(&used)
    {
        let _ = memo.put(USED, &stage.to_string(), &value);
    }
}
