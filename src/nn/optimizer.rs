//! Updates of a network's parameters on the CPU: dfdx's SGD and AdamW, their moments, and clipping
//! by the global norm. Doesn't depend on where rules come from.

use super::NnError;
use super::layout;
use super::learner::Rule;
use super::loading;
use super::number::Number;
use super::ops::{Buffer, chunks::add_to};
use super::parameters::Parameter;
use super::weights::{WeightTensor, Weights};
use dfdx::tensor::{Cpu, Gradients, Storage};
use dfdx::tensor_ops::{AdamConfig, Momentum, SgdConfig, WeightDecay};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Lanes of [`square_sum`]: the order of summation depends only on the length.
const LANES: usize = 16;

/// The moments of one parameter, in our layout.
struct Moments<N: Number> {
    /// SGD's momentum, or Adam's first moment.
    first: Buffer<N>,
    /// Adam's second moment; empty for SGD.
    second: Buffer<N>,
}

/// The gradients since the last update and the moments of a network's parameters.
pub(crate) struct OptimizerState<N: Number = f32> {
    gradients: Option<Gradients<N, Cpu>>,
    /// In the order of the parameters; none before their first update.
    moments: Vec<Option<Moments<N>>>,
}

/// One parameter's update.
struct Update<'a, N: Number> {
    rule: Rule,
    parameter: &'a mut Parameter<N>,
    moments: &'a mut Moments<N>,
    gradient: Buffer<N>,
}

fn zeros<N: Number>(count: usize) -> Result<Buffer<N>, NnError> {
    Storage::<N>::try_alloc_len(&Cpu::default(), count).map_err(NnError::device)
}

fn buffer<N: Number>(values: &[N]) -> Result<Buffer<N>, NnError> {
    let mut buffer = zeros::<N>(values.len())?;
    buffer.copy_from_slice(values);
    Ok(buffer)
}

impl<N: Number> OptimizerState<N> {
    /// No gradients and no moments of `count` parameters.
    pub(crate) fn new(count: usize) -> Self {
        OptimizerState { gradients: None, moments: (0..count).map(|_| None).collect() }
    }

    /// Adds the gradients of the trainable parameters.
    pub(crate) fn add(
        &mut self,
        parameters: &[Parameter<N>],
        mut gradients: Gradients<N, Cpu>,
    ) -> Result<(), NnError> {
        let Some(sum) = &mut self.gradients else {
            self.gradients = Some(gradients);
            return Ok(());
        };
        for parameter in parameters.iter().filter(|parameter| parameter.trainable) {
            let gradient =
                gradients.get_or_alloc_mut(&parameter.tensor).map_err(NnError::device)?;
            let sum = sum.get_or_alloc_mut(&parameter.tensor).map_err(NnError::device)?;
            add_to(sum, gradient);
        }
        Ok(())
    }

    /// See [`Learner::update`](super::Learner::update).
    pub(crate) fn update(
        &mut self,
        parameters: &mut [Parameter<N>],
        rules: &[Option<Rule>],
        max_norm: Option<f64>,
    ) -> Result<Option<f64>, NnError> {
        let mut gradients = self.gradients.take().unwrap_or_else(Gradients::leaky);
        let mut updates = Vec::with_capacity(parameters.len());
        for ((parameter, moments), rule) in parameters.iter_mut().zip(&mut self.moments).zip(rules)
        {
            let Some(rule) = *rule else { continue };
            let gradient =
                gradients.get_or_alloc_mut(&parameter.tensor).map_err(NnError::device)?;
            let gradient = std::mem::replace(gradient, zeros::<N>(0)?);
            let moments = match moments {
                Some(moments) => moments,
                None => moments.insert(Moments::zeros(rule, gradient.len())?),
            };
            updates.push(Update { rule, parameter, moments, gradient });
        }
        let norm = max_norm.map(|limit| clip(&mut updates, limit));
        if norm.is_none_or(f64::is_finite) {
            // Updates are elementwise, so their order does not change the result.
            updates.into_par_iter().try_for_each(Update::apply)?;
        }
        Ok(norm)
    }

