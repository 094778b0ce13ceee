//! The loop: epochs, steps, validation after each epoch, and what is told, kept and decided along the way.

mod batches;
mod plan;
mod resuming;

use crate::data::TensorCache;
use crate::events::{CancellationToken, EventSink};
use crate::metrics::{EpochRow, MetricsError, Scorer, SplitMetrics, argmax, softmax};
use crate::nn::{
    Backend, BatchNorm, Network, Number, ParameterInfo, Role, Step, StepOptions, soft_targets,
};
use crate::store::{Digest, Memo};
use crate::training::checkpoint::{Checkpoints, State, Tensors};
use crate::training::features::Features;
use crate::training::optimizer::Optimizer;
use crate::training::options::{BatchNormMode, Keep, Monitor, Options, Precision};
use crate::training::{TrainingError, balance, buffers, describe};
use batches::Ready;
use plan::Plan;
use resuming::{changing, configuration, take};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What surrounds a training.
pub struct Session<'a> {
    /// The root of random numbers.
    pub seed: u64,
    /// Takes progress, scalars and sentences.
    pub events: &'a EventSink,
    /// Looked at between steps.
    pub cancel: &'a CancellationToken,
    /// Where features are kept. It may be empty, or lose anything at any time.
    pub memo: &'a Memo,
    /// A folder for files in the making, best on the memo's disk; nothing is left there.
    pub scratch: &'a Path,
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
struct Fit<'a, D: Backend<N>, N: Number> {
    network: &'a mut Network<D, N>,
    device: D,
    cache: &'a Arc<TensorCache>,
    options: &'a Options,
    session: &'a Session<'a>,
    plan: Plan,
    optimizer: Optimizer<D, N>,
    configuration: Digest,
    /// Names of the tensors that training changes, sooner or later.
    changing: BTreeSet<String>,
    /// What the frozen backbone made of images, where that is worth keeping.
    features: Option<Features>,
    state: State,
    best: Option<Tensors<N>>,
    kept_at: Instant,
}

/// Trains the network on the train split of `cache`, and leaves it with the weights of the epoch that `options` asks for.
/// What is trainable is chosen here. The bytes that come out depend on the network, the cache, the options and the
/// seed alone.
///
/// # Errors
/// Before the first step where options and samples don't fit together; later when it is cancelled (a checkpoint is kept),
/// when the loss stops being a number, or when samples can't be read.
pub fn fit<D: Backend + Backend<f64>>(
    network: &mut Network<D>,
    cache: &Arc<TensorCache>,
    options: &Options,
    session: &Session,
) -> Result<Fitted, TrainingError> {
    match options.precision {
        Precision::F64 => {
            let mut wide = network.converted::<f64>()?;
            let fitted = run(&mut wide, cache, options, session)?;
            *network = wide.converted()?;
            Ok(fitted)
        }
        Precision::F32 => run(network, cache, options, session),
    }
}

/// Trains a network in its own precision.
fn run<D: Backend<N>, N: Number>(
    network: &mut Network<D, N>,
    cache: &Arc<TensorCache>,
    options: &Options,
    session: &Session,
) -> Result<Fitted, TrainingError> {
    let plan = Plan::new(cache, options, normalizes(network, options))?;
    let mut fit = Fit::new(network, cache, options, session, plan)?;
    fit.resume()?;
    while fit.state.epoch <= options.epochs && !fit.state.stopped {
        fit.thaw()?;
        fit.epoch()?;
    }
    fit.finish()
}

