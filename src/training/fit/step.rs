//! One optimizer step: the gradients of one batch, or accumulated over several.

use super::Fit;
use crate::metrics::argmax;
use crate::nn::{Number, PassResult, StepOptions, soft_targets};
use crate::training::batches::Batch;
use crate::training::mix::Mix;
use crate::training::{TrainingError, balance};

impl<N: Number> Fit<'_, N> {
    /// Makes a step with the accumulated gradients of `batches`. `next` is the first batch of the
    /// next step.
    pub(super) fn train_step(
        &mut self,
        batches: &mut [Batch],
        next: Option<&Batch>,
    ) -> Result<(), TrainingError> {
        let weights = self.setup.class_weights.as_deref();
        let total_weight = balance::total_weight(weights, batches.iter().flat_map(Batch::classes));
        let number = (self.state.epoch - 1) * self.setup.steps + self.state.step;
        let multiplier = self.setup.learning_rates.multiplier(number);
        let mut loss = 0.0;
        for index in 0..batches.len() {
            let Some((batch, rest)) = batches[index..].split_first_mut() else { break };
            let position = number * self.setup.gradient_accumulation as u64 + index as u64;
            let next = rest.first().or(next);
            let pass = self.gradients(batch, next, total_weight, position)?;
            loss += pass.loss;
            if !pass.loss.is_finite() {
                return Err(self.diverged("the loss", pass.loss, multiplier));
            }
        }
        if batches.is_empty() {
            return Ok(());
        }
        let rules = self.optimizer.rules(&self.network.parameters(), multiplier);
        let norm = self.network.update(&rules, self.options.max_grad_norm)?;
        if let Some(norm) = norm.filter(|norm| !norm.is_finite()) {
            return Err(self.diverged("the gradient norm", norm, multiplier));
        }
        let count: usize = batches.iter().map(Batch::count).sum();
        self.state.loss += loss * count as f64;
        self.state.images += count as u64;
        self.state.step += 1;
        Ok(())
    }

    /// The gradients of one batch, weighted by its share of the step's `total_weight`. `position`
    /// is the batch's number since the start of training.
    fn gradients(
        &mut self,
        batch: &mut Batch,
        next: Option<&Batch>,
        total_weight: f64,
        position: u64,
    ) -> Result<PassResult, TrainingError> {
        let classes = self.cache.info().classes.len();
        let labels: Vec<usize> = batch.classes().collect();
        let mut targets = soft_targets(&labels, classes, self.options.label_smoothing as f32);
        let weights =
            balance::row_weights(self.setup.class_weights.as_deref(), &labels, total_weight);
        for (row, weight) in targets.chunks_exact_mut(classes).zip(weights) {
            row.iter_mut().for_each(|target| *target *= weight);
        }
        let policy = self.options.augmentation();
        if let Some(policy) = policy.filter(|policy| policy.mixes(self.state.epoch)) {
            batch.mix(&Mix::draw(policy, self.session.seed, position), &mut targets);
        }
        let batch_norm = self.options.batch_norm.statistics();
        let options = StepOptions { seed: self.session.seed, step: position, batch_norm };
        let pass = batch.pass(self.network, next, &targets, &options)?;
        let predictions = pass.logits.chunks_exact(classes).map(argmax);
        let hits = predictions.zip(&labels).filter(|(predicted, label)| predicted == *label);
        self.state.hits += hits.count() as u64;
        Ok(pass)
    }
}
