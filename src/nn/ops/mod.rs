//! The ops that networks are computed with, one file or folder per op, recorded on dfdx's tape.
//!
//! Activations, parameters and gradients are flat tensors; shapes are passed beside them, checked
//! when the graph is built: the lengths of tensors must match, or ops panic. Ops take the tape
//! separately from the tensors: with `None` nothing is recorded or kept for a backward pass. The
//! precision is a type parameter.

mod arithmetic;
mod batch_norm;
mod buffers;
pub(crate) mod chunks;
pub(crate) mod convolution;
mod cross_entropy;
mod dropout;
mod linear;
mod pooling;
mod tensor;
#[cfg(test)]
mod tests;

pub(crate) use arithmetic::{add, concatenate, relu};
pub use batch_norm::{BatchStatistics, NormStatistics, Normalization};
pub(crate) use batch_norm::{batch_norm, folded};
pub use convolution::Geometry;
pub(crate) use convolution::cpu::convolution;
pub use cross_entropy::soft_targets;
pub(crate) use cross_entropy::{chosen_sum, cross_entropy, weighted_sum};
pub use dropout::DropoutPosition;
pub(crate) use dropout::{dropout, dropout_threshold};
pub(crate) use linear::linear;
pub use pooling::{PoolKind, Pooling};
pub(crate) use pooling::{bin, one as pool_one, pool};
pub(crate) use tensor::flat;
pub use tensor::{Buffer, FlatTensor, MaybeTape};

use super::number::Number;

/// What convolutions and linear layers multiply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// Numbers of the network's own precision.
    #[default]
    Own,
    /// Numbers rounded to bf16, summed in `f32`: for networks in `f32` on the CPU.
    Bf16,
}

/// Whether and how an op stores the gradient of one of its inputs in the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradient {
    /// The input needs no gradient.
    None,
    /// This op is the first to store one: it overwrites.
    First,
    /// Adds to the gradient that other ops stored.
    Add,
}

impl Gradient {
    pub fn wanted(self) -> bool {
        self != Gradient::None
    }
}

/// Overwrites the gradient in `slot`, or adds to it.
pub(crate) fn store_gradient<N: Number>(slot: &mut Vec<N>, gradient: Gradient, values: Vec<N>) {
    match gradient {
        Gradient::None => {}
        Gradient::First => *slot = values,
        Gradient::Add => chunks::add_to(slot, &values),
    }
}
