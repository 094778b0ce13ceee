//! The loop: epochs, steps, validation after each epoch, and what is told, kept and decided along the way.

use crate::data::{Batch, Loader, LoaderOptions, Split, TensorCache};
use crate::events::{Cancel, Teller};
use crate::learn::checkpoint::{Checkpoints, Snapshot, State, Tensors};
use crate::learn::optimiser::Optimiser;
use crate::learn::options::{BatchNormMode, Freeze, Keep, Monitor, Options};
use crate::learn::schedule::Rates;
use crate::learn::{LearnError, describe};
use crate::metrics::{EpochRow, MetricsError, Scorer, SplitMetrics, argmax, softmax};
use crate::nn::{Backend, BatchNorm, Network, StepOptions, soft_targets};
use crate::store::Digest;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// Batches prepared ahead of the optimiser.
const AHEAD: usize = 4;

/// What surrounds a training.
pub struct Session<'a> {
    /// The root of random numbers.
    pub seed: u64,
    /// Takes progress, scalars and sentences.
    pub teller: &'a Teller,
    /// Looked at between steps.
    pub cancel: &'a Cancel,
    /// Where checkpoints are kept, if they are.
    pub checkpoints: Option<&'a Checkpoints>,
}

/// What came of a training; the network holds the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// A row for each epoch that ran.
    pub history: Vec<EpochRow>,
    /// The epoch whose weights the network holds, from 1.
    pub epoch: u64,
    /// Whether it stopped before its last epoch, since nothing got better.
    pub stopped_early: bool,
    /// What was decided on the way, in sentences.
    pub decisions: Vec<String>,
}

/// A training under way.
struct Fit<'a, D: Backend> {
    network: &'a mut Network<D>,
    device: D,
    cache: &'a Arc<TensorCache>,
    options: &'a Options,
    session: &'a Session<'a>,
    plan: Plan,
    optimiser: Optimiser<D>,
    configuration: Digest,
    /// Names of the tensors that training changes.
    changing: BTreeSet<String>,
    state: State,
    best: Option<Tensors>,
    kept_at: Instant,
}

/// What follows from options and samples before the first step.
struct Plan {
    train: Vec<usize>,
    validation: Vec<usize>,
    batch_size: usize,
    drop_last: bool,
    /// Steps an epoch.
    steps: u64,
    rates: Rates,
    decisions: Vec<String>,
}

/// Trains the network on the train split of `cache`, and leaves it with the weights of the epoch that `options` asks for.
/// What is trainable is chosen here. The bytes that come out depend on the network, the cache, the options and the
/// seed alone.
///
/// # Errors
/// Before the first step where options and samples don't fit together; later when it is cancelled (a checkpoint is kept),
/// when the loss stops being a number, or when samples can't be read.
pub fn fit<D: Backend>(
    network: &mut Network<D>,
    cache: &Arc<TensorCache>,
    options: &Options,
    session: &Session,
) -> Result<Fitted, LearnError> {
    let plan = Plan::new(cache, options)?;
    let mut fit = Fit::new(network, cache, options, session, plan)?;
    fit.resume()?;
    while fit.state.epoch <= options.epochs && !fit.state.stopped {
        fit.epoch()?;
    }
    fit.finish()
}

impl Plan {
    fn new(cache: &TensorCache, options: &Options) -> Result<Plan, LearnError> {
        let (train, validation) = (cache.of_split(Split::Train), cache.of_split(Split::Validation));
        check_samples(cache, &train)?;
        if validation.is_empty() && options.early_stopping.patience.is_some() {
            return Err(LearnError::Unfit {
                message: "early stopping looks at the validation split, and there is none".to_owned(),
                help: "set `dataset.split.validation` above 0, or leave `early_stopping.patience` out".to_owned(),
            });
        }
        let mut decisions = vec![describe::augmentation(options.augment.as_ref())];
        decisions.extend(unseen(cache, &train));
        let batch_size = options.batch_size.clamp(1, train.len());
        if batch_size < options.batch_size {
            decisions.push(format!(
                "batch_size is {}, but there are {batch_size} training pictures: each step takes all of them",
                options.batch_size
            ));
        }
        let rest = train.len() % batch_size;
        let drop_last = options.batch_norm == BatchNormMode::Train
            && options.freeze != Freeze::All
            && rest * 2 < batch_size
            && rest > 0;
        if drop_last {
            decisions.push(format!(
                "each epoch leaves out {rest} other pictures: the statistics of so small a last batch would mislead batch norm"
            ));
        }
        if validation.is_empty() {
            decisions.push("there is no validation split: the last epoch's weights are kept".to_owned());
        }
        let steps = (if drop_last { train.len() / batch_size } else { train.len().div_ceil(batch_size) }) as u64;
        let rates = Rates::new(&options.schedule, options.epochs, steps);
        Ok(Plan { train, validation, batch_size, drop_last, steps, rates, decisions })
    }
}

