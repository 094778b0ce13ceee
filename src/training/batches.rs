//! Batches as a network takes them: images from the loader, or rows of cached features. Training
//! steps, validation and the kind `evaluate` all read their samples here, in the order given.

use crate::data::{Form, Loader, LoaderOptions, Pixels, Records, TensorCache};
use crate::metrics::softmax;
use crate::nn::{self, Learner, Number, PassResult, StepOptions};
use crate::training::TrainingError;
use crate::training::features::FeatureTable;
use crate::training::mix::Mix;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Batches prepared ahead of the network.
pub(crate) const AHEAD: usize = 4;

/// Some samples as a network's input.
pub(crate) struct Batch {
    /// Index of each in [`TensorCache::samples`].
    pub samples: Vec<usize>,
    /// Class of each; none for an unlabelled one.
    pub labels: Vec<Option<u32>>,
    input: Input,
}

enum Input {
    Images(Vec<f32>),
    /// With a number of its own.
    Records(u64, Records),
    Features(Vec<f32>),
}

impl Input {
    fn of(pixels: Pixels) -> Input {
        static RECORDS: AtomicU64 = AtomicU64::new(0);
        match pixels {
            Pixels::Normalized(images) => Input::Images(images),
            Pixels::Records(records) => {
                Input::Records(RECORDS.fetch_add(1, Ordering::Relaxed), records)
            }
        }
    }

    fn as_nn(&self) -> nn::Input<'_> {
        match self {
            Input::Images(images) => nn::Input::Images(images),
            Input::Features(rows) => nn::Input::Features(rows),
            Input::Records(id, records) => {
                let Records { squares, recipes, size, scale_and_shift, .. } = records;
                let (scale, shift) = *scale_and_shift;
                let &Records { changes_colors, needs_means, .. } = records;
                let views = nn::Views { size: *size, scale, shift, changes_colors, needs_means };
                nn::Input::Records(nn::Records { id: *id, squares, recipes, views })
            }
        }
    }
}

/// The form in which a network takes images.
pub(crate) fn form<N: Number>(network: &dyn Learner<N>) -> Form {
    if network.takes_records() { Form::Records } else { Form::Normalized }
}

impl Batch {
    /// Number of samples.
    pub(crate) fn count(&self) -> usize {
        self.samples.len()
    }

    /// Mixes each image with the one before it, and the rows of `targets` alike. Cached features
    /// aren't mixed.
    pub(crate) fn mix(&mut self, mix: &Mix, targets: &mut [f32]) {
        let count = self.count();
        if let Input::Images(images) = &mut self.input {
            mix.apply(images, targets, count);
        }
    }

    /// The classes of samples that are all labelled.
    pub(crate) fn classes(&self) -> impl Iterator<Item = usize> + Clone {
        self.labels.iter().flatten().map(|&label| label as usize)
    }

    /// Images for [`Learner::features`].
    pub(crate) fn of_pixels(pixels: Pixels, samples: Vec<usize>) -> Batch {
        Batch { samples, labels: Vec::new(), input: Input::of(pixels) }
    }

    /// Forward and backward in training mode; the network keeps the gradients. `next` is the batch
    /// of the next pass.
    pub(crate) fn pass<N: Number>(
        &self,
        network: &mut dyn Learner<N>,
        next: Option<&Batch>,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<PassResult, TrainingError> {
        let next = next.map(|batch| batch.input.as_nn());
        Ok(network.pass(self.input.as_nn(), next, self.count(), targets, options)?)
    }

    /// Features (count, feature count) in evaluation mode.
    pub(crate) fn features<N: Number>(
        &self,
        network: &dyn Learner<N>,
    ) -> Result<Vec<f32>, TrainingError> {
        Ok(network.features(self.input.as_nn(), self.count())?)
    }

    /// Class probabilities (count, classes) in evaluation mode. A sample's are the same in any
    /// batch.
    pub(crate) fn probabilities<N: Number>(
        &self,
        network: &dyn Learner<N>,
    ) -> Result<Vec<f32>, TrainingError> {
        let logits = network.evaluate(self.input.as_nn(), self.count())?;
        let classes = logits.len() / self.count().max(1);
        Ok(logits.chunks_exact(classes.max(1)).flat_map(softmax).collect())
    }
}

/// The batches of one pass.
pub(crate) enum Batches {
    /// Images from the tensor cache.
    Images(Loader),
    /// Cached features.
    Features(FeatureLoader),
}

impl Batches {
    /// Batches for evaluation: no augmentation, and no sample is dropped. Reads cached features if
    /// there is a table of them, which must contain all samples.
    pub(crate) fn evaluation(
        cache: &Arc<TensorCache>,
        order: Vec<usize>,
        batch_size: usize,
        table: Option<Arc<FeatureTable>>,
        form: Form,
    ) -> Batches {
        let cache = Arc::clone(cache);
        match table {
            None => {
                let options =
                    LoaderOptions { batch_size, ahead: AHEAD, form, ..LoaderOptions::default() };
                Batches::Images(Loader::new(cache, order, options))
            }
            Some(table) => {
                let order = order.into_iter().map(|sample| (sample, Arc::clone(&table))).collect();
                let batch_size = batch_size.max(1);
                Batches::Features(FeatureLoader {
                    cache,
                    order,
                    batch_size,
                    drop_last: false,
                    next: 0,
                })
            }
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, TrainingError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Batches::Images(loader) => loader.next().map(|batch| {
                let crate::data::Batch { pixels, labels, samples, .. } = batch?;
                Ok(Batch { samples, labels, input: Input::of(pixels) })
            }),
            Batches::Features(loader) => loader.next(),
        }
    }
}

/// Reads rows of cached features.
pub(crate) struct FeatureLoader {
    pub cache: Arc<TensorCache>,
    /// The samples, each with the table that has its row.
    pub order: Vec<(usize, Arc<FeatureTable>)>,
    /// At least 1.
    pub batch_size: usize,
    /// Drops an incomplete last batch.
    pub drop_last: bool,
    /// The next position in the order.
    pub next: usize,
}

impl FeatureLoader {
    fn next(&mut self) -> Option<Result<Batch, TrainingError>> {
        let end = self.next.saturating_add(self.batch_size).min(self.order.len());
        let part = self.order.get(self.next..end).filter(|part| !part.is_empty())?;
        if self.drop_last && part.len() < self.batch_size {
            return None;
        }
        self.next = end;
        Some(self.batch(part))
    }

    fn batch(&self, part: &[(usize, Arc<FeatureTable>)]) -> Result<Batch, TrainingError> {
        let width = part.first().map_or(0, |(_, table)| table.width());
        let mut rows = vec![0.0; part.len() * width];
        for ((sample, table), row) in part.iter().zip(rows.chunks_exact_mut(width.max(1))) {
            table.read(&self.cache, *sample, row)?;
        }
        let samples: Vec<usize> = part.iter().map(|&(sample, _)| sample).collect();
        let label = |&sample: &usize| self.cache.samples().get(sample)?.class;
        let labels = samples.iter().map(label).collect();
        Ok(Batch { samples, labels, input: Input::Features(rows) })
    }
}
