//! Batches for training and evaluation, prepared ahead by worker threads. The order is the
//! caller's; the augmentation of an image depends only on (seed, view, record), so any step can be
//! the first, and adding or removing images leaves the others unchanged. Memory is bounded by the
//! prepared batches, whatever the number of records.

use super::normalization::Normalization;
use super::order::repeats;
use super::{Augmentation, DataError, TensorCache};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Upper bound of worker threads: one keeps a GPU busy, and two would be enough.
const MAX_WORKERS: usize = 4;

/// Some images as a network's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Normalized pixels, (count, size, size, 3), row by row.
    pub images: Vec<f32>,
    /// Class of each; none for an unlabelled image.
    pub labels: Vec<Option<u32>>,
    /// Index of each in [`TensorCache::samples`].
    pub samples: Vec<usize>,
    /// Side of the images, in pixels.
    pub size: usize,
}

#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// Images per batch; at least 1.
    pub batch_size: usize,
    pub augmentation: Option<Augmentation>,
    /// Drops an incomplete last batch.
    pub drop_last: bool,
    /// The first step; earlier batches are not prepared at all.
    pub first_step: usize,
    /// Number of batches prepared ahead; 0 starts no threads.
    pub ahead: usize,
}

impl Default for LoaderOptions {
    fn default() -> LoaderOptions {
        LoaderOptions {
            batch_size: 32,
            augmentation: None,
            drop_last: false,
            first_step: 0,
            ahead: 4,
        }
    }
}

/// An iterator over the batches of one pass.
pub struct Loader {
    schedule: Arc<Schedule>,
    next_step: usize,
    /// Worker w of n prepares steps first + w, first + w + n, …: round robin keeps the order
    /// without sorting.
    workers: Vec<Worker>,
    next_worker: usize,
}

struct Worker {
    batches: Option<Receiver<Result<Batch, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

/// Everything that is needed to prepare the batch of any step; shared by the workers.
struct Schedule {
    cache: Arc<TensorCache>,
    order: Vec<usize>,
    options: LoaderOptions,
    normalization: Normalization,
    /// See [`repeats`]; empty without augmentation.
    repeats: Vec<u32>,
}

impl Loader {
    /// Begins a pass over samples (indices into [`TensorCache::samples`]) in the order given, which
    /// may contain a sample several times.
    pub fn new(cache: Arc<TensorCache>, order: Vec<usize>, options: LoaderOptions) -> Loader {
        let augmentation = options.augmentation.filter(|it| !it.policy.is_none());
        let repeats = if augmentation.is_some() { repeats(&order) } else { Vec::new() };
        let batch_size = options.batch_size.max(1);
        let options = LoaderOptions { batch_size, augmentation, ..options };
        let normalization = Normalization::new(&cache.info().preprocessing);
        let next_step = options.first_step;
        let schedule = Arc::new(Schedule { cache, order, options, normalization, repeats });
        let workers = start_workers(&schedule);
        Loader { schedule, next_step, workers, next_worker: 0 }
    }

    /// Number of batches in a whole pass, including those before `first_step`.
    pub fn steps(&self) -> usize {
        self.schedule.steps()
    }
}

fn start_workers(schedule: &Arc<Schedule>) -> Vec<Worker> {
    let (first, ahead) = (schedule.options.first_step, schedule.options.ahead);
    let left = schedule.steps().saturating_sub(first);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = ahead.min(left).min(MAX_WORKERS).min(cores.div_ceil(2));
    (0..count)
        .map(|index| {
            // Besides the batches in its channel, each worker has one in preparation.
            let (sender, receiver) = sync_channel((ahead / count).saturating_sub(1));
            let schedule = Arc::clone(schedule);
            let work = move || {
                for step in (first + index..schedule.steps()).step_by(count) {
                    if sender.send(schedule.batch(step)).is_err() {
                        return;
                    }
                }
            };
            let thread =
                std::thread::Builder::new().name(format!("loader-{index}")).spawn(work).ok();
            // If the thread could not be started, its channel is closed and `Loader::next` prepares
            // its steps.
            Worker { batches: thread.is_some().then_some(receiver), thread }
        })
        .collect()
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next_step >= self.schedule.steps() {
            return None;
        }
        let (step, worker) = (self.next_step, self.next_worker);
        self.next_step += 1;
        self.next_worker = (worker + 1) % self.workers.len().max(1);
        let worker = self.workers.get(worker);
        let prepared = worker.and_then(|worker| worker.batches.as_ref()?.recv().ok());
        Some(prepared.unwrap_or_else(|| self.schedule.batch(step)))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            // Closing the channel ends a worker that is blocked in `send`.
            worker.batches = None;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl Schedule {
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
        let size = self.normalization.crop;
        let mut images = vec![0.0; samples.len() * size * size * 3];
        let mut labels = Vec::with_capacity(samples.len());
        let outputs = images.chunks_exact_mut(size * size * 3);
        for ((position, &sample), out) in (start..).zip(&samples).zip(outputs) {
            let repeat = self.repeats.get(position).copied().unwrap_or(0);
            labels.push(self.input(sample, repeat, out)?);
        }
        Ok(Batch { images, labels, samples, size })
    }

    /// Writes the input of one sample to `out` and returns its class.
    fn input(&self, sample: usize, repeat: u32, out: &mut [f32]) -> Result<Option<u32>, DataError> {
        let sample = self.cache.samples().get(sample).ok_or_else(|| DataError::Invalid {
            message: format!("there is no sample {sample}"),
            help: None,
        })?;
        let square = self.cache.record(sample.record)?;
        let digest = self.cache.record_digest(sample.record);
        let normalization = &self.normalization;
        match self.options.augmentation.as_ref().zip(digest) {
            None => normalization.center_crop(&square, out),
            Some((augmentation, digest)) => {
                let stream = augmentation.stream(augmentation.view(repeat), digest);
                augmentation.policy.apply(&square, &normalization.frame(), stream, out);
                normalization.in_place(out);
            }
        }
        Ok(sample.class)
    }
}
