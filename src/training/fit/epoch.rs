//! One epoch: its steps, validation, its row of the history, and early stopping.

use super::Fit;
use crate::metrics::{EpochRow, MetricsError, Scorer, SplitMetrics};
use crate::nn::Number;
use crate::training::TrainingError;
use crate::training::batches::Batch;
use crate::training::checkpoint::State;
use crate::training::options::{Keep, Monitor};
use std::sync::Arc;
use std::time::Instant;

impl<N: Number> Fit<'_, N> {
    /// Runs the remaining steps of the current epoch and closes it.
    pub(super) fn train_epoch(&mut self) -> Result<(), TrainingError> {
        let task = self.session.events.task(
            format!("epoch {}/{}", self.state.epoch, self.options.epochs),
            Some(self.setup.images()),
            "images",
        );
        task.advance(self.state.images);
        let (started, resumed_at) = (Instant::now(), self.state.images);
        // From here on: a GPU has waited in the validation of the epoch before, too.
        self.network.waited()?;
        let mut batches = self.training_batches()?.peekable();
        loop {
            self.checkpoint_or_cancel()?;
            let mut step: Vec<Batch> = batches
                .by_ref()
                .take(self.setup.gradient_accumulation)
                .collect::<Result<_, _>>()?;
            if step.is_empty() {
                break;
            }
            let before = self.state.images;
            let next = batches.peek().and_then(|batch| batch.as_ref().ok());
            self.train_step(&mut step, next)?;
            task.advance(self.state.images - before);
        }
        drop(task);
        let trained = (self.state.images - resumed_at, started.elapsed().as_secs_f64());
        let waited = self.network.waited()?;
        let validation = self.validate()?;
        let epoch = self.state.epoch;
        self.close_epoch(validation)?;
        self.emit_speed(epoch, trained, started.elapsed().as_secs_f64());
        if let Some(waited) = waited {
            let share = waited.as_secs_f64() / trained.1.max(f64::MIN_POSITIVE);
            self.session.events.scalar("gpu_waiting", epoch, share);
        }
        Ok(())
    }

    /// The metrics of the validation split; none if it is empty.
    fn validate(&mut self) -> Result<Option<SplitMetrics>, TrainingError> {
        let cache = Arc::clone(self.cache);
        let classes = &cache.info().classes;
        let mut scorer = Scorer::new(classes);
        let batches = self.validation_batches()?;
        let images = self.setup.validation.len() as u64;
        let task = self.session.events.task("validation", Some(images), "images");
        for batch in batches {
            self.checkpoint_or_cancel()?;
            let batch = batch?;
            let probabilities = batch.probabilities(self.network)?;
            for (row, label) in probabilities.chunks_exact(classes.len()).zip(batch.classes()) {
                match scorer.push(label as u32, row) {
                    Ok(_) => (),
                    Err(MetricsError::NotAProbability { value, .. }) => {
                        return Err(self.diverged(
                            "the probability of a validation image",
                            value.into(),
                            self.last_multiplier(),
                        ));
                    }
                    Err(other) => return Err(other.into()),
                }
            }
            task.advance(batch.count() as u64);
        }
        Ok(scorer.finish())
    }

    /// Appends the epoch to the history, keeps its weights if it is the best, and applies early
    /// stopping.
    fn close_epoch(&mut self, validation: Option<SplitMetrics>) -> Result<(), TrainingError> {
        let images = self.state.images.max(1) as f64;
        let row = EpochRow {
            epoch: self.state.epoch,
            learning_rate: self.options.optimizer.learning_rate * self.mean_multiplier(),
            train_loss: self.state.loss / images,
            train_accuracy: self.state.hits as f64 / images,
            validation_loss: validation.as_ref().map(|metrics| metrics.loss),
            validation_accuracy: validation.as_ref().map(|metrics| metrics.accuracy),
        };
        self.emit_scalars(&row);
        let monitored = match self.options.early_stopping.monitor {
            Monitor::ValidationLoss => row.validation_loss,
            Monitor::ValidationAccuracy => row.validation_accuracy,
        };
        if let Some(value) = monitored {
            let options = &self.options.early_stopping;
            let verdict = self.state.early_stopping.update(options, row.epoch, value);
            if verdict.is_best && self.options.keep == Keep::Best {
                self.best = Some(self.current_tensors()?);
            }
            self.state.stopped = verdict.stop;
        }
        let State { early_stopping, stopped, mut history, .. } = std::mem::take(&mut self.state);
        history.push(row);
        let epoch = history.len() as u64 + 1;
        self.state = State { epoch, history, early_stopping, stopped, ..State::default() };
        Ok(())
    }

    fn emit_scalars(&self, row: &EpochRow) {
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

    /// Emits training images per second and the seconds of the epoch, of the part that ran in this
    /// process. They are part of the log only: nothing that is digested depends on time.
    fn emit_speed(&self, epoch: u64, (images, seconds): (u64, f64), total: f64) {
        if images > 0 && seconds > 0.0 {
            self.session.events.scalar("images_per_second", epoch, images as f64 / seconds);
        }
        self.session.events.scalar("seconds", epoch, total);
    }

    /// The mean learning-rate multiplier of the steps of the current epoch.
    fn mean_multiplier(&self) -> f64 {
        let first = (self.state.epoch - 1) * self.setup.steps;
        let steps = self.setup.steps.max(1);
        let sum: f64 =
            (first..first + steps).map(|step| self.setup.learning_rates.multiplier(step)).sum();
        sum / steps as f64
    }

    /// The learning-rate multiplier of the previous step.
    pub(super) fn last_multiplier(&self) -> f64 {
        let done = (self.state.epoch - 1) * self.setup.steps + self.state.step;
        self.setup.learning_rates.multiplier(done.saturating_sub(1))
    }
}
