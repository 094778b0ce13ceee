//! How a training that was interrupted goes on: what is kept of it between two steps, and put back before the next. Knows
//! nothing of batches and losses.

use super::{Fit, set_trainable};
use crate::data::TensorCache;
use crate::nn::{Backend, Network, Number, Weights};
use crate::store::Digest;
use crate::training::LearnError;
use crate::training::checkpoint::{Snapshot, Tensors};
use crate::training::optimiser::Optimiser;
use crate::training::options::Options;
use std::collections::BTreeSet;
use std::time::Instant;

impl<D: Backend<N>, N: Number> Fit<'_, D, N> {
    /// Goes on from a checkpoint, where there is one that fits.
    pub(super) fn resume(&mut self) -> Result<(), LearnError> {
        let Some(checkpoints) = self.session.checkpoints else { return Ok(()) };
        let snapshot = match checkpoints.read(self.configuration) {
            Ok(None) => return Ok(()),
            Ok(Some(snapshot)) => snapshot,
            Err(sentence) => {
                self.session.teller.warn(sentence);
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
        let mut optimiser = self.optimiser_at(state.epoch)?;
        if !possible
            || !optimiser.restore(self.network.parameters(), moments, done, &self.device)?
        {
            self.session.teller.warn("the checkpoint doesn't fit this training and is ignored");
            self.optimiser = self.optimiser_at(1)?;
            return Ok(());
        }
        self.optimiser = optimiser;
        take(self.network, &current)?;
        self.session.teller.info(format!(
            "going on from a checkpoint: epoch {}, step {}",
            state.epoch,
            state.step + 1
        ));
        (self.state, self.best) = (state, best);
        Ok(())
    }

    /// An optimiser of what learns in an epoch, and the network set to it.
    fn optimiser_at(&mut self, epoch: u64) -> Result<Optimiser<D, N>, LearnError> {
        set_trainable(self.network, self.options, 1);
        let parameters = self.network.parameters();
        let mut optimiser = Optimiser::new(
            &self.options.optimizer,
            self.options.clip_norm,
            parameters,
            &self.device,
        )?;
        for entry in self.options.unfreeze.iter().filter(|entry| entry.epoch <= epoch) {
            set_trainable(self.network, self.options, entry.epoch);
            let steps = (entry.epoch - 1).saturating_mul(self.plan.steps);
            optimiser.follow(self.network.parameters(), steps, &self.device)?;
        }
        Ok(optimiser)
    }

    /// Between two steps: keeps a checkpoint where one is due, and stops where that was asked for.
    pub(super) fn pause(&mut self) -> Result<(), LearnError> {
        let cancelled = self.session.cancel.is_cancelled();
        if let Some(checkpoints) = self.session.checkpoints
            && (cancelled || self.kept_at.elapsed() >= checkpoints.every)
        {
            let snapshot = Snapshot {
                state: self.state.clone(),
                current: self.changed(),
                best: self.best.clone(),
                moments: self.optimiser.save(self.network.parameters(), &self.device)?,
            };
            if let Err(error) = checkpoints.write(self.configuration, snapshot) {
                let text = format!("no checkpoint could be kept: {error}");
                self.session.teller.warn(text);
            }
            self.kept_at = Instant::now();
        }
        if cancelled { Err(LearnError::Cancelled) } else { Ok(()) }
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
) -> Result<(), LearnError> {
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
