//! Batches for training and evaluation, prepared ahead by threads of its own. Order is a function of (seed, epoch),
//! augmentation of (seed, view, record): no state to save, any step can be the first, and images that come or go leave
//! the others as they are. Memory is that of the batches under way, whatever the number of records. Knows nothing of
//! networks.

use super::{Augment, DataError, Preprocessing, TensorCache};
use crate::random::Stream;
use crate::store::Digest;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// More threads than this never prepare batches: one feeds a card, two are to spare.
const MOST_WORKERS: usize = 4;

/// Some images, ready for a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Normalized pixels, (count, side, side, 3), row by row.
    pub images: Vec<f32>,
    /// Class of each; none for an unlabelled one.
    pub labels: Vec<Option<u32>>,
    /// Index of each in [`TensorCache::samples`].
    pub samples: Vec<usize>,
    /// Side of the images, in pixels.
    pub size: usize,
}

/// How the images of one pass are varied.
#[derive(Debug, Clone, PartialEq)]
pub struct Vary {
    /// What is done.
    pub augment: Augment,
    /// The root of randomness.
    pub seed: u64,
    /// The epoch, which decides what is drawn.
    pub epoch: u64,
}

impl Vary {
    /// The view of a record that comes for the `turn`th time (from 0) in this pass: with `copies` there are as many views
    /// of it in all.
    pub fn view(&self, turn: u32) -> View {
        match self.augment.copies {
            Some(copies) => View { round: (self.epoch + u64::from(turn)) % copies.max(1), turn: 0 },
            None => View { round: self.epoch, turn },
        }
    }

    fn stream(&self, view: View, record: Digest) -> Stream {
        let (start, _) = record.as_bytes().split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        Stream::new(
            self.seed,
            "augment",
            &[view.round, u64::from(view.turn), u64::from_le_bytes(*start)],
        )
    }
}

/// One of the ways in which a record is shown, by the numbers that its random stream is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct View {
    /// The epoch, or the copy.
    pub round: u64,
    /// How often the record came before in the same epoch.
    pub turn: u32,
}

/// `samples` in the random order of an epoch.
pub fn shuffled(mut samples: Vec<usize>, seed: u64, epoch: u64) -> Vec<usize> {
    Stream::new(seed, "order", &[epoch]).shuffle(&mut samples);
    samples
}

/// For each place of an order, how often its sample came before.
pub fn turns(order: &[usize]) -> Vec<u32> {
    let mut seen: HashMap<usize, u32> = HashMap::new();
    let turn = |&sample| {
        let count = seen.entry(sample).or_default();
        std::mem::replace(count, *count + 1)
    };
    order.iter().map(turn).collect()
}

/// What a [`Loader`] does.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// Images in a batch; at least 1.
    pub batch_size: usize,
    /// How images are varied.
    pub vary: Option<Vary>,
    /// Leaves out a last batch that isn't full.
    pub drop_last: bool,
    /// The step to begin with: what came before isn't prepared at all.
    pub first_step: usize,
    /// Batches prepared ahead; 0 for none, and no threads.
    pub ahead: usize,
}

impl Default for LoaderOptions {
    fn default() -> LoaderOptions {
        LoaderOptions { batch_size: 32, vary: None, drop_last: false, first_step: 0, ahead: 4 }
    }
}

/// An iterator over the batches of one pass.
pub struct Loader {
    plan: Arc<Plan>,
    next: usize,
    /// Worker w prepares steps first + w, first + w + count, …: taking turns keeps the order without sorting.
    workers: Vec<Worker>,
    turn: usize,
}

struct Worker {
    batches: Option<Receiver<Result<Batch, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

/// What every worker knows.
struct Plan {
    cache: Arc<TensorCache>,
    order: Vec<usize>,
    options: LoaderOptions,
    normalize: Normalize,
    /// For each place of the order, how often its sample came before; empty where nothing is varied.
    turns: Vec<u32>,
}

impl Loader {
    /// Begins a pass over samples (indices in [`TensorCache::samples`]) in the order given; one may come several times.
    pub fn new(cache: Arc<TensorCache>, order: Vec<usize>, options: LoaderOptions) -> Loader {
        let vary = options.vary.filter(|vary| !vary.augment.is_none());
        let turns = if vary.is_some() { turns(&order) } else { Vec::new() };
        let options = LoaderOptions { batch_size: options.batch_size.max(1), vary, ..options };
        let normalize = Normalize::new(&cache.info().preprocessing);
        let next = options.first_step;
        let plan = Arc::new(Plan { cache, order, options, normalize, turns });
        let workers = start(&plan);
        Loader { plan, next, workers, turn: 0 }
    }

