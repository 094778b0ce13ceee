//! Batches for training and evaluation, prepared ahead by worker threads. The order is the
//! caller's; the augmentation of an image depends only on (seed, view, record), so any step can be
//! the first, and adding or removing images leaves the others unchanged. Memory is bounded by the
//! prepared batches, whatever the number of records.

use super::normalization::{Normalization, scale_and_shift};
use super::order::repeats;
use super::{Augmentation, AugmentationPolicy, DataError, Recipe, Sample, TensorCache};
use crate::random::Stream;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Upper bound of worker threads: one keeps a GPU busy, and two would be enough.
const MAX_WORKERS: usize = 4;

/// Some images as a network's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub pixels: Pixels,
    /// Class of each; none for an unlabelled image.
    pub labels: Vec<Option<u32>>,
    /// Index of each in [`TensorCache::samples`].
    pub samples: Vec<usize>,
    /// Side of the network's input, in pixels.
    pub size: usize,
}

/// The images of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// Augmented and normalized: (count, size, size, 3), row by row.
    Normalized(Vec<f32>),
    /// What a GPU makes the same of.
    Records(Records),
}

/// Stored squares, and how each becomes an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    /// (count, size, size, 3), row by row.
    pub squares: Vec<u8>,
    /// [`Recipe::BYTES`] for each.
    pub recipes: Vec<u8>,
    /// Side of the squares, in pixels.
    pub size: usize,
    /// By channel, the factor and the summand that normalize a level of 0..=255.
    pub scale_and_shift: ([f32; 3], [f32; 3]),
    /// See [`changes_colors`](super::AugmentationPolicy::changes_colors).
    pub changes_colors: bool,
    /// See [`needs_means`](super::AugmentationPolicy::needs_means).
    pub needs_means: bool,
}

#[cfg(test)]
impl Pixels {
    /// Those of a loader of [`Form::Normalized`].
    pub fn normalized(self) -> Result<Vec<f32>, DataError> {
        match self {
            Pixels::Normalized(images) => Ok(images),
            Pixels::Records(_) => {
                let message = "these images are for a GPU".to_owned();
                Err(DataError::Invalid { message, help: None })
            }
        }
    }
}

/// How a loader prepares images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// [`Pixels::Normalized`].
    #[default]
    Normalized,
    /// [`Pixels::Records`], except for a policy that isn't
    /// [`on_gpu`](super::AugmentationPolicy::on_gpu): it gives [`Pixels::Normalized`].
    Records,
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
    pub form: Form,
}

impl Default for LoaderOptions {
    fn default() -> LoaderOptions {
        LoaderOptions {
            batch_size: 32,
            augmentation: None,
            drop_last: false,
            first_step: 0,
            ahead: 4,
            form: Form::default(),
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
        let on_gpu = augmentation.as_ref().is_none_or(|it| it.policy.on_gpu());
        let form = if on_gpu { options.form } else { Form::Normalized };
        let options = LoaderOptions { batch_size, augmentation, form, ..options };
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
        let label = |position| Ok(self.sample(position)?.class);
        let labels = (start..end).map(label).collect::<Result<_, DataError>>()?;
        let pixels = self.pixels(start..end)?;
        Ok(Batch { pixels, labels, samples, size: self.normalization.crop })
    }

    fn pixels(&self, positions: Range<usize>) -> Result<Pixels, DataError> {
        let Normalization { size, crop, .. } = self.normalization;
        let count = positions.len();
        match self.options.form {
            Form::Normalized => {
                let mut images = vec![0.0; count * crop * crop * 3];
                for (position, out) in positions.zip(images.chunks_exact_mut(crop * crop * 3)) {
                    self.write_image(position, out)?;
                }
                Ok(Pixels::Normalized(images))
            }
            Form::Records => {
                let mut squares = vec![0; count * size * size * 3];
                let mut recipes = vec![0; count * Recipe::BYTES];
                self.write_records(positions, &mut squares, &mut recipes)?;
                let policy = self.options.augmentation.as_ref().map(|it| &it.policy);
                Ok(Pixels::Records(Records {
                    squares,
                    recipes,
                    size,
                    scale_and_shift: scale_and_shift(&self.cache.info().preprocessing),
                    changes_colors: policy.is_some_and(AugmentationPolicy::changes_colors),
                    needs_means: policy.is_some_and(AugmentationPolicy::needs_means),
                }))
            }
        }
    }

    /// The sample at a position of the order.
    fn sample(&self, position: usize) -> Result<&Sample, DataError> {
        let index = self.order.get(position).copied().unwrap_or(usize::MAX);
        self.cache.samples().get(index).ok_or_else(|| DataError::Invalid {
            message: format!("there is no sample {index}"),
            help: None,
        })
    }

    /// The augmentation of a position of the order, with the stream of its view.
    fn augmentation(&self, position: usize, record: u32) -> Option<(&Augmentation, Stream)> {
        let augmentation = self.options.augmentation.as_ref()?;
        let digest = self.cache.record_digest(record)?;
        let repeat = self.repeats.get(position).copied().unwrap_or(0);
        Some((augmentation, augmentation.stream(augmentation.view(repeat), digest)))
    }

    /// Writes the normalized input of one position to `out`.
    fn write_image(&self, position: usize, out: &mut [f32]) -> Result<(), DataError> {
        let record = self.sample(position)?.record;
        let square = self.cache.record(record)?;
        match self.augmentation(position, record) {
            None => self.normalization.center_crop(&square, out),
            Some((augmentation, stream)) => {
                augmentation.policy.apply(&square, &self.normalization.frame(), stream, out);
                self.normalization.in_place(out);
            }
        }
        Ok(())
    }

    /// Writes the stored squares and the recipes of some positions, each front to back. Nothing is
    /// read back, so that both may be memory that a GPU reads and the processor doesn't cache.
    fn write_records(
        &self,
        positions: Range<usize>,
        records: &mut [u8],
        recipes: &mut [u8],
    ) -> Result<(), DataError> {
        let Normalization { size, .. } = self.normalization;
        let records = records.chunks_exact_mut(size * size * 3);
        let outputs = records.zip(recipes.chunks_exact_mut(Recipe::BYTES));
        let frame = self.normalization.frame();
        for (position, (out, recipe)) in positions.zip(outputs) {
            let record = self.sample(position)?.record;
            out.copy_from_slice(&self.cache.record(record)?);
            match self.augmentation(position, record) {
                None => Recipe::center_crop(&frame).write(recipe),
                Some((augmentation, stream)) => {
                    augmentation.policy.recipe(&frame, stream).write(recipe);
                }
            }
        }
        Ok(())
    }
}
