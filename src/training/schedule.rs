//! The learning rate as a function of the step number alone, so that resuming needs no state.

use super::options::{Schedule, ScheduleKind};

/// A learning-rate schedule over the steps of a training.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LearningRates {
    kind: ScheduleKind,
    floor: f64,
    warm_up: u64,
    total: u64,
}

impl LearningRates {
    /// `steps` are those of one epoch.
    pub(super) fn new(schedule: &Schedule, epochs: u64, steps: u64) -> LearningRates {
        let total = epochs.saturating_mul(steps);
        let warm_up = ((schedule.warmup_epochs * steps as f64).round() as u64).min(total);
        LearningRates {
            kind: schedule.kind,
            floor: schedule.min_learning_rate_ratio,
            warm_up,
            total,
        }
    }

    /// The multiplier of the peak learning rate at `step` (from 0), in 0..=1. It is (i + 1)/w for
    /// step i of a warm-up of w steps, and floor + (1 - floor)(1 + cos(pi i/n))/2 for step i of the
    /// n cosine steps after it.
    pub(super) fn multiplier(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return (step + 1) as f64 / self.warm_up as f64;
        }
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => {
                let length = (self.total - self.warm_up).max(1);
                let progress = (step - self.warm_up).min(length) as f64 / length as f64;
                self.floor
                    + (1.0 - self.floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(kind: ScheduleKind, warm_up: f64, floor: f64) -> Schedule {
        Schedule { kind, warmup_epochs: warm_up, min_learning_rate_ratio: floor }
    }

    fn multipliers(rates: &LearningRates, steps: u64) -> Vec<f64> {
        (0..steps).map(|step| (rates.multiplier(step) * 1e6).round() / 1e6).collect()
    }

    /// After the warm-up as in PyTorch 2.15:
    ///
    /// ```python
    /// import torch
    /// optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    /// scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8, eta_min=0.1)
    /// for _ in range(8):
    ///     print(round(scheduler.get_last_lr()[0], 6))
    ///     optimizer.step(); scheduler.step()
    /// ```
    #[test]
    fn a_warm_up_is_followed_by_half_a_cosine() {
        let rates = LearningRates::new(&schedule(ScheduleKind::Cosine, 1.0, 0.1), 3, 4);
        let expected = [
            0.25, 0.5, 0.75, 1.0, 1.0, 0.965746, 0.868198, 0.722208, 0.55, 0.377792, 0.231802,
            0.134254,
        ];
        assert_eq!(multipliers(&rates, 12), expected);
    }

    #[test]
    fn a_constant_schedule_has_a_warm_up_too() {
        let rates = LearningRates::new(&schedule(ScheduleKind::Constant, 0.5, 0.0), 2, 4);
        assert_eq!(multipliers(&rates, 8), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_warm_up_is_at_most_the_whole_training() {
        let rates = LearningRates::new(&schedule(ScheduleKind::Cosine, 9.0, 0.0), 1, 4);
        assert_eq!(multipliers(&rates, 4), [0.25, 0.5, 0.75, 1.0]);
    }

    proptest! {
        #[test]
        fn every_multiplier_is_above_zero(warm_up in 0.0..5.0f64, floor in 0.0..=1.0f64, epochs in 1u64..9, steps in 1u64..9) {
            let rates = LearningRates::new(&schedule(ScheduleKind::Cosine, warm_up, floor), epochs, steps);
            for step in 0..epochs * steps {
                let multiplier = rates.multiplier(step);
                prop_assert!(multiplier > 0.0 && multiplier <= 1.0, "{multiplier}");
            }
            prop_assert!(rates.multiplier(u64::MAX).is_finite());
        }
    }
}
