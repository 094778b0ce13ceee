//! Dropout (Srivastava et al., 2014). Each factor of a mask depends only on the mask's position and
//! its index, so no generator state is saved, the number of threads doesn't matter, and a GPU draws
//! the same mask.

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
    /// The key of the mask's numbers.
    pub(crate) fn key(self) -> u64 {
        Stream::new(self.seed, "dropout", &[self.step, self.layer]).bits()
    }

    /// `count` factors, each 0 or 1 / (1 - probability).
    pub(super) fn mask(self, count: usize, probability: f32) -> Vec<f32> {
        let (key, threshold) = (self.key(), u64::from(dropout_threshold(probability)));
        let kept = 1.0 / (1.0 - probability);
        let mut mask = vec![0.0; count];
        mask.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, mask)| {
            for (value, index) in mask.iter_mut().zip((chunk * CHUNK) as u64..) {
                *value = if number(key, index) < threshold { 0.0 } else { kept };
            }
        });
        mask
    }
}

/// Of 2^24 numbers, those below this are dropped.
pub(crate) fn dropout_threshold(probability: f32) -> u32 {
    (f64::from(probability) * f64::from(1 << 24)).round() as u32
}

/// Number `index` of a mask, of 24 bits: of the stream SplitMix64, which any thread can enter
/// anywhere.
fn number(key: u64, index: u64) -> u64 {
    let z = key.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) >> 40
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
