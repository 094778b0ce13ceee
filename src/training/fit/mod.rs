//! The training loop: epochs of steps, validation after each epoch, the decision which epoch to
//! keep and when to stop.

mod batches;
mod divergence;
mod epoch;
mod resuming;
mod setup;
mod step;

use crate::data::{Form, TensorCache};
use crate::events::{CancellationToken, EventSink};
use crate::metrics::EpochRow;
use crate::nn::cuda::{self, CudaNetwork, Gpu};
use crate::nn::{Learner, Network, Number, ParameterInfo, Products, Role, TrainingNeeds, Weights};
use crate::store::{Digest, Memo};
use crate::training::checkpoint::{Checkpoints, State, Tensors};
use crate::training::features::FeatureCache;
use crate::training::optimizer::Optimizer;
use crate::training::options::{BatchNormMode, OptimizerKind, Options, Precision};
use crate::training::{TrainingError, describe};
use batches::training_form;
use resuming::{configuration, load_tensors, updated_tensors};
use setup::Setup;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The environment of a training.
pub(crate) struct Session<'a> {
    pub seed: u64,
    /// Receives progress, scalars and messages.
    pub events: &'a EventSink,
    /// Checked between steps.
    pub cancel: &'a CancellationToken,
    /// Caches features. Entries may be missing or disappear at any time.
    pub memo: &'a Memo,
    /// A folder for temporary files, best on the memo's file system. Nothing is left there.
    pub scratch: &'a Path,
    /// The stage's cache key, under which the memo has which features were used.
    pub key: Digest,
    /// None to train without checkpoints.
    pub checkpoints: Option<&'a Checkpoints>,
}

/// The outcome of a training, beside the weights in the network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fitted {
    /// One row per epoch that ran.
    pub history: Vec<EpochRow>,
    /// The epoch whose weights are kept, from 1.
    pub epoch: u64,
    pub stopped_early: bool,
    /// Decisions made from options and data, one sentence each.
    pub decisions: Vec<String>,
}

/// A training in progress.
struct Fit<'a, N: Number> {
    network: &'a mut dyn Learner<N>,
    cache: &'a Arc<TensorCache>,
    options: &'a Options,
    session: &'a Session<'a>,
    setup: Setup,
    optimizer: Optimizer,
    configuration: Digest,
    /// Names of the tensors that training updates, in any epoch.
    updated: BTreeSet<String>,
    /// Cached features of the frozen backbone; created when they are first used.
    features: Option<FeatureCache>,
    state: State,
    /// The updated tensors after the best epoch.
    best: Option<Tensors<N>>,
    last_checkpoint: Instant,
}

/// Trains the network on the training split of `cache` and leaves it with the weights of the epoch
/// that `options.keep` selects. Sets which parameters are trainable. The resulting bytes depend
/// only on the network, the cache, the options and the seed, and on a GPU also on its kind and on
/// cuDNN's version.
///
/// # Errors
/// Before the first step if the options don't fit the data; later if training is cancelled (after
/// writing a checkpoint), if it diverges, or if samples can't be read.
pub(crate) fn fit(
    network: &mut Network,
    cache: &Arc<TensorCache>,
    options: &Options,
    session: &Session,
    gpu: Option<&Gpu>,
) -> Result<Fitted, TrainingError> {
    options.precision.check(gpu.is_some())?;
    if let Some(gpu) = gpu {
        return fit_on_gpu(network, cache, options, session, gpu);
    }
    match options.precision {
        Precision::F64 => {
            let mut wide = network.converted::<f64>()?;
            let fitted = run(&mut wide, cache, options, session)?;
            *network = wide.converted()?;
            Ok(fitted)
        }
        Precision::Auto | Precision::F32 => run(network, cache, options, session),
        Precision::Tf32 => unreachable!("checked above"),
        Precision::Bf16 => {
            network.set_products(Products::Bf16)?;
            run(network, cache, options, session)
        }
    }
}

fn fit_on_gpu(
    network: &mut Network,
    cache: &Arc<TensorCache>,
    options: &Options,
    session: &Session,
    gpu: &Gpu,
) -> Result<Fitted, TrainingError> {
    let precision = match options.precision {
        Precision::Auto | Precision::Tf32 => cuda::Precision::Tf32,
        Precision::F64 => unreachable!("checked before"),
        Precision::F32 => cuda::Precision::F32,
        Precision::Bf16 => cuda::Precision::Bf16,
    };
    let mut on_gpu = CudaNetwork::new(gpu, network, precision)?;
    session.events.info(format!("on the GPU: {}", gpu.describe(precision)));
    let fitted = run(&mut on_gpu, cache, options, session)?;
    let tensors = on_gpu.tensors(&|_| true)?;
    network.restore(&Weights { tensors, ..Weights::default() })?;
    Ok(fitted)
}

fn run<N: Number>(
    network: &mut dyn Learner<N>,
    cache: &Arc<TensorCache>,
    options: &Options,
    session: &Session,
) -> Result<Fitted, TrainingError> {
    let setup = Setup::new(cache, options, has_batch_statistics(network, options))?;
    let mut fit = Fit::new(network, cache, options, session, setup)?;
    fit.resume()?;
    while fit.state.epoch <= options.epochs && !fit.state.stopped {
        fit.unfreeze()?;
        fit.train_epoch()?;
    }
    fit.finish()
}

