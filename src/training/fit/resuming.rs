//! Writing a checkpoint between two steps, and resuming from one.

use super::{Fit, set_trainable};
use crate::data::TensorCache;
use crate::nn::{Backend, Network, Number, Weights};
use crate::store::Digest;
use crate::training::TrainingError;
use crate::training::checkpoint::{Snapshot, Tensors};
use crate::training::optimizer::Optimizer;
use crate::training::options::Options;
use std::collections::BTreeSet;
use std::time::Instant;

impl<D: Backend<N>, N: Number> Fit<'_, D, N> {
    /// Resumes from a checkpoint if there is one of this training.
    pub(super) fn resume(&mut self) -> Result<(), TrainingError> {
        let Some(checkpoints) = self.session.checkpoints else { return Ok(()) };
        let snapshot = match checkpoints.read(self.configuration) {
            Ok(None) => return Ok(()),
            Ok(Some(snapshot)) => snapshot,
            Err(warning) => {
                self.session.events.warn(warning);
                return Ok(());
            }
        };
        let Snapshot { state, current, best, optimizer: tensors } = snapshot;
        let in_range =
            (1..=self.options.epochs + 1).contains(&state.epoch) && state.step <= self.setup.steps;
        let steps = state
            .epoch
            .saturating_sub(1)
            .saturating_mul(self.setup.steps)
            .saturating_add(state.step);
        let mut optimizer = self.optimizer_at(state.epoch)?;
        let parameters = self.network.parameters();
        if !in_range || !optimizer.restore(parameters, tensors, steps, &self.device)? {
            self.session.events.warn("the checkpoint does not match this training and is ignored");
            self.optimizer = self.optimizer_at(1)?;
            return Ok(());
        }
        self.optimizer = optimizer;
        load_tensors(self.network, &current)?;
        self.session.events.info(format!(
            "resuming from a checkpoint: epoch {}, step {}",
            state.epoch,
            state.step + 1
        ));
        (self.state, self.best) = (state, best);
        Ok(())
    }

    /// A new optimizer of the parameters that are trainable in an epoch. Sets them trainable.
    fn optimizer_at(&mut self, epoch: u64) -> Result<Optimizer<D, N>, TrainingError> {
        set_trainable(self.network, self.options, 1);
        let (config, max_grad_norm) = (&self.options.optimizer, self.options.max_grad_norm);
        let parameters = self.network.parameters();
        let mut optimizer = Optimizer::new(config, max_grad_norm, parameters, &self.device)?;
        for entry in self.options.unfreezing().iter().filter(|entry| entry.epoch <= epoch) {
            set_trainable(self.network, self.options, entry.epoch);
            let steps = (entry.epoch - 1).saturating_mul(self.setup.steps);
            optimizer.add_trainable(self.network.parameters(), steps, &self.device)?;
        }
        Ok(optimizer)
    }

    /// Called between steps: writes a checkpoint if one is due or training is cancelled.
    ///
    /// # Errors
    /// [`TrainingError::Cancelled`] if training is cancelled.
    pub(super) fn checkpoint_or_cancel(&mut self) -> Result<(), TrainingError> {
        let cancelled = self.session.cancel.is_cancelled();
        if let Some(checkpoints) = self.session.checkpoints
            && (cancelled || self.last_checkpoint.elapsed() >= checkpoints.every)
        {
            let snapshot = Snapshot {
                state: self.state.clone(),
                current: self.current_tensors(),
                best: self.best.clone(),
                optimizer: self.optimizer.save(self.network.parameters(), &self.device)?,
            };
            if let Err(error) = checkpoints.write(self.configuration, snapshot) {
                self.session.events.warn(format!("failed to write a checkpoint: {error}"));
            }
            self.last_checkpoint = Instant::now();
        }
        if cancelled { Err(TrainingError::Cancelled) } else { Ok(()) }
    }

    /// The tensors that training updates.
    pub(super) fn current_tensors(&self) -> Tensors<N> {
        self.network.save_named(|name| self.updated.contains(name)).tensors
    }
}

/// Replaces some of a network's tensors.
pub(super) fn load_tensors<D: Backend<N>, N: Number>(
    network: &mut Network<D, N>,
    tensors: &Tensors<N>,
) -> Result<(), TrainingError> {
    network.restore(&Weights { tensors: tensors.clone(), ..Weights::default() })?;
    Ok(())
}

/// Names of the tensors that training updates: trainable parameters and running statistics.
pub(super) fn updated_tensors<D: Backend<N>, N: Number>(
    network: &Network<D, N>,
) -> BTreeSet<String> {
    let frozen: BTreeSet<&str> = network
        .parameters()
        .iter()
        .filter(|parameter| !parameter.trainable)
        .map(|parameter| parameter.info.name.as_str())
        .collect();
    network.names().into_iter().filter(|name| !frozen.contains(name.as_str())).collect()
}

/// Identifies the training that a checkpoint belongs to. The stage's cache key already does; this
/// guards against a key that fails to change.
pub(super) fn configuration<D: Backend<N>, N: Number>(
    network: &Network<D, N>,
    cache: &TensorCache,
    options: &Options,
    seed: u64,
) -> Digest {
    let shapes: Vec<(&str, &[usize])> = network
        .parameters()
        .iter()
        .map(|parameter| (parameter.info.name.as_str(), parameter.info.shape.as_slice()))
        .collect();
    let json = serde_json::json!([options, seed, cache.samples().len(), cache.info(), shapes]);
    Digest::of(json.to_string().as_bytes())
}
