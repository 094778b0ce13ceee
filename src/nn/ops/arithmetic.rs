//! ReLU, addition and concatenation.

use super::{Flat, Gradient, Recorder};

pub(crate) mod cpu {
    use super::*;
    use crate::nn::buffers::values;
    use crate::nn::ops::chunks::{CHUNK, add_to, at_least};
    use crate::nn::ops::deposit;
    use dfdx::tensor::{Cpu, CpuError, Tape, TensorFromVec};
    use rayon::prelude::*;

    /// See [`Backend::relu`](crate::nn::Backend::relu).
    pub(crate) fn relu(x: &Flat<Cpu>, gradient: Gradient, tape: &mut Recorder<Cpu>) -> Result<Flat<Cpu>, CpuError> {
        let input = values(x);
        let mut out = vec![0.0; input.len()];
        out.par_chunks_mut(CHUNK).zip(input.par_chunks(CHUNK)).for_each(|(out, x)| {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = at_least(*x, 0.0));
        });
        let out = x.device().try_tensor_from_vec(out, (input.len(),))?;
        if let Some(tape) = tape {
            let (x_ghost, out_ghost, kept) = (x.ghost(), out.ghost(), out.clone());
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

    /// See [`Backend::add`](crate::nn::Backend::add).
    pub(crate) fn add(
        a: &Flat<Cpu>,
        b: &Flat<Cpu>,
        gradients: [Gradient; 2],
        tape: &mut Recorder<Cpu>,
    ) -> Result<Flat<Cpu>, CpuError> {
        let mut out = values(a).to_vec();
        add_to(&mut out, values(b));
        let length = out.len();
        let out = a.device().try_tensor_from_vec(out, (length,))?;
        if let Some(tape) = tape {
            let (ghosts, out_ghost) = ([a.ghost(), b.ghost()], out.ghost());
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

    /// See [`Backend::concatenate`](crate::nn::Backend::concatenate).
    pub(crate) fn concatenate(
        parts: &[(&Flat<Cpu>, usize, Gradient)],
        rows: usize,
        tape: &mut Recorder<Cpu>,
    ) -> Result<Flat<Cpu>, CpuError> {
        let total: usize = parts.iter().map(|part| part.1).sum();
        let mut out = vec![0.0; rows * total];
        let mut first = 0;
        for &(part, width, _) in parts {
            out.par_chunks_exact_mut(total).zip(values(part).par_chunks_exact(width)).for_each(|(out, part)| {
                out[first..first + width].copy_from_slice(part);
            });
            first += width;
        }
        let device = parts.first().map_or_else(Cpu::default, |part| part.0.device().clone());
        let out = device.try_tensor_from_vec(out, (rows * total,))?;
        if let Some(tape) = tape {
            let out_ghost = out.ghost();
            let ghosts: Vec<_> = parts.iter().map(|&(part, width, gradient)| (part.ghost(), width, gradient)).collect();
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
}
