//! The feature cache. The features of a frozen backbone are extracted once per record and view and
//! stored in the memo, keyed by (record, backbone, weights, view). Epochs, other heads and other
//! trainings reuse them, and new images cost only their own. A lost entry costs time and never
//! changes a result. Depends on no head, loss or optimizer.

mod elsewhere;
mod index;
mod segment;
mod shared;

pub(crate) use shared::{SharedFeatures, SharedFile};

use super::TrainingError;
use super::batches::{Batch, form};
use crate::data::{Augmentation, Loader, LoaderOptions, TensorCache};
use crate::events::{CancellationToken, EventSink};
use crate::nn::{Learner, Number, Products};
use crate::store::{Digest, Hasher, Memo};
use index::{BUCKET, Index};
use segment::Segment;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the rows; it rises whenever the inference of backbones yields other numbers.
const VERSION: u32 = 7;
/// Rows per file: the most that a kill loses, and that memory contains while they are extracted.
const SEGMENT: usize = 512;
/// Images per batch. Small, since prepared batches are in memory as f32.
const BATCH_SIZE: usize = 24;
/// Batches prepared ahead of the network.
const AHEAD: usize = 2;

/// The available rows of one backbone and view.
pub(crate) struct FeatureTable {
    width: usize,
    segments: Vec<Segment>,
    /// File and row of each record.
    positions: HashMap<Digest, (usize, usize)>,
}

/// The features of one backbone.
pub(crate) struct FeatureCache {
    memo: Memo,
    scratch: PathBuf,
    /// The cache key of the stage that uses them.
    user: Digest,
    /// Identifies the backbone with its weights, the preprocessing and the kind of machine.
    backbone: Digest,
    width: usize,
    tables: BTreeMap<Digest, Arc<FeatureTable>>,
    /// The number of rows that were taken from elsewhere, by place.
    taken: BTreeMap<String, u64>,
}

/// The rows to extract.
struct Missing<'a> {
    cache: &'a Arc<TensorCache>,
    /// One sample per record.
    samples: Vec<usize>,
    augmentation: Option<&'a Augmentation>,
    events: &'a EventSink,
    cancel: &'a CancellationToken,
}

impl FeatureCache {
    /// The features of `network`'s backbone with its current weights, for the stage with the cache
    /// key `user`. Files are written to `scratch` first, best on the memo's file system.
    pub(crate) fn new<N: Number>(
        network: &dyn Learner<N>,
        cache: &TensorCache,
        memo: Memo,
        scratch: PathBuf,
        user: Digest,
    ) -> Result<FeatureCache, TrainingError> {
        let mut parts = Vec::new();
        network.describe_backbone(&mut |name, values| {
            parts.push((name.to_owned(), digest_of(values)));
        })?;
        let preprocessing = &cache.info().preprocessing;
        let products = match network.products() {
            Products::Own => "f32",
            Products::Bf16 => "bf16",
        };
        let json = serde_json::json!([VERSION, network.machine(), products, parts, preprocessing]);
        let backbone = Digest::of(json.to_string().as_bytes());
        Ok(FeatureCache {
            memo,
            scratch,
            user,
            backbone,
            width: network.graph().feature_count(),
            tables: BTreeMap::new(),
            taken: BTreeMap::new(),
        })
    }

    /// A table with the rows of `samples`. Those that are missing are taken from elsewhere, or
    /// extracted.
    ///
    /// # Errors
    /// If it is cancelled (finished rows are kept), samples can't be read, or rows can't be
    /// written.
    pub(crate) fn table<N: Number>(
        &mut self,
        network: &dyn Learner<N>,
        cache: &Arc<TensorCache>,
        samples: &[usize],
        augmentation: Option<&Augmentation>,
        (events, cancel): (&EventSink, &CancellationToken),
    ) -> Result<Arc<FeatureTable>, TrainingError> {
        let key = self.key(augmentation);
        if let Some(table) = self.tables.get(&key)
            && table.missing(cache, samples).is_empty()
        {
            return Ok(Arc::clone(table));
        }
        let mut table = self.open(&key);
        let mut samples = table.missing(cache, samples);
        if !samples.is_empty() {
            let wanted = samples.iter().filter_map(|&sample| record(cache, sample)).collect();
            self.take(&mut table, &key, wanted, (events, cancel));
            samples = table.missing(cache, &samples);
        }
        if !samples.is_empty() {
            let missing = Missing { cache, samples, augmentation, events, cancel };
            self.extract(&mut table, &key, network, &missing)?;
        }
        index::remember_use(&self.memo, &self.user, &key);
        let table = Arc::new(table);
        self.tables.insert(key, Arc::clone(&table));
        Ok(table)
    }

    /// Whether an earlier training stored features of images without augmentation, here or elsewhere.
    pub(crate) fn is_stored(&self) -> bool {
        let key = self.key(None);
        !Index::of(&self.memo, &key).segments.is_empty()
            || self.memo.sources().iter().any(|source| !elsewhere::list(&**source, &key).is_empty())
    }

