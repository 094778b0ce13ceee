//! Features that memos elsewhere have. Their files are taken one after the other until no row is
//! missing; a file is believed only if its digest, key and width are right. Whatever is wrong with a
//! memo, the rows are extracted here.

use super::index::{self, BUCKET, Index};
use super::segment::{self, Segment};
use super::{FeatureCache, FeatureTable, SEGMENT};
use crate::common::number::counted;
use crate::events::{CancellationToken, EventSink};
use crate::store::{Digest, MemoSource};
use std::collections::BTreeSet;
use std::path::Path;

impl FeatureCache {
    /// Adds the rows of the `wanted` records that memos elsewhere have to a table and to the memo.
    pub(super) fn take(
        &mut self,
        table: &mut FeatureTable,
        key: &Digest,
        mut wanted: BTreeSet<Digest>,
        (events, cancel): (&EventSink, &CancellationToken),
    ) {
        let sources = self.memo.sources().to_vec();
        if sources.is_empty() {
            return;
        }
        // Nothing may stay in the scratch folder.
        let Ok(folder) = tempfile::tempdir_in(&self.scratch) else { return };
        for source in sources {
            let before = wanted.len();
            for digest in list(&*source, key) {
                if wanted.is_empty() || cancel.is_cancelled() {
                    break;
                }
                self.take_file(&*source, table, (key, &digest), &mut wanted, folder.path(), events);
            }
            let taken = (before - wanted.len()) as u64;
            if taken > 0 {
                *self.taken.entry(source.place().to_owned()).or_default() += taken;
            }
        }
    }

    /// Adds the rows of a file that has some of the `wanted` records.
    fn take_file(
        &self,
        source: &dyn MemoSource,
        table: &mut FeatureTable,
        (key, digest): (&Digest, &Digest),
        wanted: &mut BTreeSet<Digest>,
        folder: &Path,
        events: &EventSink,
    ) {
        let name = index::name(key, digest);
        let records = source.value(BUCKET, &name).and_then(|value| index::records(&value));
        // A file without such a list is looked at itself.
        if records.is_some_and(|records| records.iter().all(|record| !wanted.contains(record))) {
            return;
        }
        let most = segment::length(SEGMENT, self.width);
        let Some(file) = source.file(BUCKET, &name, digest, most, folder) else { return };
        match Segment::open(&file, digest, key, self.width) {
            Some(segment) => {
                let taken = segment.records().iter().filter(|record| wanted.remove(record)).count();
                if taken > 0 {
                    self.keep(key, digest, &segment, &file, events);
                    table.add(segment);
                }
            }
            None => source.refuse(format!("the file {} has other features", digest.short())),
        }
        // It goes with its folder otherwise.
        let _ = std::fs::remove_file(&file);
    }

    /// Says how many rows came from where, if any did.
    pub(crate) fn report(&self, events: &EventSink) {
        for (place, rows) in &self.taken {
            let rows = counted(*rows, "row");
            events.info(format!("{rows} of features from {place}, not extracted here"));
        }
        let all: u64 = self.taken.values().sum();
        if all > 0 {
            events.count("features_taken", all);
        }
    }
}

/// The files that a memo elsewhere has of a backbone and view.
pub(super) fn list(source: &dyn MemoSource, key: &Digest) -> Vec<Digest> {
    let Some(value) = source.value(BUCKET, &key.to_string()) else { return Vec::new() };
    match Index::parse(&value) {
        Some(index) => index.segments,
        None => {
            source.refuse(format!("the list {} can't be parsed", key.short()));
            Vec::new()
        }
    }
}