impl<'a, N: Number> Fit<'a, N> {
    fn new(
        network: &'a mut dyn Learner<N>,
        cache: &'a Arc<TensorCache>,
        options: &'a Options,
        session: &'a Session,
        mut setup: Setup,
    ) -> Result<Fit<'a, N>, TrainingError> {
        let last = last_unfreeze(options);
        set_trainable(network, options, last);
        let updated = updated_tensors(network);
        // The last epochs need the most memory.
        let memory = network.reserve(&needs(network, cache, options, &setup, last))?;
        set_trainable(network, options, 1);
        network.reserve(&needs(network, cache, options, &setup, 1))?;
        // An earlier training of the same network leaves its moments behind.
        network.restore_moments(BTreeMap::new())?;
        let optimizer = Optimizer::new(&options.optimizer, &network.parameters());
        let configuration = configuration(network, cache, options, session.seed);
        setup.decisions.insert(0, describe::trainable(network, options));
        setup.decisions.splice(1..1, describe::unfreezing(&options.unfreezing()));
        setup.decisions.extend(describe::frozen_backbone(options));
        // The memory is no decision: it depends on the GPU.
        for sentence in setup.decisions.iter().chain(&memory) {
            session.events.info(sentence.as_str());
        }
        Ok(Fit {
            network,
            cache,
            options,
            session,
            setup,
            optimizer,
            configuration,
            updated,
            features: None,
            state: State::default(),
            best: None,
            last_checkpoint: Instant::now(),
        })
    }

    /// Unfreezes the parameters that become trainable in this epoch.
    fn unfreeze(&mut self) -> Result<(), TrainingError> {
        let epoch = self.state.epoch;
        if !self.options.unfreezing().iter().any(|entry| entry.epoch == epoch) {
            return Ok(());
        }
        set_trainable(self.network, self.options, epoch);
        let steps = (epoch - 1) * self.setup.steps;
        self.optimizer.add_trainable(&self.network.parameters(), steps);
        self.report_features();
        self.features = None;
        let trainable = describe::trainable_part(&self.options.freeze_at(epoch));
        self.session.events.info(format!("epoch {epoch}: {trainable} now"));
        Ok(())
    }

    /// Says how many rows of features came from elsewhere.
    fn report_features(&self) {
        if let Some(features) = &self.features {
            features.report(self.session.events);
        }
    }

    /// Restores the weights of the epoch to keep.
    fn finish(self) -> Result<Fitted, TrainingError> {
        let last = self.state.history.len() as u64;
        let epoch = match &self.best {
            Some(_) => self.state.early_stopping.best_epoch().unwrap_or(last),
            None => last,
        };
        if epoch != last
            && let Some(best) = &self.best
        {
            load_tensors(self.network, best)?;
        }
        self.report_features();
        self.network.release();
        // Without a validation split nothing else notices that the last step overflowed.
        let tensors = self.current_tensors()?;
        let mut values = tensors.values().flat_map(|tensor| &tensor.data);
        if values.any(|&value| !(value.into() as f32).is_finite()) {
            return Err(self.diverged("a weight", f64::NAN, self.last_multiplier()));
        }
        let stopped_early = self.state.stopped && last < self.options.epochs;
        let mut decisions = self.setup.decisions;
        if stopped_early {
            let sentence = describe::early_stop(self.options, last);
            self.session.events.info(sentence.as_str());
            decisions.push(sentence);
        }
        Ok(Fitted { history: self.state.history, epoch, stopped_early, decisions })
    }
}

/// Whether any batch norm normalizes with the batch's statistics in some epoch: one in a trainable
/// part of the backbone, or in an auxiliary head.
fn has_batch_statistics<N: Number>(network: &dyn Learner<N>, options: &Options) -> bool {
    let groups = network.graph().layer_groups();
    let freeze = options.freeze_at(last_unfreeze(options));
    let has_statistics = |info: &ParameterInfo| {
        info.role == Role::NormWeight && !freeze.includes(&info.group, groups)
    };
    options.batch_norm == BatchNormMode::Train
        && network.parameters().iter().any(|(info, _)| has_statistics(info))
}

/// What the training does in an epoch.
fn needs<N: Number>(
    network: &dyn Learner<N>,
    cache: &TensorCache,
    options: &Options,
    setup: &Setup,
    epoch: u64,
) -> TrainingNeeds {
    let from_features = options.reads_features(epoch);
    let as_records = !from_features && training_form(network, options, epoch) == Form::Records;
    TrainingNeeds {
        batch: setup.batch_size,
        from_features,
        squares: as_records.then_some(cache.info().preprocessing.resize as usize),
        batch_norm: options.batch_norm.statistics(),
        accumulates: setup.gradient_accumulation > 1,
        has_second_moments: options.optimizer.kind == OptimizerKind::Adamw,
    }
}

/// The epoch from which on most is trainable.
fn last_unfreeze(options: &Options) -> u64 {
    options.unfreezing().last().map_or(1, |entry| entry.epoch)
}

fn set_trainable<N: Number>(network: &mut dyn Learner<N>, options: &Options, epoch: u64) {
    let groups = network.graph().layer_groups().to_vec();
    network.set_trainable(&|info| options.trains(epoch, &info.group, info.role, &groups));
}

#[cfg(test)]
mod tests;