    /// The memo's key of one view. It does not depend on the number of views: view 0 is the same
    /// among two views as among four.
    fn key(&self, augmentation: Option<&Augmentation>) -> Digest {
        let view = augmentation.map(|augmentation| {
            let policy = augmentation.policy.per_image();
            (policy, augmentation.seed, augmentation.view(0).index)
        });
        Digest::of(serde_json::json!([self.backbone, view]).to_string().as_bytes())
    }

    /// The stored rows of a table. Missing and corrupt files are skipped.
    fn open(&self, key: &Digest) -> FeatureTable {
        let mut table =
            FeatureTable { width: self.width, segments: Vec::new(), positions: HashMap::new() };
        for digest in Index::of(&self.memo, key).segments {
            let file = self.memo.file(BUCKET, &index::name(key, &digest));
            if let Some(segment) =
                file.and_then(|file| Segment::open(&file, &digest, key, self.width))
            {
                table.add(segment);
            }
        }
        table
    }

    /// Extracts the missing rows.
    fn extract<N: Number>(
        &self,
        table: &mut FeatureTable,
        key: &Digest,
        network: &dyn Learner<N>,
        missing: &Missing,
    ) -> Result<(), TrainingError> {
        let task = missing.events.task("features", Some(missing.samples.len() as u64), "images");
        for portion in missing.samples.chunks(SEGMENT) {
            let (mut records, mut rows) = (Vec::with_capacity(portion.len()), Vec::new());
            let augmentation = missing.augmentation.cloned();
            let options = LoaderOptions {
                batch_size: BATCH_SIZE,
                augmentation,
                ahead: AHEAD,
                form: form(network),
                ..LoaderOptions::default()
            };
            for batch in Loader::new(Arc::clone(missing.cache), portion.to_vec(), options) {
                if missing.cancel.is_cancelled() {
                    break;
                }
                let batch = batch?;
                let batch = Batch::of_pixels(batch.pixels, batch.samples);
                rows.extend(batch.features(network)?);
                records.extend(
                    batch.samples.iter().filter_map(|&sample| record(missing.cache, sample)),
                );
                task.advance(batch.samples.len() as u64);
            }
            if !records.is_empty() {
                table.add(self.store(key, &records, &rows, missing.events)?);
            }
            if missing.cancel.is_cancelled() {
                return Err(TrainingError::Cancelled);
            }
        }
        Ok(())
    }

    /// Writes rows and stores them in the memo. If the memo fails, only this training can use them.
    fn store(
        &self,
        key: &Digest,
        records: &[Digest],
        rows: &[f32],
        events: &EventSink,
    ) -> Result<Segment, TrainingError> {
        let file = self.scratch.join("features");
        let failed = |source| TrainingError::Features {
            message: format!("failed to write features to {}", self.scratch.display()),
            source,
        };
        let digest = segment::write(&file, key, self.width, records, rows).map_err(failed)?;
        let segment = Segment::open(&file, &digest, key, self.width)
            .ok_or_else(|| failed(io::Error::other("the written file does not read back")))?;
        self.keep(key, &digest, &segment, &file, events);
        // An open file is readable after it was removed.
        std::fs::remove_file(&file).map_err(failed)?;
        Ok(segment)
    }

    /// Adds a file to the memo.
    fn keep(
        &self,
        key: &Digest,
        digest: &Digest,
        segment: &Segment,
        file: &Path,
        events: &EventSink,
    ) {
        if let Err(error) = index::add(&self.memo, key, digest, segment, file) {
            events.warn(format!("failed to cache features for later trainings: {error}"));
        }
    }
}

impl FeatureTable {
    /// One sample of each record without a row.
    fn missing(&self, cache: &TensorCache, samples: &[usize]) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        let new = |&&sample: &&usize| {
            record(cache, sample)
                .is_some_and(|record| !self.positions.contains_key(&record) && seen.insert(record))
        };
        samples.iter().filter(new).copied().collect()
    }

    fn add(&mut self, segment: Segment) {
        let file = self.segments.len();
        self.positions.extend(
            segment.records().iter().enumerate().map(|(row, record)| (*record, (file, row))),
        );
        self.segments.push(segment);
    }

    /// Reads the row of a sample's record.
    ///
    /// # Errors
    /// If there is no such row, or it can't be read.
    pub(crate) fn read(
        &self,
        cache: &TensorCache,
        sample: usize,
        out: &mut [f32],
    ) -> Result<(), TrainingError> {
        let position = record(cache, sample).and_then(|record| self.positions.get(&record));
        let row = position.and_then(|&(file, row)| Some((self.segments.get(file)?, row)));
        let read = match row {
            Some((segment, row)) => segment.read(row, out),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        read.map_err(|source| TrainingError::Features {
            message: format!("failed to read the cached features of sample {sample}"),
            source,
        })
    }

    /// Values per row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }
}

/// The digest of numbers, in parts: a backbone has many.
fn digest_of(values: &[f32]) -> Digest {
    let (mut hasher, mut bytes) = (Hasher::new(), [0; 4096]);
    for part in values.chunks(bytes.len() / 4) {
        for (word, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(part) {
            *word = value.to_le_bytes();
        }
        hasher.update(&bytes[..4 * part.len()]);
    }
    hasher.finish()
}

fn record(cache: &TensorCache, sample: usize) -> Option<Digest> {
    cache.record_digest(cache.samples().get(sample)?.record)
}
