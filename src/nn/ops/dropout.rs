//! Dropout (Srivastava and others, 2014) whose masks come from a position alone, so that no generator's state has to be
//! kept and the number of threads changes nothing.

use super::chunks::CHUNK;
use super::{Flat, Gradient, Recorder};
use crate::random::Stream;
use rayon::prelude::*;

/// What a mask is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutPosition {
    /// The root of randomness.
    pub seed: u64,
    /// The training step.
    pub step: u64,
    /// The layer.
    pub layer: u64,
}

impl DropoutPosition {
    /// For each of `count` values, 0 or 1 / (1 - probability).
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

pub(crate) mod cpu {
    use super::*;
    use crate::nn::matrix::values;
    use crate::nn::number::Number;
    use crate::nn::ops::{deposit, flat};
    use dfdx::tensor::{Cpu, CpuError, Tape};

    /// See [`Backend::dropout`](crate::nn::Backend::dropout).
    pub(crate) fn dropout<N: Number>(
        x: &Flat<Cpu, N>,
        probability: f32,
        position: DropoutPosition,
        gradient: Gradient,
        tape: &mut Recorder<Cpu, N>,
    ) -> Result<Flat<Cpu, N>, CpuError> {
        let mask = position.mask(values(x).len(), probability);
        let out = flat(masked(values(x), &mask))?;
        if let Some(tape) = tape {
            let (x_ghost, out_ghost) = (x.ghost(), out.ghost());
            tape.add_backward_op(move |grads| {
                let mut dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
                dy.iter_mut().zip(&mask).for_each(|(dy, mask)| *dy *= N::from(*mask));
                if gradient.wanted() {
                    deposit(grads.get_or_alloc_mut(&x_ghost)?, gradient, dy);
                }
                Ok(())
            });
        }
        Ok(out)
    }

    fn masked<N: Number>(x: &[N], mask: &[f32]) -> Vec<N> {
        x.iter().zip(mask).map(|(x, mask)| *x * N::from(*mask)).collect()
    }
}
