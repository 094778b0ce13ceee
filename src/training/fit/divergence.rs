//! The error of a training that diverged: where it happened, and which keys may help.

use super::Fit;
use crate::common::words::join;
use crate::nn::Number;
use crate::training::TrainingError;

impl<N: Number> Fit<'_, N> {
    /// `quantity` became `value` in the current step.
    pub(super) fn diverged(&self, quantity: &str, value: f64, multiplier: f64) -> TrainingError {
        let peak = self.options.optimizer.learning_rate;
        let mut remedies = vec![format!(
            "a smaller `optimizer.learning_rate` (such as {})",
            two_digits(peak / 10.0)
        )];
        if self.options.max_grad_norm.is_none() {
            remedies.push("`max_grad_norm = 1.0`".to_owned());
        }
        if self.options.schedule.warmup_epochs < 1.0 {
            remedies.push("a warm-up (`schedule.warmup_epochs = 1`)".to_owned());
        }
        TrainingError::Diverged {
            message: format!(
                "training diverged: {quantity} became {value} in epoch {}, step {} (learning rate {})",
                self.state.epoch,
                self.state.step + 1,
                two_digits(peak * multiplier)
            ),
            help: format!("try {}", join(remedies, "or")),
        }
    }
}

/// Scientific notation with two digits: `1.5e-3`.
fn two_digits(number: f64) -> String {
    format!("{number:.1e}").replace(".0e", "e")
}
