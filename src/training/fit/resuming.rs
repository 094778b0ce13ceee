//! Writing a checkpoint between two steps, and resuming from one.

use super::{Fit, set_trainable};
use crate::data::TensorCache;
use crate::nn::{Learner, Number, Weights};
use crate::store::Digest;
use crate::training::TrainingError;
use crate::training::checkpoint::{Snapshot, Tensors};
use crate::training::optimizer::Optimizer;
use crate::training::options::Options;
use std::collections::BTreeSet;
use std::time::Instant;

impl<N: Number> Fit<'_, N> {
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
        let mut optimizer = self.optimizer_at(state.epoch);
        optimizer.resume(steps);
        let names = optimizer.moment_names(&self.network.parameters());
        let complete =
            tensors.len() == names.len() && names.iter().all(|name| tensors.contains_key(name));
        if !in_range || !complete || self.network.restore_moments(tensors).is_err() {
            self.session.events.warn("the checkpoint does not match this training and is ignored");
            self.optimizer = self.optimizer_at(1);
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
    fn optimizer_at(&mut self, epoch: u64) -> Optimizer {
        set_trainable(self.network, self.options, 1);
        let mut optimizer = Optimizer::new(&self.options.optimizer, &self.network.parameters());
        for entry in self.options.unfreezing().iter().filter(|entry| entry.epoch <= epoch) {
            set_trainable(self.network, self.options, entry.epoch);
            let steps = (entry.epoch - 1).saturating_mul(self.setup.steps);
            optimizer.add_trainable(&self.network.parameters(), steps);
        }
        optimizer
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
                current: self.current_tensors()?,
                best: self.best.clone(),
                optimizer: self.network.moments()?,
            };
            if let Err(error) = checkpoints.write(self.configuration, snapshot) {
                self.session.events.warn(format!("failed to write a checkpoint: {error}"));
            }
            self.last_checkpoint = Instant::now();
        }
        if cancelled { Err(TrainingError::Cancelled) } else { Ok(()) }
    }

    /// The tensors that training updates.
    pub(super) fn current_tensors(&self) -> Result<Tensors<N>, TrainingError> {
        Ok(self.network.tensors(&|name| self.updated.contains(name))?)
    }
}

/// Replaces some of a network's tensors.
pub(super) fn load_tensors<N: Number>(
    network: &mut dyn Learner<N>,
    tensors: &Tensors<N>,
) -> Result<(), TrainingError> {
    network.restore(&Weights { tensors: tensors.clone(), ..Weights::default() })?;
    Ok(())
}

/// Names of the tensors that training updates: trainable parameters and running statistics.
pub(super) fn updated_tensors<N: Number>(network: &dyn Learner<N>) -> BTreeSet<String> {
    let parameters = network.parameters();
    let frozen = parameters.iter().filter(|(_, trainable)| !trainable);
    let frozen: BTreeSet<&str> = frozen.map(|(info, _)| info.name.as_str()).collect();
    network.names().into_iter().filter(|name| !frozen.contains(name.as_str())).collect()
}

/// Identifies the training that a checkpoint belongs to. The stage's cache key already does; this
/// guards against a key that fails to change.
pub(super) fn configuration<N: Number>(
    network: &dyn Learner<N>,
    cache: &TensorCache,
    options: &Options,
    seed: u64,
) -> Digest {
    let parameters = network.parameters();
    let shapes: Vec<(&str, &[usize])> =
        parameters.iter().map(|(info, _)| (info.name.as_str(), info.shape.as_slice())).collect();
    let json = serde_json::json!([options, seed, cache.samples().len(), cache.info(), shapes]);
    Digest::of(json.to_string().as_bytes())
}
