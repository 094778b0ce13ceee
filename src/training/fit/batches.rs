//! What a step or a validation goes over: images from the loader, or rows of features that were computed before. Both
//! come in the order given, and any step can be the first. Knows nothing of optimizers.

use super::{Fit, Session};
use crate::data::{Augmentation, Loader, LoaderOptions, TensorCache, order};
use crate::nn::{Backend, Network, Number, Step, StepOptions};
use crate::training::TrainingError;
use crate::training::features::{Features, Table};
use crate::training::options::Options;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Batches prepared ahead of the optimizer.
const AHEAD: usize = 4;

/// Some samples, ready for the network.
pub struct Ready {
    input: Vec<f32>,
    features: bool,
    /// The class of each.
    pub labels: Vec<usize>,
}

impl Ready {
    /// Number of samples.
    pub fn count(&self) -> usize {
        self.labels.len()
    }

    /// A training step's gradients.
    pub fn step<D: Backend<N>, N: Number>(
        &self,
        network: &mut Network<D, N>,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<Step<D, N>, TrainingError> {
        let step = match self.features {
            true => network.step_from_features(&self.input, self.count(), targets, options),
            false => network.step(&self.input, self.count(), targets, options),
        };
        step.map_err(TrainingError::from)
    }

    /// Logits in evaluation mode.
    pub fn logits<D: Backend<N>, N: Number>(
        &self,
        network: &Network<D, N>,
    ) -> Result<Vec<f32>, TrainingError> {
        let logits = match self.features {
            true => network.logits_from_features(&self.input, self.count()),
            false => network.logits(&self.input, self.count()),
        };
        logits.map_err(TrainingError::from)
    }
}

/// Rows of features, a batch after the other.
pub struct Rows {
    cache: Arc<TensorCache>,
    /// The samples, each with the table that has its row.
    order: Vec<(usize, Arc<Table>)>,
    batch_size: usize,
    drop_last: bool,
    /// Samples that were given out, or passed over.
    done: usize,
}

/// The batches of one pass.
pub enum Batches {
    /// From the tensor cache.
    Images(Loader),
    /// From computed features.
    Features(Rows),
}

impl Iterator for Batches {
    type Item = Result<Ready, TrainingError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Batches::Images(loader) => loader.next().map(|batch| {
                let batch = batch?;
                let labels = batch.labels.iter().flatten().map(|&label| label as usize).collect();
                Ok(Ready { input: batch.images, features: false, labels })
            }),
            Batches::Features(rows) => rows.next(),
        }
    }
}

impl Rows {
    fn next(&mut self) -> Option<Result<Ready, TrainingError>> {
        let end = self.done.saturating_add(self.batch_size).min(self.order.len());
        let part = self.order.get(self.done..end).filter(|part| !part.is_empty())?;
        if self.drop_last && part.len() < self.batch_size {
            return None;
        }
        self.done = end;
        Some(self.ready(part))
    }

    fn ready(&self, part: &[(usize, Arc<Table>)]) -> Result<Ready, TrainingError> {
        let width = part.first().map_or(0, |(_, table)| table.width());
        let mut input = vec![0.0; part.len() * width];
        for ((sample, table), row) in part.iter().zip(input.chunks_exact_mut(width.max(1))) {
            table.read(&self.cache, *sample, row)?;
        }
        let label = |sample: usize| self.cache.samples().get(sample)?.class;
        let labels = part
            .iter()
            .filter_map(|&(sample, _)| label(sample))
            .map(|label| label as usize)
            .collect();
        Ok(Ready { input, features: true, labels })
    }
}

impl<D: Backend<N>, N: Number> Fit<'_, D, N> {
    /// Whether the epoch goes over features that were computed once: the backbone is frozen as a whole, and each image
    /// is shown in a few ways at most.
    fn by_features(&self) -> bool {
        by_features(self.options) && self.options.backbone_frozen(self.state.epoch)
    }

    /// The epoch's batches that are left.
    pub(super) fn batches(&mut self) -> Result<Batches, TrainingError> {
        let epoch = self.state.epoch;
        let order = self.plan.order(self.session.seed, epoch);
        let first_step = self.state.step as usize * self.plan.gradient_accumulation;
        let policy = self.options.augmentation().cloned();
        let augmentation =
            policy.map(|policy| Augmentation { policy, seed: self.session.seed, epoch });
        let (batch_size, drop_last) = (self.plan.batch_size, self.plan.drop_last);
        if !self.by_features() {
            let options =
                LoaderOptions { batch_size, augmentation, drop_last, first_step, ahead: AHEAD };
            return Ok(Batches::Images(Loader::new(Arc::clone(self.cache), order, options)));
        }
        let order = self.rows(order, augmentation.as_ref())?;
        let (cache, done) = (Arc::clone(self.cache), first_step * batch_size);
        Ok(Batches::Features(Rows { cache, order, batch_size, drop_last, done }))
    }

    /// The validation split's batches.
    pub(super) fn validation_batches(&mut self) -> Result<Batches, TrainingError> {
        let (order, batch_size, cache) =
            (self.plan.validation.clone(), self.plan.batch_size, Arc::clone(self.cache));
        if !self.by_features() {
            let options = LoaderOptions { batch_size, ahead: AHEAD, ..LoaderOptions::default() };
            return Ok(Batches::Images(Loader::new(cache, order, options)));
        }
        let order = self.rows(order, None)?;
        Ok(Batches::Features(Rows { cache, order, batch_size, drop_last: false, done: 0 }))
    }

    /// Samples with their features: those of one view after the other are made sure to be there.
    fn rows(
        &mut self,
        order: Vec<usize>,
        augmentation: Option<&Augmentation>,
    ) -> Result<Vec<(usize, Arc<Table>)>, TrainingError> {
        let views: Vec<u64> = match augmentation {
            Some(augmentation) => order::repeats(&order)
                .into_iter()
                .map(|repeat| augmentation.view(repeat).index)
                .collect(),
            None => vec![0; order.len()],
        };
        let mut tables = BTreeMap::new();
        for view in views.iter().copied().collect::<BTreeSet<u64>>() {
            let samples =
                order.iter().zip(&views).filter(|(_, of)| **of == view).map(|(&sample, _)| sample);
            let shown = augmentation
                .map(|augmentation| Augmentation { epoch: view, ..augmentation.clone() });
            tables.insert(view, self.table(&samples.collect::<Vec<_>>(), shown.as_ref())?);
        }
        let row = |(sample, view): (usize, u64)| Some((sample, Arc::clone(tables.get(&view)?)));
        Ok(order.into_iter().zip(views).filter_map(row).collect())
    }

    fn table(
        &mut self,
        samples: &[usize],
        augmentation: Option<&Augmentation>,
    ) -> Result<Arc<Table>, TrainingError> {
        let Session { memo, scratch, events, cancel, .. } = *self.session;
        let new = || Features::new(self.network, self.cache, memo.clone(), scratch.to_owned());
        let features = self.features.get_or_insert_with(new);
        features.of(self.network, self.cache, samples, augmentation, (events, cancel))
    }
}

/// Whether epochs with a frozen backbone go over features that were computed once.
fn by_features(options: &Options) -> bool {
    options.augmentation().is_none_or(|augment| augment.views.is_some())
}