/// Whether there is something to be learned.
fn check_samples(cache: &TensorCache, train: &[usize]) -> Result<(), LearnError> {
    let classes: BTreeSet<u32> = train.iter().filter_map(|&index| cache.samples().get(index)?.class).collect();
    let names = &cache.info().classes;
    let unfit = |message: String, help: &str| Err(LearnError::Unfit { message, help: help.to_owned() });
    match classes.iter().next() {
        None => {
            unfit("the train split is empty".to_owned(), "set `dataset.split.train` above 0, or add labelled pictures")
        }
        Some(&only) if classes.len() == 1 => {
            let name = names.get(only as usize).map_or("?", String::as_str);
            unfit(
                format!(
                    "all {} training pictures are of one class, `{name}`: there is nothing to tell apart",
                    train.len()
                ),
                "add pictures of other classes, or look at `dataset.labels`",
            )
        }
        Some(_) => Ok(()),
    }
}

/// Which classes can't be learned, if any.
fn unseen(cache: &TensorCache, train: &[usize]) -> Option<String> {
    let seen: BTreeSet<u32> = train.iter().filter_map(|&index| cache.samples().get(index)?.class).collect();
    let names: Vec<&str> = (0..)
        .zip(&cache.info().classes)
        .filter(|(class, _)| !seen.contains(class))
        .map(|(_, name)| name.as_str())
        .collect();
    (!names.is_empty()).then(|| format!("no training pictures of {}: that can't be learned", names.join(", ")))
}

