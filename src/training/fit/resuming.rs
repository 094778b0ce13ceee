//! How a training that was interrupted goes on: what is kept of it between two steps, and put back before the next. Knows
//! nothing of batches and losses.

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
    /// Goes on from a checkpoint, where there is one that fits.
    pub(super) fn resume(&mut self) -> Result<(), TrainingError> {
        let Some(checkpoints) = self.session.checkpoints else { return Ok(()) };
        let snapshot = match checkpoints.read(self.configuration) {
            Ok(None) => return Ok(()),
            Ok(Some(snapshot)) => snapshot,
            Err(sentence) => {
                self.session.events.warn(sentence);
                return Ok(());
            }
        };
        let Snapshot { state, current, best, moments } = snapshot;
        let possible =
            (1..=self.options.epochs + 1).contains(&state.epoch) && state.step <= self.plan.steps;
        let done = state
            .epoch
            .saturating_sub(1)
            .saturating_mul(self.plan.steps)
            .saturating_add(state.step);
        let mut optimizer = self.optimizer_at(state.epoch)?;
        if !possible
            || !optimizer.restore(self.network.parameters(), moments, done, &self.device)?
        {
            self.session.events.warn("the checkpoint doesn't fit this training and is ignored");
            self.optimizer = self.optimizer_at(1)?;
            return Ok(());
        }
        self.optimizer = optimizer;
        take(self.network, &current)?;
        self.session.events.info(format!(
            "going on from a checkpoint: epoch {}, step {}",
            state.epoch,
            state.step + 1
        ));
        (self.state, self.best) = (state, best);
        Ok(())
    }

    /// An optimizer of what learns in an epoch, and the network set to it.
    fn optimizer_at(&mut self, epoch: u64) -> Result<Optimizer<D, N>, TrainingError> {
        set_trainable(self.network, self.options, 1);
        let parameters = self.network.parameters();
        let mut optimizer = Optimizer::new(
            &self.options.optimizer,
            self.options.max_grad_norm,
            parameters,
            &self.device,
        )?;
        for entry in self.options.unfreezing().iter().filter(|entry| entry.epoch <= epoch) {
            set_trainable(self.network, self.options, entry.epoch);
            let steps = (entry.epoch - 1).saturating_mul(self.plan.steps);
            optimizer.follow(self.network.parameters(), steps, &self.device)?;
        }
        Ok(optimizer)
    }

    /// Between two steps: keeps a checkpoint where one is due, and stops where that was asked for.
    pub(super) fn pause(&mut self) -> Result<(), TrainingError> {
        let cancelled = self.session.cancel.is_cancelled();
        if let Some(checkpoints) = self.session.checkpoints
            && (cancelled || self.kept_at.elapsed() >= checkpoints.every)
        {
            let snapshot = Snapshot {
                state: self.state.clone(),
                current: self.changed(),
                best: self.best.clone(),
                moments: self.optimizer.save(self.network.parameters(), &self.device)?,
            };
            if let Err(error) = checkpoints.write(self.configuration, snapshot) {
                let text = format!("no checkpoint could be kept: {error}");
                self.session.events.warn(text);
            }
            self.kept_at = Instant::now();
        }
        if cancelled { Err(TrainingError::Cancelled) } else { Ok(()) }
    }

    /// The tensors that training changes.
    pub(super) fn changed(&self) -> Tensors<N> {
        self.network.save_named(|name| self.changing.contains(name)).tensors
    }
}

/// Puts some of a network's tensors in place of its own.
pub(super) fn take<D: Backend<N>, N: Number>(
    network: &mut Network<D, N>,
    tensors: &Tensors<N>,
) -> Result<(), TrainingError> {
    network.restore(&Weights { tensors: tensors.clone(), ..Weights::default() })?;
    Ok(())
}

/// Names of what training changes: trainable parameters, and running statistics.
pub(super) fn changing<D: Backend<N>, N: Number>(network: &Network<D, N>) -> BTreeSet<String> {
    let held: BTreeSet<&str> = network
        .parameters()
        .iter()
        .filter(|p| !p.trainable)
        .map(|p| p.info.name.as_str())
        .collect();
    network.names().into_iter().filter(|name| !held.contains(name.as_str())).collect()
}

/// What a checkpoint has to agree with beside the stage's key, which stands for all of it: a second lock on a door that
/// a changed key should have closed.
pub(super) fn configuration<D: Backend<N>, N: Number>(
    network: &Network<D, N>,
    cache: &TensorCache,
    options: &Options,
    seed: u64,
) -> Digest {
    let shapes: Vec<(&str, &[usize])> = network
        .parameters()
        .iter()
        .map(|p| (p.info.name.as_str(), p.info.shape.as_slice()))
        .collect();
    let words = serde_json::json!([options, seed, cache.samples().len(), cache.info(), shapes]);
    Digest::of(words.to_string().as_bytes())
}