impl<'a, D: Backend<N>, N: Number> Fit<'a, D, N> {
    fn new(
        network: &'a mut Network<D, N>,
        cache: &'a Arc<TensorCache>,
        options: &'a Options,
        session: &'a Session,
        plan: Plan,
    ) -> Result<Fit<'a, D, N>, TrainingError> {
        let device = network.device().clone();
        let last = options.unfreezing().last().map_or(1, |entry| entry.epoch);
        set_trainable(network, options, last);
        let changing = changing(network);
        set_trainable(network, options, 1);
        let optimizer = Optimizer::new(
            &options.optimizer,
            options.max_grad_norm,
            network.parameters(),
            &device,
        )?;
        let configuration = configuration(network, cache, options, session.seed);
        let mut plan = plan;
        plan.decisions.insert(0, describe::trainable(network, options));
        plan.decisions.splice(1..1, describe::thawing(&options.unfreezing()));
        plan.decisions.extend(describe::backbone(options));
        for decision in &plan.decisions {
            session.events.info(decision.as_str());
        }
        Ok(Fit {
            network,
            device,
            cache,
            options,
            session,
            plan,
            optimizer,
            configuration,
            changing,
            features: None,
            state: State::default(),
            best: None,
            kept_at: Instant::now(),
        })
    }

    /// Lets learn what does from this epoch on.
    fn thaw(&mut self) -> Result<(), TrainingError> {
        let epoch = self.state.epoch;
        if !self.options.unfreezing().iter().any(|entry| entry.epoch == epoch) {
            return Ok(());
        }
        set_trainable(self.network, self.options, epoch);
        self.optimizer.follow(
            self.network.parameters(),
            (epoch - 1) * self.plan.steps,
            &self.device,
        )?;
        self.features = None;
        self.session
            .events
            .info(format!("epoch {epoch}: {}", describe::learning(self.options, epoch)));
        Ok(())
    }

    /// What is left of the epoch under way, and what comes after it.
    fn epoch(&mut self) -> Result<(), TrainingError> {
        let task = self.session.events.task(
            format!("epoch {}/{}", self.state.epoch, self.options.epochs),
            Some(self.plan.steps),
            "steps",
        );
        task.advance(self.state.step);
        let mut batches = self.batches()?;
        loop {
            self.pause()?;
            let step: Vec<Ready> =
                batches.by_ref().take(self.plan.gradient_accumulation).collect::<Result<_, _>>()?;
            if step.is_empty() {
                break;
            }
            self.learn(&step)?;
            task.advance(1);
        }
        drop(task);
        let validation = self.validate()?;
        self.close_epoch(validation);
        Ok(())
    }

    /// One step, over one batch or the gradients of several.
    fn learn(&mut self, batches: &[Ready]) -> Result<(), TrainingError> {
        let weights = self.plan.class_weights.as_deref();
        let total =
            balance::total(weights, batches.iter().flat_map(|batch| batch.labels.iter().copied()));
        let step = (self.state.epoch - 1) * self.plan.steps + self.state.step;
        let factor = self.plan.rates.factor(step);
        let (mut sum, mut loss) = (None::<Step<D, N>>, 0.0);
        for (index, batch) in batches.iter().enumerate() {
            let made = self.gradients(
                batch,
                total,
                step * self.plan.gradient_accumulation as u64 + index as u64,
            )?;
            loss += made.loss;
            if !made.loss.is_finite() {
                return Err(self.diverged("the loss", made.loss, factor));
            }
            sum = Some(match sum {
                None => made,
                Some(sum) => self.added(sum, made)?,
            });
        }
        let Some(made) = sum else { return Ok(()) };
        let norm = self.optimizer.step(
            self.network.parameters_mut(),
            made.gradients,
            factor,
            &self.device,
        )?;
        if let Some(norm) = norm.filter(|norm| !norm.is_finite()) {
            return Err(self.diverged("the gradient's norm", norm, factor));
        }
        let count: usize = batches.iter().map(Ready::count).sum();
        self.state.loss += loss * count as f64;
        self.state.images += count as u64;
        self.state.step += 1;
        Ok(())
    }

    /// The gradients of one batch, whose share in the step is that of its images' weights in `total`. `position` is the
    /// batch's number since the start of training.
    fn gradients(
        &mut self,
        batch: &Ready,
        total: f64,
        position: u64,
    ) -> Result<Step<D, N>, TrainingError> {
        let classes = self.cache.info().classes.len();
        let mut targets = soft_targets(&batch.labels, classes, self.options.label_smoothing as f32);
        let factors =
            balance::row_factors(self.plan.class_weights.as_deref(), &batch.labels, total);
        for (row, factor) in targets.chunks_exact_mut(classes).zip(factors) {
            row.iter_mut().for_each(|target| *target *= factor);
        }
        let batch_norm = match self.options.batch_norm {
            BatchNormMode::Train => BatchNorm::Batch,
            BatchNormMode::Affine | BatchNormMode::Frozen => BatchNorm::Running,
        };
        let options = StepOptions { seed: self.session.seed, step: position, batch_norm };
        let made = batch.step(self.network, &targets, &options)?;
        let rows = made.logits.chunks_exact(classes);
        self.state.hits +=
            rows.zip(&batch.labels).filter(|&(row, &label)| argmax(row) == label).count() as u64;
        Ok(made)
    }

    /// The sum of two batches' gradients.
    fn added(
        &self,
        mut sum: Step<D, N>,
        mut made: Step<D, N>,
    ) -> Result<Step<D, N>, TrainingError> {
        for parameter in self.network.parameters().iter().filter(|parameter| parameter.trainable) {
            let more = made.gradient(parameter)?;
            buffers::add::<D, N>(&self.device, sum.gradient(parameter)?, more)?;
        }
        Ok(sum)
    }

    /// The validation split's metrics; none where it is empty.
    fn validate(&mut self) -> Result<Option<SplitMetrics>, TrainingError> {
        let cache = Arc::clone(self.cache);
        let classes = &cache.info().classes;
        let mut scorer = Scorer::new(classes);
        let steps = self.plan.validation.len().div_ceil(self.plan.batch_size) as u64;
        let batches = self.validation_batches()?;
        let task = self.session.events.task("validation", Some(steps), "steps");
        for batch in batches {
            self.pause()?;
            let batch = batch?;
            let logits = batch.logits(self.network)?;
            for (row, &label) in logits.chunks_exact(classes.len()).zip(&batch.labels) {
                match scorer.push(label as u32, &softmax(row)) {
                    Ok(_) => (),
                    Err(MetricsError::NotAProbability { value, .. }) => {
                        return Err(self.diverged(
                            "a validation image's probability",
                            value.into(),
                            self.last_factor(),
                        ));
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
        let images = self.state.images.max(1) as f64;
        let row = EpochRow {
            epoch: self.state.epoch,
            learning_rate: self.options.optimizer.learning_rate * self.last_factor(),
            train_loss: self.state.loss / images,
            train_accuracy: self.state.hits as f64 / images,
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
        self.state =
            State { epoch: history.len() as u64 + 1, history, watch, stopped, ..State::default() };
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
                self.session.events.scalar(name, row.epoch, value);
            }
        }
    }

    fn finish(self) -> Result<Fitted, TrainingError> {
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
        self.network.release();
        let changed = self.changed();
        if changed
            .values()
            .flat_map(|tensor| &tensor.data)
            .any(|&value| !(value.into() as f32).is_finite())
        {
            return Err(self.diverged("a weight", f64::NAN, self.last_factor()));
        }
        let stopped_early = self.state.stopped && last < self.options.epochs;
        let mut decisions = self.plan.decisions;
        if stopped_early {
            let waited = self.options.early_stopping.patience.unwrap_or_default();
            let watched = self.options.early_stopping.monitor.words();
            let epochs =
                if waited == 1 { "an epoch".to_owned() } else { format!("{waited} epochs") };
            decisions.push(format!(
                "stopped after epoch {last} of {}: no better {watched} for {epochs}",
                self.options.epochs
            ));
            self.session.events.info(decisions.last().map_or("", String::as_str));
        }
        Ok(Fitted { history: self.state.history, epoch, stopped_early, decisions })
    }

    /// The share of the highest learning rate that the step before took.
    fn last_factor(&self) -> f64 {
        let done = (self.state.epoch - 1) * self.plan.steps + self.state.step;
        self.plan.rates.factor(done.saturating_sub(1))
    }

    fn diverged(&self, what: &str, value: f64, factor: f64) -> TrainingError {
        let (rate, highest) =
            (self.options.optimizer.learning_rate * factor, self.options.optimizer.learning_rate);
        let (epoch, step) = (self.state.epoch, self.state.step + 1);
        let mut tries = vec![format!(
            "a smaller `optimizer.learning_rate` (such as {})",
            short(highest / 10.0)
        )];
        if self.options.max_grad_norm.is_none() {
            tries.push("`clip_norm = 1.0`".to_owned());
        }
        if self.options.schedule.warmup_epochs < 1.0 {
            tries.push("a warm-up (`schedule.warmup_epochs = 1`)".to_owned());
        }
        TrainingError::Diverged {
            message: format!(
                "{what} became {value} in epoch {epoch}, step {step}, at learning rate {}: training diverged",
                short(rate)
            ),
            help: format!("try {}", tries.join(", or ")),
        }
    }
}

/// Whether a batch's statistics are ever taken: by a norm of the backbone that learns at the end, or by an auxiliary head's.
fn normalizes<D: Backend<N>, N: Number>(network: &Network<D, N>, options: &Options) -> bool {
    let stages = network.graph().layer_groups();
    let last = options.unfreezing().last().map_or(1, |entry| entry.epoch);
    let takes = |info: &ParameterInfo| {
        info.role == Role::NormWeight && !options.freeze_at(last).includes(&info.group, stages)
    };
    options.batch_norm == BatchNormMode::Train
        && network.parameters().iter().any(|parameter| takes(&parameter.info))
}

/// A number with two digits: `1.5e-3`.
fn short(number: f64) -> String {
    format!("{number:.1e}").replace(".0e", "e")
}

/// Sets what learns in an epoch.
fn set_trainable<D: Backend<N>, N: Number>(
    network: &mut Network<D, N>,
    options: &Options,
    epoch: u64,
) {
    let stages = network.graph().layer_groups().to_vec();
    network.set_trainable(|info| options.trains(epoch, &info.group, info.role, &stages));
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_tuning;
