//! A fully connected layer: (batch, in) times (in, out) plus (out).

use super::{Flat, Gradient, Recorder};

pub(crate) mod cpu {
    use super::*;
    use crate::nn::buffers::{Matrix, MatrixMut, multiply, values};
    use crate::nn::ops::chunks::column_sums;
    use crate::nn::ops::deposit;
    use dfdx::tensor::{Cpu, CpuError, Tape, TensorFromVec};
    use rayon::prelude::*;

    /// Width of the blocks that products are split into.
    const BLOCK: usize = 128;

    /// See [`Backend::linear`](crate::nn::Backend::linear).
    pub(crate) fn linear(
        x: &Flat<Cpu>,
        weight: &Flat<Cpu>,
        bias: &Flat<Cpu>,
        batch: usize,
        gradients: [Gradient; 3],
        tape: &mut Recorder<Cpu>,
    ) -> Result<Flat<Cpu>, CpuError> {
        let (inputs, outputs) = (values(x).len() / batch, values(bias).len());
        let mut out = values(bias).repeat(batch);
        let a = Matrix::new(values(x), batch, inputs, inputs);
        product(&mut out, batch, outputs, true, a, Matrix::new(values(weight), inputs, outputs, outputs));
        let out = x.device().try_tensor_from_vec(out, (batch * outputs,))?;
        let Some(tape) = tape else { return Ok(out) };
        let (x, weight) = (x.clone(), weight.clone());
        let (bias_ghost, out_ghost) = (bias.ghost(), out.ghost());
        tape.add_backward_op(move |grads| {
            let dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
            let dy_matrix = Matrix::new(&dy, batch, outputs, outputs);
            if gradients[0].wanted() {
                let turned = Matrix::new(values(&weight), inputs, outputs, outputs).transposed();
                let slot = grads.get_or_alloc_mut(&x.ghost())?;
                product(slot, batch, inputs, gradients[0] == Gradient::Add, dy_matrix, turned);
            }
            if gradients[1].wanted() {
                let turned = Matrix::new(values(&x), batch, inputs, inputs).transposed();
                let slot = grads.get_or_alloc_mut(&weight.ghost())?;
                product(slot, inputs, outputs, gradients[1] == Gradient::Add, turned, dy_matrix);
            }
            if gradients[2].wanted() {
                deposit(grads.get_or_alloc_mut(&bias_ghost)?, gradients[2], column_sums(&dy, outputs));
            }
            Ok(())
        });
        Ok(out)
    }

    /// `out` (rows, columns) = a b, in tiles.
    fn product(out: &mut [f32], rows: usize, columns: usize, accumulate: bool, a: Matrix, b: Matrix) {
        let tiles = MatrixMut::new(out, rows, columns, columns).tiles(BLOCK, BLOCK);
        tiles.into_par_iter().for_each(|mut tile| {
            let a = a.rows(tile.row, tile.out.rows());
            let b = b.columns(tile.column, tile.out.columns());
            multiply(&mut tile.out, accumulate, a, b);
        });
    }
}
