//! The options and the result of a training step.

use super::NnError;
use super::number::Number;
use super::ops::{Backend, Buffer};
use super::parameters::Parameter;
use dfdx::tensor::Gradients;

/// With which statistics batch norms normalize in a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchNorm {
    /// With the batch's, and the running ones are updated. Norms below everything trainable use the running ones.
    Batch,
    /// With the running ones, which stay as they are; gradients flow through.
    Running,
}

/// How a training step is made.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions {
    /// The root of randomness.
    pub seed: u64,
    /// The step's number since the start of training: dropout masks come from (seed, step, layer).
    pub step: u64,
    /// Statistics of batch norms.
    pub batch_norm: BatchNorm,
}

/// What a training step gives.
pub struct Step<D: Backend<N>, N: Number = f32> {
    /// Mean cross entropy of the batch, an auxiliary head's added with its factor.
    pub loss: f64,
    /// (batch, classes), in training mode; those of the network proper.
    pub logits: Vec<f32>,
    /// Of the trainable parameters: `gradients.get(&parameter.tensor)`, in our layout.
    pub gradients: Gradients<N, D>,
}

impl<D: Backend<N>, N: Number> Step<D, N> {
    /// The gradient's buffer of a trainable parameter, without a copy.
    ///
    /// # Errors
    /// For want of memory, where it has no gradient yet and zeros are made.
    pub fn gradient(&mut self, parameter: &Parameter<D, N>) -> Result<&mut Buffer<D, N>, NnError> {
        self.gradients.get_or_alloc_mut(&parameter.tensor).map_err(NnError::device)
    }
}
