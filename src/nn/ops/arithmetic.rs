//! ReLU, addition and concatenation.

use super::{FlatTensor, Gradient, MaybeTape};

use crate::nn::matrix::{values, vectorized};
use crate::nn::number::Number;
use crate::nn::ops::chunks::{CHUNK, add_to, at_least};
use crate::nn::ops::{flat, store_gradient};
use dfdx::tensor::{CpuError, Tape};
use rayon::prelude::*;

/// max(x, 0), elementwise; NaN stays NaN.
pub(crate) fn relu<N: Number>(
    x: &FlatTensor<N>,
    gradient: Gradient,
    tape: &mut MaybeTape<N>,
) -> Result<FlatTensor<N>, CpuError> {
    let out = flat(rectified(values(x)))?;
    if let Some(tape) = tape {
        let (x_ghost, out_ghost, kept) = (x.ghost(), out.ghost(), out.clone());
        tape.add_backward_op(move |grads| {
            let mut dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
            dy.par_chunks_mut(CHUNK).zip(values(&kept).par_chunks(CHUNK)).for_each(|(dy, out)| {
                vectorized(|| {
                    dy.iter_mut().zip(out).for_each(|(dy, out)| {
                        *dy = if *out > N::ZERO { *dy } else { N::ZERO };
                    });
                });
            });
            if gradient.wanted() {
                store_gradient(grads.get_or_alloc_mut(&x_ghost)?, gradient, dy);
            }
            Ok(())
        });
    }
    Ok(out)
}

fn rectified<N: Number>(x: &[N]) -> Vec<N> {
    let mut out = vec![N::ZERO; x.len()];
    out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| {
        vectorized(|| {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = at_least(*x, N::ZERO));
        });
    });
    out
}

/// a + b, elementwise.
pub(crate) fn add<N: Number>(
    a: &FlatTensor<N>,
    b: &FlatTensor<N>,
    gradients: [Gradient; 2],
    tape: &mut MaybeTape<N>,
) -> Result<FlatTensor<N>, CpuError> {
    let out = flat(sum(values(a), values(b)))?;
    if let Some(tape) = tape {
        let (ghosts, out_ghost) = ([a.ghost(), b.ghost()], out.ghost());
        tape.add_backward_op(move |grads| {
            let dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
            for (ghost, gradient) in
                ghosts.iter().zip(gradients).filter(|(_, gradient)| gradient.wanted())
            {
                store_gradient(grads.get_or_alloc_mut(ghost)?, gradient, dy.clone());
            }
            Ok(())
        });
    }
    Ok(out)
}

fn sum<N: Number>(a: &[N], b: &[N]) -> Vec<N> {
    let mut out = a.to_vec();
    add_to(&mut out, b);
    out
}

/// Concatenates parts (rows, width) along the second axis.
pub(crate) fn concatenate<N: Number>(
    parts: &[(&FlatTensor<N>, usize, Gradient)],
    rows: usize,
    tape: &mut MaybeTape<N>,
) -> Result<FlatTensor<N>, CpuError> {
    let inputs: Vec<_> = parts.iter().map(|&(part, width, _)| (values(part), width)).collect();
    let out = flat(joined(&inputs, rows))?;
    if let Some(tape) = tape {
        let out_ghost = out.ghost();
        let total: usize = parts.iter().map(|part| part.1).sum();
        let ghosts: Vec<_> =
            parts.iter().map(|&(part, width, gradient)| (part.ghost(), width, gradient)).collect();
        tape.add_backward_op(move |grads| {
            let dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
            let mut first = 0;
            for (ghost, width, gradient) in ghosts {
                if gradient.wanted() {
                    let mut part = vec![N::ZERO; rows * width];
                    part.par_chunks_exact_mut(width).zip(dy.par_chunks_exact(total)).for_each(
                        |(part, row)| {
                            part.copy_from_slice(&row[first..first + width]);
                        },
                    );
                    store_gradient(grads.get_or_alloc_mut(&ghost)?, gradient, part);
                }
                first += width;
            }
            Ok(())
        });
    }
    Ok(out)
}

fn joined<N: Number>(parts: &[(&[N], usize)], rows: usize) -> Vec<N> {
    let total: usize = parts.iter().map(|part| part.1).sum();
    let mut out = vec![N::ZERO; rows * total];
    let mut first = 0;
    for &(part, width) in parts {
        out.par_chunks_exact_mut(total).zip(part.par_chunks_exact(width)).for_each(
            |(out, part)| {
                out[first..first + width].copy_from_slice(part);
            },
        );
        first += width;
    }
    out
}