impl<'a, D: Backend> Fit<'a, D> {
    fn new(
        network: &'a mut Network<D>,
        cache: &'a Arc<TensorCache>,
        options: &'a Options,
        session: &'a Session,
        plan: Plan,
    ) -> Result<Fit<'a, D>, LearnError> {
        let stages = network.graph().stages().to_vec();
        network.set_trainable(|info| options.trains(&info.stage, info.role, &stages));
        let device = network.device().clone();
        let optimiser = Optimiser::new(&options.optimizer, options.clip_norm, network.parameters(), &device)?;
        let changing = changing(network);
        let configuration = configuration(network, cache, options, session.seed);
        let mut plan = plan;
        plan.decisions.insert(0, describe::trainable(network, options));
        for decision in &plan.decisions {
            session.teller.info(decision.as_str());
        }
        Ok(Fit {
            network,
            device,
            cache,
            options,
            session,
            plan,
            optimiser,
            configuration,
            changing,
            state: State::default(),
            best: None,
            kept_at: Instant::now(),
        })
    }

    /// Goes on from a checkpoint, where there is one that fits.
    fn resume(&mut self) -> Result<(), LearnError> {
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
        let possible = (1..=self.options.epochs + 1).contains(&state.epoch) && state.step <= self.plan.steps;
        let done = state.epoch.saturating_sub(1).saturating_mul(self.plan.steps).saturating_add(state.step);
        if !possible || !self.optimiser.restore(self.network.parameters(), moments, done, &self.device)? {
            self.session.teller.warn("the checkpoint doesn't fit this training and is ignored");
            return Ok(());
        }
        take(self.network, &current)?;
        self.session.teller.info(format!("going on from a checkpoint: epoch {}, step {}", state.epoch, state.step + 1));
        (self.state, self.best) = (state, best);
        Ok(())
    }

    /// What is left of the epoch under way, and what comes after it.
    fn epoch(&mut self) -> Result<(), LearnError> {
        let task = self.session.teller.task(
            format!("epoch {}/{}", self.state.epoch, self.options.epochs),
            Some(self.plan.steps),
            "steps",
        );
        task.advance(self.state.step);
        for batch in self.batches() {
            self.pause()?;
            self.learn(&batch?)?;
            task.advance(1);
        }
        drop(task);
        let validation = self.validate()?;
        self.close_epoch(validation);
        Ok(())
    }

    /// The epoch's batches that are left.
    fn batches(&self) -> Loader {
        let options = LoaderOptions {
            batch_size: self.plan.batch_size,
            shuffle: Some((self.session.seed, self.state.epoch)),
            augment: self.options.augment.clone(),
            drop_last: self.plan.drop_last,
            first_step: self.state.step as usize,
            ahead: AHEAD,
        };
        Loader::new(Arc::clone(self.cache), self.plan.train.clone(), options)
    }

    /// One step.
    fn learn(&mut self, batch: &Batch) -> Result<(), LearnError> {
        let (count, classes) = (batch.samples.len(), self.cache.info().classes.len());
        let labels: Vec<usize> = batch.labels.iter().flatten().map(|&label| label as usize).collect();
        let targets = soft_targets(&labels, classes, self.options.label_smoothing as f32);
        let step = (self.state.epoch - 1) * self.plan.steps + self.state.step;
        let batch_norm = match self.options.batch_norm {
            BatchNormMode::Train => BatchNorm::Batch,
            BatchNormMode::Affine | BatchNormMode::Frozen => BatchNorm::Running,
        };
        let options = StepOptions { seed: self.session.seed, step, batch_norm };
        let made = self.network.step(&batch.pictures, count, &targets, &options)?;
        let factor = self.plan.rates.factor(step);
        if !made.loss.is_finite() {
            return Err(self.diverged("the loss", made.loss, factor));
        }
        let norm = self.optimiser.step(self.network.parameters_mut(), made.gradients, factor, &self.device)?;
        if let Some(norm) = norm.filter(|norm| !norm.is_finite()) {
            return Err(self.diverged("the gradient's norm", norm as f32, factor));
        }
        let rows = made.logits.chunks_exact(classes);
        self.state.hits += rows.zip(&labels).filter(|&(row, &label)| argmax(row) == label).count() as u64;
        self.state.loss += f64::from(made.loss) * count as f64;
        self.state.pictures += count as u64;
        self.state.step += 1;
        Ok(())
    }

    /// The validation split's metrics; none where it is empty.
    fn validate(&mut self) -> Result<Option<SplitMetrics>, LearnError> {
        let classes = &self.cache.info().classes;
        let mut scorer = Scorer::new(classes);
        let options = LoaderOptions { batch_size: self.plan.batch_size, ahead: AHEAD, ..LoaderOptions::default() };
        let loader = Loader::new(Arc::clone(self.cache), self.plan.validation.clone(), options);
        let task = self.session.teller.task("validation", Some(loader.steps() as u64), "steps");
        for batch in loader {
            self.pause()?;
            let batch = batch?;
            let logits = self.network.logits(&batch.pictures, batch.samples.len())?;
            for (row, label) in logits.chunks_exact(classes.len()).zip(&batch.labels) {
                let Some(label) = *label else { continue };
                match scorer.push(label, &softmax(row)) {
                    Ok(_) => (),
                    Err(MetricsError::NotAProbability { value, .. }) => {
                        return Err(self.diverged("a validation picture's probability", value, self.last_factor()));
                    }
                    Err(other) => return Err(other.into()),
                }
            }
            task.advance(1);
        }
        Ok(scorer.finish())
    }

    /// Writes the epoch's row, tells it, and looks whether it is the best one so far and whether it is time to stop.
    fn close_epoch(&mut self, validation: Option<SplitMetrics>) {
        let pictures = self.state.pictures.max(1) as f64;
        let row = EpochRow {
            epoch: self.state.epoch,
            learning_rate: self.options.optimizer.learning_rate * self.last_factor(),
            train_loss: self.state.loss / pictures,
            train_accuracy: self.state.hits as f64 / pictures,
            validation_loss: validation.as_ref().map(|metrics| metrics.loss),
            validation_accuracy: validation.as_ref().map(|metrics| metrics.accuracy),
        };
        self.tell(&row);
        let watched = match self.options.early_stopping.monitor {
            Monitor::ValidationLoss => row.validation_loss,
            Monitor::ValidationAccuracy => row.validation_accuracy,
        };
        if let Some(value) = watched {
            let verdict = self.state.watch.look(&self.options.early_stopping, row.epoch, value);
            if verdict.best && self.options.keep == Keep::Best {
                self.best = Some(self.changed());
            }
            self.state.stopped = verdict.stop;
        }
        let State { watch, stopped, mut history, .. } = std::mem::take(&mut self.state);
        history.push(row);
        self.state = State { epoch: history.len() as u64 + 1, history, watch, stopped, ..State::default() };
    }

    fn tell(&self, row: &EpochRow) {
        let scalars = [
            ("learning_rate", Some(row.learning_rate)),
            ("train/loss", Some(row.train_loss)),
            ("train/accuracy", Some(row.train_accuracy)),
            ("validation/loss", row.validation_loss),
            ("validation/accuracy", row.validation_accuracy),
        ];
        for (name, value) in scalars {
            if let Some(value) = value {
                self.session.teller.scalar(name, row.epoch, value);
            }
        }
    }

    fn finish(self) -> Result<Fitted, LearnError> {
        let last = self.state.history.len() as u64;
        let epoch = match &self.best {
            Some(_) => self.state.watch.best_epoch().unwrap_or(last),
            None => last,
        };
        if epoch != last
            && let Some(best) = &self.best
        {
            take(self.network, best)?;
        }
        let weights = self.network.save();
        if weights.tensors.values().flat_map(|tensor| &tensor.data).any(|value| !value.is_finite()) {
            return Err(self.diverged("a weight", f32::NAN, self.last_factor()));
        }
        let stopped_early = self.state.stopped && last < self.options.epochs;
        let mut decisions = self.plan.decisions;
        if stopped_early {
            let waited = self.options.early_stopping.patience.unwrap_or_default();
            let watched = self.options.early_stopping.monitor.words();
            decisions.push(format!("stopped after epoch {last}: no better {watched} for {waited} epochs"));
        }
        Ok(Fitted { history: self.state.history, epoch, stopped_early, decisions })
    }

    /// Between two steps: keeps a checkpoint where one is due, and stops where that was asked for.
    fn pause(&mut self) -> Result<(), LearnError> {
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

    /// The share of the highest learning rate that the step before took.
    fn last_factor(&self) -> f64 {
        let done = (self.state.epoch - 1) * self.plan.steps + self.state.step;
        self.plan.rates.factor(done.saturating_sub(1))
    }

    fn diverged(&self, what: &str, value: f32, factor: f64) -> LearnError {
        let (rate, highest) = (self.options.optimizer.learning_rate * factor, self.options.optimizer.learning_rate);
        let (epoch, step) = (self.state.epoch, self.state.step + 1);
        let mut tries = vec![format!("a smaller `optimizer.learning_rate` (such as {})", short(highest / 10.0))];
        if self.options.clip_norm.is_none() {
            tries.push("`clip_norm = 1.0`".to_owned());
        }
        if self.options.schedule.warm_up < 1.0 {
            tries.push("a warm-up (`schedule.warm_up = 1`)".to_owned());
        }
        LearnError::Diverged {
            message: format!(
                "{what} became {value} in epoch {epoch}, step {step}, at learning rate {}: training diverged",
                short(rate)
            ),
            help: format!("try {}", tries.join(", or ")),
        }
    }

    fn changed(&self) -> Tensors {
        let mut tensors = self.network.save().tensors;
        tensors.retain(|name, _| self.changing.contains(name));
        tensors
    }
}

