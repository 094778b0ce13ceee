//! What a step or a validation goes over: pictures from the loader, or rows of features that were computed before. Both
//! come in the order given, and any step can be the first. Knows nothing of optimisers.

use crate::data::{Loader, TensorCache};
use crate::learn::LearnError;
use crate::learn::features::Table;
use crate::nn::{Backend, Network, Step, StepOptions};
use std::sync::Arc;

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
    pub fn step<D: Backend>(
        &self,
        network: &mut Network<D>,
        targets: &[f32],
        options: &StepOptions,
    ) -> Result<Step<D>, LearnError> {
        let step = match self.features {
            true => network.step_from_features(&self.input, self.count(), targets, options),
            false => network.step(&self.input, self.count(), targets, options),
        };
        step.map_err(LearnError::from)
    }

    /// Logits in evaluation mode.
    pub fn logits<D: Backend>(&self, network: &Network<D>) -> Result<Vec<f32>, LearnError> {
        let logits = match self.features {
            true => network.logits_from_features(&self.input, self.count()),
            false => network.logits(&self.input, self.count()),
        };
        logits.map_err(LearnError::from)
    }
}

/// Rows of features, a batch after the other.
pub struct Rows {
    pub cache: Arc<TensorCache>,
    /// The samples, each with the table that has its row.
    pub order: Vec<(usize, Arc<Table>)>,
    pub batch_size: usize,
    pub drop_last: bool,
    /// Samples that were given out, or passed over.
    pub done: usize,
}

/// The batches of one pass.
pub enum Batches {
    /// From the tensor cache.
    Pictures(Loader),
    /// From computed features.
    Features(Rows),
}

impl Iterator for Batches {
    type Item = Result<Ready, LearnError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Batches::Pictures(loader) => loader.next().map(|batch| {
                let batch = batch?;
                let labels = batch.labels.iter().flatten().map(|&label| label as usize).collect();
                Ok(Ready { input: batch.pictures, features: false, labels })
            }),
            Batches::Features(rows) => rows.next(),
        }
    }
}

impl Rows {
    fn next(&mut self) -> Option<Result<Ready, LearnError>> {
        let end = self.done.saturating_add(self.batch_size).min(self.order.len());
        let part = self.order.get(self.done..end).filter(|part| !part.is_empty())?;
        if self.drop_last && part.len() < self.batch_size {
            return None;
        }
        self.done = end;
        Some(self.ready(part))
    }

    fn ready(&self, part: &[(usize, Arc<Table>)]) -> Result<Ready, LearnError> {
        let width = part.first().map_or(0, |(_, table)| table.width());
        let mut input = vec![0.0; part.len() * width];
        for ((sample, table), row) in part.iter().zip(input.chunks_exact_mut(width.max(1))) {
            table.read(&self.cache, *sample, row)?;
        }
        let label = |sample: usize| self.cache.samples().get(sample)?.class;
        let labels = part.iter().filter_map(|&(sample, _)| label(sample)).map(|label| label as usize).collect();
        Ok(Ready { input, features: true, labels })
    }
}
