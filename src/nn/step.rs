//! The options and the result of a training step.

use super::number::Number;
use dfdx::tensor::{Cpu, Gradients};

/// The statistics that batch norms use in a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchNorm {
    /// The batch's; running statistics are updated. Norms below all trainable parameters use
    /// running statistics.
    Batch,
    /// Running statistics, which don't change; gradients flow through.
    Running,
}

/// Options of a training step.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions {
    /// The root seed.
    pub seed: u64,
    /// Number of steps since the start of training. Dropout masks depend on (seed, step, layer).
    pub step: u64,
    pub batch_norm: BatchNorm,
}

/// The result of a training step.
pub struct Step<N: Number = f32> {
    /// Mean cross entropy of the batch, plus that of an auxiliary head times
    /// [`AUXILIARY_WEIGHT`](super::AUXILIARY_WEIGHT).
    pub loss: f64,
    /// Logits (batch, classes) in training mode, of the main network.
    pub logits: Vec<f32>,
    /// Gradients of the trainable parameters, in our layout: `gradients.get(&parameter.tensor)`.
    pub gradients: Gradients<N, Cpu>,
}
