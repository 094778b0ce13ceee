//! Features of images, each computed once. While the whole backbone is frozen, what it makes of a record never changes,
//! so rows are kept in the memo by (record, backbone, weights, view): epochs, heads and learning rates then cost next to
//! nothing, other trainings share them, and new images cost only themselves. Losing them costs time, never a byte.
//! Knows nothing of heads, losses and optimizers.

mod segment;

use super::TrainingError;
use crate::data::{Augmentation, AugmentationPolicy, Loader, LoaderOptions, TensorCache};
use crate::events::{CancellationToken, EventSink};
use crate::nn::{Backend, Network, Number};
use crate::store::{Digest, Hasher, Memo};
use segment::Segment;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// The memo's bucket.
const BUCKET: &str = "features";
/// The version of what rows mean: to be raised whenever the backbones' inference gives other numbers than before.
const VERSION: u32 = 3;
/// Images whose rows are kept together: what a kill can lose, and what is held in memory while it is made.
const SEGMENT: usize = 512;
/// Images that run together: they are held in memory as `f32`, and so are those prepared ahead.
const BATCH: usize = 24;
/// Batches prepared ahead of the network.
const AHEAD: usize = 2;

/// What the memo says of the rows of one kind.
#[derive(Default, Serialize, Deserialize)]
struct Card {
    /// Digests of the files.
    segments: Vec<Digest>,
}

/// The rows of one backbone and one view that are there.
pub struct Table {
    width: usize,
    segments: Vec<Segment>,
    /// For each record, its file and its row there.
    places: HashMap<Digest, (usize, usize)>,
}

/// Features of one backbone.
pub struct Features {
    memo: Memo,
    scratch: PathBuf,
    /// What decides all rows: the backbone with its weights, how images are normalized, the kind of machine.
    backbone: Digest,
    width: usize,
    tables: BTreeMap<Digest, Arc<Table>>,
}

/// What is missing of a table, and for whom it is made.
struct Order<'a> {
    cache: &'a Arc<TensorCache>,
    /// A sample of each record.
    samples: Vec<usize>,
    augmentation: Option<&'a Augmentation>,
    events: &'a EventSink,
    cancel: &'a CancellationToken,
}

impl Features {
    /// The features that `network`'s backbone, as it is now, makes of the records of `cache`. Files are written to
    /// `scratch` before they are kept, best on the memo's disk.
    pub fn new<D: Backend<N>, N: Number>(
        network: &Network<D, N>,
        cache: &TensorCache,
        memo: Memo,
        scratch: PathBuf,
    ) -> Features {
        let mut parts = Vec::new();
        network.describe_backbone(|name, values| parts.push((name.to_owned(), digest_of(values))));
        let preprocessing = &cache.info().preprocessing;
        let words = serde_json::json!([VERSION, machine::<D>(), parts, preprocessing]);
        let backbone = Digest::of(words.to_string().as_bytes());
        Features {
            memo,
            scratch,
            backbone,
            width: network.graph().feature_count(),
            tables: BTreeMap::new(),
        }
    }

    /// Makes sure that the rows of `samples`, varied as said, are there, and gives them.
    ///
    /// # Errors
    /// When it is cancelled (what was made is kept), when samples can't be read, or the rows can't be written.
    pub fn of<D: Backend<N>, N: Number>(
        &mut self,
        network: &Network<D, N>,
        cache: &Arc<TensorCache>,
        samples: &[usize],
        augmentation: Option<&Augmentation>,
        (events, cancel): (&EventSink, &CancellationToken),
    ) -> Result<Arc<Table>, TrainingError> {
        let key = self.key(augmentation);
        if let Some(table) = self.tables.get(&key)
            && table.missing(cache, samples).is_empty()
        {
            return Ok(Arc::clone(table));
        }
        let mut table = self.open(&key);
        let samples = table.missing(cache, samples);
        if !samples.is_empty() {
            self.make(
                &mut table,
                &key,
                network,
                &Order { cache, samples, augmentation, events, cancel },
            )?;
        }
        let table = Arc::new(table);
        self.tables.insert(key, Arc::clone(&table));
        Ok(table)
    }

    /// Whether rows of images that aren't varied are kept: a training left them.
    pub fn known(&self) -> bool {
        !self.card(&self.key(None)).segments.is_empty()
    }

    /// What rows are kept under. `augmentation` has as many views as copies, so an epoch stands for one of them, which looks the same
    /// however many others there are.
    fn key(&self, augmentation: Option<&Augmentation>) -> Digest {
        let alone =
            |augment: &AugmentationPolicy| AugmentationPolicy { views: None, ..augment.clone() };
        let view = augmentation.map(|augmentation| {
            (alone(&augmentation.policy), augmentation.seed, augmentation.view(0).index)
        });
        Digest::of(serde_json::json!([self.backbone, view]).to_string().as_bytes())
    }

