//! Early stopping: tracks the best epoch by the monitored validation metric, and counts epochs
//! without improvement.

use super::options::{EarlyStopping, Monitor};
use serde::{Deserialize, Serialize};

/// Part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EarlyStoppingState {
    /// The best epoch, from 1, and its metric.
    best: Option<(u64, f64)>,
    /// The value to improve on. Unlike `best` it changes only by more than `min_delta`.
    reference: Option<f64>,
    /// Epochs since `reference` changed.
    waited: u64,
}

/// The consequence of an epoch's metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The epoch is the best so far.
    pub is_best: bool,
    pub stop: bool,
}

impl Monitor {
    /// Whether `value` is better than `than` by more than `margin`.
    pub(crate) fn is_better(self, value: f64, than: f64, margin: f64) -> bool {
        match self {
            Monitor::ValidationLoss => value < than - margin,
            Monitor::ValidationAccuracy => value > than + margin,
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Monitor::ValidationLoss => "validation loss",
            Monitor::ValidationAccuracy => "validation accuracy",
        }
    }
}

impl EarlyStoppingState {
    /// Takes the metric after `epoch`.
    pub(crate) fn update(&mut self, options: &EarlyStopping, epoch: u64, value: f64) -> Verdict {
        let better = |than: f64, margin: f64| options.monitor.is_better(value, than, margin);
        let is_best = self.best.is_none_or(|(_, than)| better(than, 0.0));
        if is_best {
            self.best = Some((epoch, value));
        }
        if self.reference.is_none_or(|than| better(than, options.min_delta)) {
            self.reference = Some(value);
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        Verdict { is_best, stop: options.patience.is_some_and(|patience| self.waited >= patience) }
    }

    pub(crate) fn best_epoch(&self) -> Option<u64> {
        self.best.map(|(epoch, _)| epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(options: &EarlyStopping, values: &[f64]) -> (Option<u64>, Option<u64>) {
        let mut state = EarlyStoppingState::default();
        let stopped =
            (1..).zip(values).find(|&(epoch, &value)| state.update(options, epoch, value).stop);
        (state.best_epoch(), stopped.map(|(epoch, _)| epoch))
    }

    fn options(monitor: Monitor, patience: Option<u64>, min_delta: f64) -> EarlyStopping {
        EarlyStopping { monitor, patience, min_delta }
    }

    #[test]
    fn a_lower_loss_and_a_higher_accuracy_are_better() {
        let values = [0.5, 0.4, 0.6, 0.45];
        assert_eq!(run(&options(Monitor::ValidationLoss, None, 0.0), &values), (Some(2), None));
        assert_eq!(run(&options(Monitor::ValidationAccuracy, None, 0.0), &values), (Some(3), None));
    }

    #[test]
    fn the_first_of_equals_is_the_best() {
        assert_eq!(
            run(&options(Monitor::ValidationAccuracy, None, 0.0), &[0.5, 0.9, 0.9]),
            (Some(2), None)
        );
    }

    #[test]
    fn training_stops_after_patience_epochs_without_improvement() {
        let values = [0.5, 0.4, 0.41, 0.42, 0.1];
        assert_eq!(
            run(&options(Monitor::ValidationLoss, Some(2), 0.0), &values),
            (Some(2), Some(4))
        );
        assert_eq!(run(&options(Monitor::ValidationLoss, Some(3), 0.0), &values), (Some(5), None));
    }

    #[test]
    fn improvements_below_min_delta_add_up() {
        let values = [0.50, 0.49, 0.48, 0.47, 0.46, 0.45];
        let three = options(Monitor::ValidationLoss, Some(3), 0.025);
        // 0.47 is more than 0.025 below 0.50, so patience starts over at epoch 4.
        assert_eq!(run(&three, &values), (Some(6), None));
        assert_eq!(
            run(&options(Monitor::ValidationLoss, Some(2), 0.025), &values),
            (Some(3), Some(3))
        );
    }
}