/// A number with two digits: `1.5e-3`.
fn short(number: f64) -> String {
    format!("{number:.1e}").replace(".0e", "e")
}

/// Puts some of a network's tensors in place of its own.
fn take<D: Backend>(network: &mut Network<D>, tensors: &Tensors) -> Result<(), LearnError> {
    let mut weights = network.save();
    weights.tensors.extend(tensors.clone());
    network.load(&weights)?;
    Ok(())
}

/// Names of what training changes: trainable parameters, and running statistics.
fn changing<D: Backend>(network: &Network<D>) -> BTreeSet<String> {
    let held: BTreeSet<&str> =
        network.parameters().iter().filter(|p| !p.trainable).map(|p| p.info.name.as_str()).collect();
    network.save().tensors.into_keys().filter(|name| !held.contains(name.as_str())).collect()
}

/// What a checkpoint has to agree with beside the stage's key, which stands for all of it: a second lock on a door that
/// a changed key should have closed.
fn configuration<D: Backend>(network: &Network<D>, cache: &TensorCache, options: &Options, seed: u64) -> Digest {
    let shapes: Vec<(&str, &[usize])> =
        network.parameters().iter().map(|p| (p.info.name.as_str(), p.info.shape.as_slice())).collect();
    let words = serde_json::json!([options, seed, cache.samples().len(), cache.info(), shapes]);
    Digest::of(words.to_string().as_bytes())
}

#[cfg(test)]
mod tests;