    /// See [`Learner::moments`](super::Learner::moments).
    pub(crate) fn moments(&self, parameters: &[Parameter<N>]) -> BTreeMap<String, WeightTensor<N>> {
        let mut tensors = BTreeMap::new();
        for (Parameter { info, .. }, moments) in parameters.iter().zip(&self.moments) {
            let Some(Moments { first, second }) = moments else { continue };
            for (which, values) in [("first", first), ("second", second)] {
                if !values.is_empty() {
                    let data = layout::to_torch(info, values);
                    let tensor = WeightTensor { shape: info.shape.clone(), data };
                    tensors.insert(format!("{which}/{}", info.name), tensor);
                }
            }
        }
        tensors
    }

    /// See [`Learner::restore_moments`](super::Learner::restore_moments).
    pub(crate) fn restore(
        &mut self,
        parameters: &[Parameter<N>],
        tensors: BTreeMap<String, WeightTensor<N>>,
    ) -> Result<(), NnError> {
        let saved = Weights { tensors, ..Weights::default() };
        let (mut moments, mut taken, mut mismatches) = (Vec::new(), 0, Vec::new());
        for Parameter { info, .. } in parameters {
            let mut take = |which: &str| {
                let name = format!("{which}/{}", info.name);
                if !saved.tensors.contains_key(&name) {
                    return None;
                }
                taken += 1;
                match loading::found(&saved, &name, &info.shape) {
                    Ok(tensor) => Some(layout::from_torch(info, &tensor.data)),
                    Err(reason) => {
                        mismatches.push(reason);
                        None
                    }
                }
            };
            let (first, second) = (take("first"), take("second").unwrap_or_default());
            let of = |first: Vec<N>| -> Result<_, NnError> {
                Ok(Moments { first: buffer(&first)?, second: buffer(&second)? })
            };
            moments.push(first.map(of).transpose()?);
        }
        if mismatches.is_empty() && taken < saved.tensors.len() {
            mismatches.push("moments of parameters that the network doesn't have".to_owned());
        }
        if !mismatches.is_empty() {
            return Err(NnError::Mismatch(mismatches));
        }
        (self.moments, self.gradients) = (moments, None);
        Ok(())
    }
}

impl<N: Number> Moments<N> {
    fn zeros(rule: Rule, count: usize) -> Result<Self, NnError> {
        let second = if matches!(rule, Rule::Adamw { .. }) { count } else { 0 };
        Ok(Moments { first: zeros(count)?, second: zeros(second)? })
    }
}

impl<N: Number> Update<'_, N> {
    fn apply(self) -> Result<(), NnError> {
        let Update { rule, parameter, moments: Moments { first, second }, gradient } = self;
        match rule {
            Rule::Adamw { learning_rate, betas, epsilon, weight_decay, step } => {
                let weight_decay =
                    (weight_decay > 0.0).then_some(WeightDecay::Decoupled(weight_decay));
                let adam = AdamConfig { lr: learning_rate, betas, eps: epsilon, weight_decay };
                // The bias correction is 1 long before the counter saturates.
                let step = i32::try_from(step).unwrap_or(i32::MAX);
                N::adam(&adam, step, &mut parameter.tensor, [first, second], &gradient)
            }
            Rule::Sgd { learning_rate, momentum, nesterov, weight_decay } => {
                let momentum = (momentum > 0.0).then_some(match nesterov {
                    true => Momentum::Nesterov(momentum),
                    false => Momentum::Classic(momentum),
                });
                let weight_decay = (weight_decay > 0.0).then_some(WeightDecay::L2(weight_decay));
                let sgd = SgdConfig { lr: learning_rate, momentum, weight_decay };
                N::sgd(&sgd, &mut parameter.tensor, first, &gradient)
            }
        }
        .map_err(NnError::device)
    }
}

/// Clips the gradients' global norm to `limit` and returns the norm before.
fn clip<N: Number>(updates: &mut [Update<N>], limit: f64) -> f64 {
    let sum: f64 = updates.iter().map(|update| square_sum(&update.gradient)).sum();
    let norm = sum.sqrt();
    if norm.is_finite() && norm > limit {
        let factor = N::of(limit / norm);
        for update in updates {
            update.gradient.iter_mut().for_each(|value| *value *= factor);
        }
    }
    norm
}

/// The sum of the squares, in f64.
fn square_sum<N: Number>(values: &[N]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value.into() * value.into();
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += value.into() * value.into();
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_are_summed_in_f64() {
        let expected = f64::from(0.1f32).powi(2) * 1000.0;
        assert!((square_sum(&vec![0.1f32; 1000]) - expected).abs() < 1e-12);
        assert_eq!(square_sum::<f32>(&[]), 0.0);
    }
}
