//! What the optimizer does to each parameter in each step: its learning rate by parameter group,
//! weight decay, and the step that it counts for itself. The network has the moments and applies
//! the updates. Depends on no schedule or epoch.

use super::options::{OptimizerConfig, OptimizerKind, is_head};
use crate::nn::{ParameterInfo, Role, Rule};

/// The optimizer of one training.
#[derive(Clone, Debug)]
pub(super) struct Optimizer {
    config: OptimizerConfig,
    /// Steps made.
    steps: u64,
    /// Steps made before the parameter became trainable, in the order of the network's parameters;
    /// none for frozen ones.
    starts: Vec<Option<u64>>,
    /// Peak learning rates, in the order of the network's parameters.
    learning_rates: Vec<f64>,
}

impl Optimizer {
    /// An optimizer of the parameters that are trainable now, before the first step.
    pub(super) fn new(
        config: &OptimizerConfig,
        parameters: &[(&ParameterInfo, bool)],
    ) -> Optimizer {
        let mut optimizer = Optimizer {
            config: config.clone(),
            steps: 0,
            starts: vec![None; parameters.len()],
            learning_rates: peak_learning_rates(config, parameters),
        };
        optimizer.add_trainable(parameters, 0);
        optimizer
    }

    /// Adds parameters that became trainable after `steps` steps.
    pub(super) fn add_trainable(&mut self, parameters: &[(&ParameterInfo, bool)], steps: u64) {
        for ((_, trainable), start) in parameters.iter().zip(&mut self.starts) {
            if *trainable {
                start.get_or_insert(steps);
            }
        }
    }

    /// Continues after `steps` steps.
    pub(super) fn resume(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// The names of the moments that a training has after the steps made so far.
    pub(super) fn moment_names(&self, parameters: &[(&ParameterInfo, bool)]) -> Vec<String> {
        let which: &[&str] = match self.config.kind {
            OptimizerKind::Adamw => &["first", "second"],
            OptimizerKind::Sgd => &["first"],
        };
        let updated = |start: &Option<u64>| start.is_some_and(|start| start < self.steps);
        let names = parameters.iter().zip(&self.starts).filter(|(_, start)| updated(start));
        names
            .flat_map(|((info, _), _)| which.iter().map(|which| format!("{which}/{}", info.name)))
            .collect()
    }

    /// The rules of the next step, with learning rates scaled by `multiplier`.
    pub(super) fn rules(
        &mut self,
        parameters: &[(&ParameterInfo, bool)],
        multiplier: f64,
    ) -> Vec<Option<Rule>> {
        self.steps += 1;
        let rates = self.starts.iter().zip(&self.learning_rates);
        let rule = |((info, _), (start, rate)): (&(&ParameterInfo, bool), (&Option<u64>, &f64))| {
            Some(self.rule(info, rate * multiplier, self.steps - (*start)?))
        };
        parameters.iter().zip(rates).map(rule).collect()
    }

    /// The rule of a parameter's own step number `step`, from 1.
    fn rule(&self, info: &ParameterInfo, learning_rate: f64, step: u64) -> Rule {
        let OptimizerConfig { momentum, nesterov, betas, epsilon, .. } = self.config;
        let decays = matches!(info.role, Role::ConvWeight | Role::LinearWeight);
        let weight_decay = if decays { self.config.weight_decay } else { 0.0 };
        match self.config.kind {
            OptimizerKind::Adamw => {
                Rule::Adamw { learning_rate, betas, epsilon, weight_decay, step }
            }
            OptimizerKind::Sgd => Rule::Sgd { learning_rate, momentum, nesterov, weight_decay },
        }
    }
}

/// The peak learning rate of each parameter: by head or backbone, and within the backbone by depth.
fn peak_learning_rates(
    config: &OptimizerConfig,
    parameters: &[(&ParameterInfo, bool)],
) -> Vec<f64> {
    let backbone = config.backbone_learning_rate.unwrap_or(config.learning_rate);
    let top = parameters
        .iter()
        .filter(|(info, _)| !is_head(&info.group))
        .map(|(info, _)| info.depth)
        .max()
        .unwrap_or(0);
    let rate = |(info, _): &(&ParameterInfo, bool)| match is_head(&info.group) {
        true => config.learning_rate,
        false => backbone * config.layer_decay.powi((top - info.depth).min(1000) as i32),
    };
    parameters.iter().map(rate).collect()
}

#[cfg(test)]
mod tests;
