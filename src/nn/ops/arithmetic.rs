//! ReLU, addition and concatenation.

use super::{Activation, Gradient, Recorder};

pub(crate) mod cpu {
    use super::*;
    use crate::nn::buffers::values;
    use crate::nn::number::Number;
    use crate::nn::ops::chunks::{CHUNK, add_to, at_least};
    use crate::nn::ops::deposit;
    use dfdx::tensor::{Cpu, CpuError, Tape};
    use rayon::prelude::*;

    /// See [`Backend::relu`](crate::nn::Backend::relu).
    pub(crate) fn relu(
        x: &Activation<Cpu>,
        gradient: Gradient,
        tape: &mut Recorder<Cpu>,
    ) -> Result<Activation<Cpu>, CpuError> {
        let out = match &x.double {
            Some(double) => Activation::of_double(rectified(double))?,
            None => Activation::of_single(rectified(values(&x.single)))?,
        };
        if let Some(tape) = tape {
            let (x_ghost, out_ghost, kept) = (x.single.ghost(), out.single.ghost(), out.single.clone());
            tape.add_backward_op(move |grads| {
                let mut dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
                dy.par_chunks_mut(CHUNK).zip(values(&kept).par_chunks(CHUNK)).for_each(|(dy, out)| {
                    dy.iter_mut().zip(out).for_each(|(dy, out)| *dy = if *out > 0.0 { *dy } else { 0.0 });
                });
                if gradient.wanted() {
                    deposit(grads.get_or_alloc_mut(&x_ghost)?, gradient, dy);
                }
                Ok(())
            });
        }
        Ok(out)
    }

    fn rectified<N: Number>(x: &[N]) -> Vec<N> {
        let mut out = vec![N::ZERO; x.len()];
        out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = at_least(*x, N::ZERO));
        });
        out
    }

    /// See [`Backend::add`](crate::nn::Backend::add).
    pub(crate) fn add(
        a: &Activation<Cpu>,
        b: &Activation<Cpu>,
        gradients: [Gradient; 2],
        tape: &mut Recorder<Cpu>,
    ) -> Result<Activation<Cpu>, CpuError> {
        let out = match (&a.double, &b.double) {
            (Some(a), Some(b)) => Activation::of_double(sum(a, b))?,
            _ => Activation::of_single(sum(values(&a.single), values(&b.single)))?,
        };
        if let Some(tape) = tape {
            let (ghosts, out_ghost) = ([a.single.ghost(), b.single.ghost()], out.single.ghost());
            tape.add_backward_op(move |grads| {
                let dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
                for (ghost, gradient) in ghosts.iter().zip(gradients).filter(|(_, gradient)| gradient.wanted()) {
                    deposit(grads.get_or_alloc_mut(ghost)?, gradient, dy.clone());
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

    /// See [`Backend::concatenate`](crate::nn::Backend::concatenate).
    pub(crate) fn concatenate(
        parts: &[(&Activation<Cpu>, usize, Gradient)],
        rows: usize,
        tape: &mut Recorder<Cpu>,
    ) -> Result<Activation<Cpu>, CpuError> {
        let doubles: Option<Vec<_>> =
            parts.iter().map(|&(part, width, _)| Some((part.double.as_ref()?.as_slice(), width))).collect();
        let out = match doubles {
            Some(doubles) => Activation::of_double(joined(&doubles, rows))?,
            None => {
                let singles: Vec<_> = parts.iter().map(|&(part, width, _)| (values(&part.single), width)).collect();
                Activation::of_single(joined(&singles, rows))?
            }
        };
        if let Some(tape) = tape {
            let out_ghost = out.single.ghost();
            let total: usize = parts.iter().map(|part| part.1).sum();
            let ghosts: Vec<_> =
                parts.iter().map(|&(part, width, gradient)| (part.single.ghost(), width, gradient)).collect();
            tape.add_backward_op(move |grads| {
                let dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
                let mut first = 0;
                for (ghost, width, gradient) in ghosts {
                    if gradient.wanted() {
                        let mut part = vec![0.0; rows * width];
                        part.par_chunks_exact_mut(width).zip(dy.par_chunks_exact(total)).for_each(|(part, row)| {
                            part.copy_from_slice(&row[first..first + width]);
                        });
                        deposit(grads.get_or_alloc_mut(&ghost)?, gradient, part);
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
            out.par_chunks_exact_mut(total).zip(part.par_chunks_exact(width)).for_each(|(out, part)| {
                out[first..first + width].copy_from_slice(part);
            });
            first += width;
        }
        out
    }
}
