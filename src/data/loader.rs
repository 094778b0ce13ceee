//! Batches for training and evaluation, prepared ahead by threads of its own. Order is a function of (seed, epoch),
//! augmentation of (seed, epoch, sample): no state to save, any step can be the first. Memory is that of the batches
//! under way, whatever the number of records. Knows nothing of networks.

use super::{Augment, DataError, Preprocessing, TensorCache};
use crate::random::Stream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// More threads than this never prepare batches: one feeds a card, two are to spare.
const MOST_WORKERS: usize = 4;

/// Some pictures, ready for a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Normalised pixels, (count, side, side, 3), row by row.
    pub pictures: Vec<f32>,
    /// Class of each; none for an unlabelled one.
    pub labels: Vec<Option<u32>>,
    /// Index of each in [`TensorCache::samples`].
    pub samples: Vec<usize>,
    /// Side of the pictures, in pixels.
    pub size: usize,
}

/// What a [`Loader`] does.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// Pictures in a batch; at least 1.
    pub batch_size: usize,
    /// (seed, epoch) of the order; none for the order given.
    pub shuffle: Option<(u64, u64)>,
    /// How pictures are varied; the stream is of the same (seed, epoch), so without `shuffle` nothing is varied.
    pub augment: Option<Augment>,
    /// Leaves out a last batch that isn't full.
    pub drop_last: bool,
    /// The step to begin with: what came before isn't prepared at all.
    pub first_step: usize,
    /// Batches prepared ahead; 0 for none, and no threads.
    pub ahead: usize,
}

impl Default for LoaderOptions {
    fn default() -> LoaderOptions {
        LoaderOptions { batch_size: 32, shuffle: None, augment: None, drop_last: false, first_step: 0, ahead: 4 }
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
    normalise: Normalise,
    augment: Option<(Augment, u64, u64)>,
}

impl Loader {
    /// Begins a pass over `samples` (indices in [`TensorCache::samples`]).
    pub fn new(cache: Arc<TensorCache>, samples: Vec<usize>, options: LoaderOptions) -> Loader {
        let mut order = samples;
        if let Some((seed, epoch)) = options.shuffle {
            Stream::new(seed, "order", &[epoch]).shuffle(&mut order);
        }
        let options = LoaderOptions { batch_size: options.batch_size.max(1), ..options };
        let normalise = Normalise::new(&cache.info().preprocessing);
        let varied = options.augment.clone().filter(|augment| !augment.is_none());
        let augment = varied.zip(options.shuffle).map(|(augment, (seed, epoch))| (augment, seed, epoch));
        let next = options.first_step;
        let plan = Arc::new(Plan { cache, order, options, normalise, augment });
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
            let thread = std::thread::Builder::new().name(format!("loader-{index}")).spawn(work).ok();
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
        if self.options.drop_last { self.order.len() / size } else { self.order.len().div_ceil(size) }
    }

    fn batch(&self, step: usize) -> Result<Batch, DataError> {
        let start = step.saturating_mul(self.options.batch_size).min(self.order.len());
        let end = start.saturating_add(self.options.batch_size).min(self.order.len());
        let samples = self.order[start..end].to_vec();
        let side = self.cache.info().preprocessing.crop as usize;
        let mut pictures = vec![0.0; samples.len() * side * side * 3];
        let mut labels = Vec::with_capacity(samples.len());
        for (&index, out) in samples.iter().zip(pictures.chunks_exact_mut(side * side * 3)) {
            labels.push(self.input(index, out)?);
        }
        Ok(Batch { pictures, labels, samples, size: side })
    }

    /// One picture into its place in the batch; returns its class.
    fn input(&self, index: usize, out: &mut [f32]) -> Result<Option<u32>, DataError> {
        let sample = self
            .cache
            .samples()
            .get(index)
            .ok_or_else(|| DataError::Unfit { message: format!("there is no sample {index}"), help: None })?;
        let record = self.cache.record(sample.record)?;
        match &self.augment {
            None => self.normalise.centre(&record, out),
            Some((augment, seed, epoch)) => {
                let stream = Stream::new(*seed, "augment", &[*epoch, index as u64]);
                let Normalise { size, crop, offset, .. } = self.normalise;
                augment.apply(&record, size, crop, offset, stream, out);
                self.normalise.varied(out);
            }
        }
        Ok(sample.class)
    }
}

/// Pixels of a stored square to the numbers a network takes.
struct Normalise {
    size: usize,
    crop: usize,
    offset: usize,
    /// What each of the 256 values of each channel becomes.
    table: Box<[[f32; 3]; 256]>,
    scale: [f32; 3],
    shift: [f32; 3],
}

impl Normalise {
    fn new(preprocessing: &Preprocessing) -> Normalise {
        let (mean, std) = (preprocessing.mean, preprocessing.std);
        let one = |value: usize, channel: usize| (value as f32 / 255.0 - mean[channel]) / std[channel];
        Normalise {
            size: preprocessing.resize as usize,
            crop: preprocessing.crop as usize,
            offset: preprocessing.crop_offset() as usize,
            table: Box::new(std::array::from_fn(|value| std::array::from_fn(|channel| one(value, channel)))),
            scale: std.map(|std| 1.0 / (255.0 * std)),
            shift: std::array::from_fn(|channel| -mean[channel] / std[channel]),
        }
    }

    /// The centre of a stored square.
    fn centre(&self, record: &[u8], out: &mut [f32]) {
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

/// A stored square (`resize * resize * 3` bytes) to a network's input: its centre, normalised, (crop, crop, 3).
pub fn network_input(record: &[u8], preprocessing: &Preprocessing) -> Vec<f32> {
    let normalise = Normalise::new(preprocessing);
    let mut out = vec![0.0; normalise.crop * normalise.crop * 3];
    normalise.centre(record, &mut out);
    out
}
