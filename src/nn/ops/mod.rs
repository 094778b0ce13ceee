//! What networks compute with: a file or folder an op, each with its CPU kernel as an op on dfdx's tape; in `composed`
//! the same made of dfdx's own ops, for devices without kernels of ours and as the reference in tests; in `backend` the
//! trait that makes a device one that networks run on. Knows shapes and numbers; nothing of graphs or of names.
//!
//! Activations, parameters and gradients are flat tensors; shapes travel beside them, checked when the graph is built.
//! Ops take the tape apart from the tensors: with `None` nothing is recorded and nothing kept for a backward pass. The
//! precision is a type parameter.

mod arithmetic;
mod backend;
mod batch_norm;
pub(crate) mod chunks;
#[cfg(any(test, feature = "cuda"))]
mod composed;
pub(crate) mod convolution;
mod cross_entropy;
mod dropout;
mod linear;
mod pooling;

use backend::flat;
pub use backend::{
    Backend, Buffer, Flat, Moments, NormStatistics, Normalization, Normalized, Recorder,
};
#[cfg(test)]
mod tests;

pub(crate) use batch_norm::folded;
pub use convolution::Geometry;
pub use cross_entropy::soft_targets;
pub use dropout::DropoutPosition;
pub(crate) use pooling::cpu::one as pool_one;
pub use pooling::{Pooling, Taking};

use super::number::Number;

/// Whether and how an op hands a gradient to one of its inputs when the tape runs backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradient {
    /// The input has none.
    None,
    /// This op is the first to hand one over: it need not look at what is there.
    First,
    /// Added to what others have handed over.
    Add,
}

impl Gradient {
    /// Whether one is wanted.
    pub fn wanted(self) -> bool {
        self != Gradient::None
    }
}

/// Hands a gradient over in place of what is in the slot, or added to it.
pub(crate) fn deposit<N: Number>(slot: &mut Vec<N>, gradient: Gradient, values: Vec<N>) {
    match gradient {
        Gradient::None => {}
        Gradient::First => *slot = values,
        Gradient::Add => chunks::add_to(slot, &values),
    }
}