    /// Batches in a whole pass, those before `first_step` included.
    pub fn steps(&self) -> usize {
        self.plan.steps()
    }
}

fn start(plan: &Arc<Plan>) -> Vec<Worker> {
    let (first, ahead) = (plan.options.first_step, plan.options.ahead);
    let left = plan.steps().saturating_sub(first);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = ahead.min(left).min(MOST_WORKERS).min(cores.div_ceil(2));
    (0..count)
        .map(|index| {
            // Each worker holds one batch in its hands beside those in its channel.
            let (sender, receiver) = sync_channel((ahead / count).saturating_sub(1));
            let plan = Arc::clone(plan);
            let work = move || {
                for step in (first + index..plan.steps()).step_by(count) {
                    if sender.send(plan.batch(step)).is_err() {
                        return;
                    }
                }
            };
            let thread =
                std::thread::Builder::new().name(format!("loader-{index}")).spawn(work).ok();
            // A thread that can't be had leaves its channel closed: its steps are prepared when they are asked for.
            Worker { batches: thread.is_some().then_some(receiver), thread }
        })
        .collect()
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.plan.steps() {
            return None;
        }
        let (step, turn) = (self.next, self.turn);
        self.next += 1;
        self.turn = (turn + 1) % self.workers.len().max(1);
        let ready = self.workers.get(turn).and_then(|worker| worker.batches.as_ref()?.recv().ok());
        Some(ready.unwrap_or_else(|| self.plan.batch(step)))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            // A closed channel is what ends a worker that waits to hand over.
            worker.batches = None;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl Plan {
    fn steps(&self) -> usize {
        let size = self.options.batch_size;
        if self.options.drop_last {
            self.order.len() / size
        } else {
            self.order.len().div_ceil(size)
        }
    }

    fn batch(&self, step: usize) -> Result<Batch, DataError> {
        let start = step.saturating_mul(self.options.batch_size).min(self.order.len());
        let end = start.saturating_add(self.options.batch_size).min(self.order.len());
        let samples = self.order[start..end].to_vec();
        let side = self.cache.info().preprocessing.crop as usize;
        let mut images = vec![0.0; samples.len() * side * side * 3];
        let mut labels = Vec::with_capacity(samples.len());
        for ((place, &index), out) in
            (start..).zip(&samples).zip(images.chunks_exact_mut(side * side * 3))
        {
            let turn = self.turns.get(place).copied().unwrap_or(0);
            labels.push(self.input(index, turn, out)?);
        }
        Ok(Batch { images, labels, samples, size: side })
    }

    /// One image into its place in the batch; returns its class.
    fn input(&self, index: usize, turn: u32, out: &mut [f32]) -> Result<Option<u32>, DataError> {
        let sample = self.cache.samples().get(index).ok_or_else(|| DataError::Unfit {
            message: format!("there is no sample {index}"),
            help: None,
        })?;
        let record = self.cache.record(sample.record)?;
        let digest = self.cache.record_digest(sample.record);
        match self.options.vary.as_ref().zip(digest) {
            None => self.normalize.center(&record, out),
            Some((vary, digest)) => {
                let stream = vary.stream(vary.view(turn), digest);
                let Normalize { size, crop, offset, .. } = self.normalize;
                vary.augment.apply(&record, size, crop, offset, stream, out);
                self.normalize.varied(out);
            }
        }
        Ok(sample.class)
    }
}

/// Pixels of a stored square to the numbers a network takes.
struct Normalize {
    size: usize,
    crop: usize,
    offset: usize,
    /// What each of the 256 values of each channel becomes.
    table: Box<[[f32; 3]; 256]>,
    scale: [f32; 3],
    shift: [f32; 3],
}

impl Normalize {
    fn new(preprocessing: &Preprocessing) -> Normalize {
        let (mean, std) = (preprocessing.mean, preprocessing.std);
        let one =
            |value: usize, channel: usize| (value as f32 / 255.0 - mean[channel]) / std[channel];
        Normalize {
            size: preprocessing.resize as usize,
            crop: preprocessing.crop as usize,
            offset: preprocessing.crop_offset() as usize,
            table: Box::new(std::array::from_fn(|value| {
                std::array::from_fn(|channel| one(value, channel))
            })),
            scale: std.map(|std| 1.0 / (255.0 * std)),
            shift: std::array::from_fn(|channel| -mean[channel] / std[channel]),
        }
    }

    /// The center of a stored square.
    fn center(&self, record: &[u8], out: &mut [f32]) {
        let rows = record.chunks_exact(self.size * 3).skip(self.offset);
        for (row, out) in rows.zip(out.chunks_exact_mut(self.crop * 3)) {
            let pixels = row.chunks_exact(3).skip(self.offset);
            for (pixel, out) in pixels.zip(out.chunks_exact_mut(3)) {
                for channel in 0..3 {
                    out[channel] = self.table[pixel[channel] as usize][channel];
                }
            }
        }
    }

    /// Values between 0 and 255 that may be fractional, in place.
    fn varied(&self, out: &mut [f32]) {
        for pixel in out.chunks_exact_mut(3) {
            for ((value, scale), shift) in pixel.iter_mut().zip(self.scale).zip(self.shift) {
                *value = *value * scale + shift;
            }
        }
    }
}

/// A stored square (`resize * resize * 3` bytes) to a network's input: its center, normalized, (crop, crop, 3).
pub fn network_input(record: &[u8], preprocessing: &Preprocessing) -> Vec<f32> {
    let normalize = Normalize::new(preprocessing);
    let mut out = vec![0.0; normalize.crop * normalize.crop * 3];
    normalize.center(record, &mut out);
    out
}