    fn card(&self, key: &Digest) -> Card {
        let kept = self.memo.get(BUCKET, &key.to_string());
        kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// What is kept of a table. What was lost or damaged is as good as never made.
    fn open(&self, key: &Digest) -> Table {
        let mut table = Table { width: self.width, segments: Vec::new(), places: HashMap::new() };
        for digest in self.card(key).segments {
            let file = self.memo.file(BUCKET, &name(key, &digest));
            if let Some(segment) =
                file.and_then(|file| Segment::open(&file, &digest, key, self.width))
            {
                table.take(segment);
            }
        }
        table
    }

    /// Runs the backbone over what is missing.
    fn make<D: Backend<N>, N: Number>(
        &self,
        table: &mut Table,
        key: &Digest,
        network: &Network<D, N>,
        order: &Order,
    ) -> Result<(), TrainingError> {
        let task = order.events.task("features", Some(order.samples.len() as u64), "images");
        for portion in order.samples.chunks(SEGMENT) {
            let (mut records, mut rows) = (Vec::with_capacity(portion.len()), Vec::new());
            let augmentation = order.augmentation.cloned();
            let options = LoaderOptions {
                batch_size: BATCH,
                augmentation,
                ahead: AHEAD,
                ..LoaderOptions::default()
            };
            for batch in Loader::new(Arc::clone(order.cache), portion.to_vec(), options) {
                if order.cancel.is_cancelled() {
                    break;
                }
                let batch = batch?;
                rows.extend(network.features(&batch.images, batch.samples.len())?);
                records
                    .extend(batch.samples.iter().filter_map(|&sample| record(order.cache, sample)));
                task.advance(batch.samples.len() as u64);
            }
            if !records.is_empty() {
                table.take(self.keep(key, &records, &rows, order.events)?);
            }
            if order.cancel.is_cancelled() {
                return Err(TrainingError::Cancelled);
            }
        }
        Ok(())
    }

    /// Writes rows, and keeps them in the memo. Where the memo can't, they serve this training alone.
    fn keep(
        &self,
        key: &Digest,
        records: &[Digest],
        rows: &[f32],
        events: &EventSink,
    ) -> Result<Segment, TrainingError> {
        let file = self.scratch.join("features");
        let unwritten = |error: &dyn std::fmt::Display| {
            TrainingError::Features(format!(
                "features can't be written to {}: {error}",
                self.scratch.display()
            ))
        };
        let digest = segment::write(&file, key, self.width, records, rows)
            .map_err(|error| unwritten(&error))?;
        if let Err(error) = self.link(key, &digest, &file) {
            events.warn(format!("features can't be kept for later trainings: {error}"));
        }
        let segment = Segment::open(&file, &digest, key, self.width);
        // An open file can be read after its name is gone.
        std::fs::remove_file(&file).map_err(|error| unwritten(&error))?;
        segment.ok_or_else(|| unwritten(&"what was written can't be read"))
    }

    fn link(&self, key: &Digest, digest: &Digest, file: &std::path::Path) -> std::io::Result<()> {
        let _lock = self.memo.lock(BUCKET, &key.to_string())?;
        self.memo.link(BUCKET, &name(key, digest), file)?;
        let mut card = self.card(key);
        card.segments.push(*digest);
        self.memo.put(BUCKET, &key.to_string(), &serde_json::to_vec(&card)?)
    }
}

impl Table {
    /// One sample of each record that has no row yet.
    fn missing(&self, cache: &TensorCache, samples: &[usize]) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        let new = |&&sample: &&usize| {
            record(cache, sample)
                .is_some_and(|record| !self.places.contains_key(&record) && seen.insert(record))
        };
        samples.iter().filter(new).copied().collect()
    }

    fn take(&mut self, segment: Segment) {
        let file = self.segments.len();
        self.places.extend(
            segment.records().iter().enumerate().map(|(row, record)| (*record, (file, row))),
        );
        self.segments.push(segment);
    }

    /// The row of a sample's record, into `out`.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub fn read(
        &self,
        cache: &TensorCache,
        sample: usize,
        out: &mut [f32],
    ) -> Result<(), TrainingError> {
        let place = record(cache, sample).and_then(|record| self.places.get(&record));
        let row = place.and_then(|&(file, row)| Some((self.segments.get(file)?, row)));
        let Some((segment, row)) = row else {
            return Err(TrainingError::Features(format!("sample {sample} has no features")));
        };
        segment
            .read(row, out)
            .map_err(|error| TrainingError::Features(format!("features can't be read: {error}")))
    }

    /// Values of a row.
    pub fn width(&self) -> usize {
        self.width
    }
}

/// The digest of numbers, a part at a time: a backbone's are many.
fn digest_of(values: &[f32]) -> Digest {
    let (mut hasher, mut bytes) = (Hasher::new(), [0; 4096]);
    for part in values.chunks(bytes.len() / 4) {
        for (place, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(part) {
            *place = value.to_le_bytes();
        }
        hasher.update(&bytes[..4 * part.len()]);
    }
    hasher.finish()
}

fn record(cache: &TensorCache, sample: usize) -> Option<Digest> {
    cache.record_digest(cache.samples().get(sample)?.record)
}

fn name(key: &Digest, segment: &Digest) -> String {
    format!("{key}-{segment}")
}

/// What of the machine changes numbers: a memo may be shared by several.
fn machine<D>() -> String {
    #[cfg(target_arch = "x86_64")]
    let simd = [
        is_x86_feature_detected!("fma"),
        is_x86_feature_detected!("avx2"),
        is_x86_feature_detected!("avx512f"),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let simd = [false; 3];
    format!("{} {simd:?} {} f32", std::env::consts::ARCH, std::any::type_name::<D>())
}
