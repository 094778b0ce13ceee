//! The optimizer: dfdx's SGD and AdamW with a learning rate per parameter group, and gradient
//! clipping by global norm. Depends on no schedule or epoch.

use super::TrainingError;
use super::buffers;
use super::options::{OptimizerConfig, OptimizerKind, is_head};
use crate::nn::{Backend, Buffer, Number, Parameter, ParameterInfo, Role, WeightTensor};
use dfdx::tensor::Gradients;
use dfdx::tensor_ops::{AdamConfig, Momentum, SgdConfig, WeightDecay};
use std::collections::BTreeMap;

/// The state of one parameter.
struct ParameterState<D: Backend<N>, N: Number> {
    /// SGD's momentum, or Adam's first moment.
    first: Buffer<D, N>,
    /// Adam's second moment; empty for SGD.
    second: Buffer<D, N>,
    /// Optimizer steps made before the parameter became trainable.
    start: u64,
}

/// An optimizer with its state.
pub(super) struct Optimizer<D: Backend<N>, N: Number> {
    config: OptimizerConfig,
    /// Maximum of the gradient's global norm.
    max_grad_norm: Option<f64>,
    /// Steps made.
    steps: u64,
    /// In the order of the network's parameters; none for frozen ones.
    states: Vec<Option<ParameterState<D, N>>>,
    /// Peak learning rates, in the order of the network's parameters.
    learning_rates: Vec<f64>,
}

/// dfdx's configuration of one parameter's update in one step.
#[derive(Clone, Copy)]
enum Rule {
    /// With the parameter's own step number, for bias correction.
    Adam(AdamConfig, i32),
    Sgd(SgdConfig),
}

/// One parameter's update.
struct Update<'a, D: Backend<N>, N: Number> {
    rule: Rule,
    parameter: &'a mut Parameter<D, N>,
    state: &'a mut ParameterState<D, N>,
    gradient: Buffer<D, N>,
}

impl<D: Backend<N>, N: Number> Optimizer<D, N> {
    /// An optimizer with empty state for the parameters that are trainable now.
    pub(super) fn new(
        config: &OptimizerConfig,
        max_grad_norm: Option<f64>,
        parameters: &[Parameter<D, N>],
        device: &D,
    ) -> Result<Self, TrainingError> {
        let infos: Vec<&ParameterInfo> =
            parameters.iter().map(|parameter| &parameter.info).collect();
        let mut optimizer = Optimizer {
            config: config.clone(),
            max_grad_norm,
            steps: 0,
            states: parameters.iter().map(|_| None).collect(),
            learning_rates: peak_learning_rates(config, &infos),
        };
        optimizer.add_trainable(parameters, 0, device)?;
        Ok(optimizer)
    }

    /// Adds empty state for parameters that became trainable after `steps` steps.
    pub(super) fn add_trainable(
        &mut self,
        parameters: &[Parameter<D, N>],
        steps: u64,
        device: &D,
    ) -> Result<(), TrainingError> {
        let second = matches!(self.config.kind, OptimizerKind::Adamw);
        for (parameter, state) in parameters.iter().zip(&mut self.states) {
            if parameter.trainable && state.is_none() {
                let count = parameter.info.shape.iter().product();
                *state = Some(ParameterState {
                    first: buffers::zeros::<D, N>(device, count)?,
                    second: buffers::zeros::<D, N>(device, if second { count } else { 0 })?,
                    start: steps,
                });
            }
        }
        Ok(())
    }

    /// Applies one optimizer step with learning rates scaled by `multiplier`. Returns the global
    /// norm of the gradient before clipping, if clipping is on; nothing is applied if it is NaN or
    /// infinite.
    pub(super) fn step(
        &mut self,
        parameters: &mut [Parameter<D, N>],
        mut gradients: Gradients<N, D>,
        multiplier: f64,
        device: &D,
    ) -> Result<Option<f64>, TrainingError> {
        self.steps += 1;
        let mut updates = Vec::with_capacity(self.states.len());
        for ((parameter, state), learning_rate) in
            parameters.iter_mut().zip(&mut self.states).zip(&self.learning_rates)
        {
            let Some(state) = state else { continue };
            let gradient =
                gradients.get_or_alloc_mut(&parameter.tensor).map_err(TrainingError::device)?;
            let gradient = std::mem::replace(gradient, buffers::zeros::<D, N>(device, 0)?);
            let decays = matches!(parameter.info.role, Role::ConvWeight | Role::LinearWeight);
            let weight_decay = if decays { self.config.weight_decay } else { 0.0 };
            let step = self.steps - state.start;
            let rule = rule(&self.config, learning_rate * multiplier, weight_decay, step);
            updates.push(Update { rule, parameter, state, gradient });
        }
        let norm = match self.max_grad_norm {
            Some(limit) => Some(clip(&mut updates, limit, device)?),
            None => None,
        };
        if norm.is_none_or(f64::is_finite) {
            apply_all(updates)?;
        }
        Ok(norm)
    }

