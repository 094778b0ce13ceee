//! Dropout (Srivastava et al., 2014). Masks depend only on a position, so no generator state is
//! saved and the number of threads doesn't matter.

use super::chunks::CHUNK;
use super::{FlatTensor, Gradient, MaybeTape};
use crate::random::Stream;
use rayon::prelude::*;

/// The key of a mask's random stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutPosition {
    /// The root seed.
    pub seed: u64,
    pub step: u64,
    /// Index of the node.
    pub layer: u64,
}

impl DropoutPosition {
    /// `count` factors, each 0 or 1 / (1 - probability).
    pub(super) fn mask(self, count: usize, probability: f32) -> Vec<f32> {
        let kept = 1.0 / (1.0 - probability);
        let mut mask = vec![0.0; count];
        mask.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, mask)| {
            let mut stream =
                Stream::new(self.seed, "dropout", &[self.step, self.layer, chunk as u64]);
            mask.iter_mut().for_each(|value| {
                *value = if stream.chance(f64::from(probability)) { 0.0 } else { kept }
            });
        });
        mask
    }
}

use crate::nn::matrix::values;
use crate::nn::number::Number;
use crate::nn::ops::{flat, store_gradient};
use dfdx::tensor::{CpuError, Tape};

/// Dropout: zeroes values with `probability` in [0, 1), by a mask that depends only on `position`,
/// and scales the others by 1 / (1 - probability).
pub(crate) fn dropout<N: Number>(
    x: &FlatTensor<N>,
    probability: f32,
    position: DropoutPosition,
    gradient: Gradient,
    tape: &mut MaybeTape<N>,
) -> Result<FlatTensor<N>, CpuError> {
    let mask = position.mask(values(x).len(), probability);
    let out = flat(masked(values(x), &mask))?;
    if let Some(tape) = tape {
        let (x_ghost, out_ghost) = (x.ghost(), out.ghost());
        tape.add_backward_op(move |grads| {
            let mut dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
            dy.iter_mut().zip(&mask).for_each(|(dy, mask)| *dy *= N::from(*mask));
            if gradient.wanted() {
                store_gradient(grads.get_or_alloc_mut(&x_ghost)?, gradient, dy);
            }
            Ok(())
        });
    }
    Ok(out)
}

fn masked<N: Number>(x: &[N], mask: &[f32]) -> Vec<N> {
    x.iter().zip(mask).map(|(x, mask)| *x * N::from(*mask)).collect()
}
