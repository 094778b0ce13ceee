//! Which epoch is the best so far, and whether waiting for a better one is still worth while. Looks at the validation
//! split's numbers alone.

use super::options::{EarlyStopping, Monitor};
use serde::{Deserialize, Serialize};

/// What has been seen so far; part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// The best epoch, from 1, and its value.
    best: Option<(u64, f64)>,
    /// The value that the next improvement is measured against. Unlike the best it moves only by more than `min_delta`.
    reference: Option<f64>,
    /// Epochs since that moved.
    waited: u64,
}

/// What an epoch's value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It is the best so far: its weights are worth keeping.
    pub best: bool,
    /// Training should stop.
    pub stop: bool,
}

impl Monitor {
    /// Whether `value` is better than `than` by more than `margin`.
    pub fn is_better(self, value: f64, than: f64, margin: f64) -> bool {
        match self {
            Monitor::ValidationLoss => value < than - margin,
            Monitor::ValidationAccuracy => value > than + margin,
        }
    }

    /// Its name in sentences.
    pub fn words(self) -> &'static str {
        match self {
            Monitor::ValidationLoss => "validation loss",
            Monitor::ValidationAccuracy => "validation accuracy",
        }
    }
}

impl Watch {
    /// Looks at the value after `epoch`.
    pub fn look(&mut self, options: &EarlyStopping, epoch: u64, value: f64) -> Verdict {
        let better = |than: f64, margin: f64| options.monitor.is_better(value, than, margin);
        let best = self.best.is_none_or(|(_, than)| better(than, 0.0));
        if best {
            self.best = Some((epoch, value));
        }
        if self.reference.is_none_or(|than| better(than, options.min_delta)) {
            self.reference = Some(value);
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        Verdict { best, stop: options.patience.is_some_and(|patience| self.waited >= patience) }
    }

    /// The best epoch, where any was looked at.
    pub fn best_epoch(&self) -> Option<u64> {
        self.best.map(|(epoch, _)| epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(options: &EarlyStopping, values: &[f64]) -> (Option<u64>, Option<u64>) {
        let mut watch = Watch::default();
        let stopped =
            (1..).zip(values).find(|&(epoch, &value)| watch.look(options, epoch, value).stop);
        (watch.best_epoch(), stopped.map(|(epoch, _)| epoch))
    }

    fn options(monitor: Monitor, patience: Option<u64>, min_delta: f64) -> EarlyStopping {
        EarlyStopping { monitor, patience, min_delta }
    }

    #[test]
    fn a_loss_should_fall_and_an_accuracy_rise() {
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
    fn it_stops_after_patience_epochs_without_improvement() {
        let values = [0.5, 0.4, 0.41, 0.42, 0.1];
        assert_eq!(
            run(&options(Monitor::ValidationLoss, Some(2), 0.0), &values),
            (Some(2), Some(4))
        );
        assert_eq!(run(&options(Monitor::ValidationLoss, Some(3), 0.0), &values), (Some(5), None));
    }

    #[test]
    fn small_steps_count_together_but_not_alone() {
        let values = [0.50, 0.49, 0.48, 0.47, 0.46, 0.45];
        let watched = options(Monitor::ValidationLoss, Some(3), 0.025);
        // 0.47 is more than 0.025 below 0.50, so patience begins anew at epoch 4.
        assert_eq!(run(&watched, &values), (Some(6), None));
        assert_eq!(
            run(&options(Monitor::ValidationLoss, Some(2), 0.025), &values),
            (Some(3), Some(3))
        );
    }
}