    /// The optimizer's state, by names such as `first/fc.weight`.
    pub(super) fn save(
        &self,
        parameters: &[Parameter<D, N>],
        device: &D,
    ) -> Result<BTreeMap<String, WeightTensor<N>>, TrainingError> {
        let mut tensors = BTreeMap::new();
        for (parameter, state) in parameters.iter().zip(&self.states) {
            let Some(state) = state else { continue };
            for (which, buffer) in [("first", &state.first), ("second", &state.second)] {
                let data = buffers::read::<D, N>(device, buffer)?;
                let tensor = WeightTensor { shape: vec![data.len()], data };
                tensors.insert(format!("{which}/{}", parameter.info.name), tensor);
            }
        }
        Ok(tensors)
    }

    /// Restores the state that [`save`](Self::save) returned after `steps` steps. Returns false,
    /// and changes nothing, if it does not match the parameters.
    pub(super) fn restore(
        &mut self,
        parameters: &[Parameter<D, N>],
        mut tensors: BTreeMap<String, WeightTensor<N>>,
        steps: u64,
        device: &D,
    ) -> Result<bool, TrainingError> {
        let mut restored = Vec::with_capacity(self.states.len());
        for (parameter, state) in parameters.iter().zip(&self.states) {
            let Some(state) = state else {
                restored.push(None);
                continue;
            };
            let mut take = |which: &str, like: &Buffer<D, N>| {
                let tensor = tensors.remove(&format!("{which}/{}", parameter.info.name));
                tensor.filter(|tensor| tensor.data.len() == buffers::length::<D, N>(device, like))
            };
            let (Some(first), Some(second)) =
                (take("first", &state.first), take("second", &state.second))
            else {
                return Ok(false);
            };
            let (first, second) = (
                buffers::write::<D, N>(device, first.data)?,
                buffers::write::<D, N>(device, second.data)?,
            );
            restored.push(Some(ParameterState { first, second, start: state.start }));
        }
        (self.states, self.steps) = (restored, steps);
        Ok(true)
    }
}

/// The peak learning rate of each parameter: by head or backbone, and within the backbone by depth.
fn peak_learning_rates(config: &OptimizerConfig, parameters: &[&ParameterInfo]) -> Vec<f64> {
    let backbone = config.backbone_learning_rate.unwrap_or(config.learning_rate);
    let top = parameters
        .iter()
        .filter(|info| !is_head(&info.group))
        .map(|info| info.depth)
        .max()
        .unwrap_or(0);
    let rate = |info: &&ParameterInfo| match is_head(&info.group) {
        true => config.learning_rate,
        false => backbone * config.layer_decay.powi((top - info.depth).min(1000) as i32),
    };
    parameters.iter().map(rate).collect()
}

fn rule(config: &OptimizerConfig, lr: f64, decay: f64, step: u64) -> Rule {
    match config.kind {
        OptimizerKind::Adamw => {
            let weight_decay = (decay > 0.0).then_some(WeightDecay::Decoupled(decay));
            let adam = AdamConfig { lr, betas: config.betas, eps: config.epsilon, weight_decay };
            // The bias correction is 1 long before the counter saturates.
            Rule::Adam(adam, i32::try_from(step).unwrap_or(i32::MAX))
        }
        OptimizerKind::Sgd => {
            let momentum = (config.momentum > 0.0).then_some(match config.nesterov {
                true => Momentum::Nesterov(config.momentum),
                false => Momentum::Classic(config.momentum),
            });
            Rule::Sgd(SgdConfig {
                lr,
                momentum,
                weight_decay: (decay > 0.0).then_some(WeightDecay::L2(decay)),
            })
        }
    }
}

/// Clips the gradients' global norm to `limit` and returns the norm before.
fn clip<D: Backend<N>, N: Number>(
    updates: &mut [Update<D, N>],
    limit: f64,
    device: &D,
) -> Result<f64, TrainingError> {
    let mut sum = 0.0;
    for update in updates.iter() {
        sum += buffers::square_sum::<D, N>(device, &update.gradient)?;
    }
    let norm = sum.sqrt();
    if norm.is_finite() && norm > limit {
        for update in updates {
            buffers::scale::<D, N>(device, &mut update.gradient, limit / norm)?;
        }
    }
    Ok(norm)
}

/// Updates are elementwise, so their order does not change the result.
fn apply_all<D: Backend<N>, N: Number>(updates: Vec<Update<D, N>>) -> Result<(), TrainingError> {
    let parts = |Update { rule, parameter, state, gradient }| {
        (&mut parameter.tensor, (rule, state, gradient))
    };
    D::for_each(updates.into_iter().map(parts).collect(), |tensor, (rule, state, gradient)| {
        match rule {
            Rule::Adam(config, step) => {
                config.try_update(step, tensor, &mut state.first, &mut state.second, &gradient)
            }
            Rule::Sgd(config) => config.try_update(tensor, &mut state.first, &gradient),
        }
        .map_err(TrainingError::device)
    })
}

#[cfg(test)]
mod tests;
