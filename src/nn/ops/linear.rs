//! Linear layer: (batch, in) times (in, out) plus (out).

use super::{FlatTensor, Gradient, MaybeTape};

pub(crate) mod cpu {
    use super::*;
    use crate::nn::matrix::{Matrix, MatrixMut, multiply, values};
    use crate::nn::number::Number;
    use crate::nn::ops::chunks::column_sums;
    use crate::nn::ops::{flat, store_gradient};
    use dfdx::tensor::{Cpu, CpuError, Tape};
    use rayon::prelude::*;

    /// Side of the tiles that products are split into.
    const BLOCK: usize = 128;

    /// See [`Backend::linear`](crate::nn::Backend::linear).
    pub(crate) fn linear<N: Number>(
        x: &FlatTensor<Cpu, N>,
        weight: &FlatTensor<Cpu, N>,
        bias: &FlatTensor<Cpu, N>,
        batch: usize,
        gradients: [Gradient; 3],
        tape: &mut MaybeTape<Cpu, N>,
    ) -> Result<FlatTensor<Cpu, N>, CpuError> {
        let (inputs, outputs) = (values(x).len() / batch, values(bias).len());
        let out = flat(forward(values(x), values(weight), values(bias), batch))?;
        let Some(tape) = tape else { return Ok(out) };
        let (x, weight) = (x.clone(), weight.clone());
        let (bias_ghost, out_ghost) = (bias.ghost(), out.ghost());
        tape.add_backward_op(move |grads| {
            let dy = std::mem::take(&mut **grads.get_or_alloc_mut(&out_ghost)?);
            let dy_matrix = Matrix::new(&dy, batch, outputs, outputs);
            if gradients[0].wanted() {
                let transposed =
                    Matrix::new(values(&weight), inputs, outputs, outputs).transposed();
                let slot = grads.get_or_alloc_mut(&x.ghost())?;
                product(slot, batch, inputs, gradients[0] == Gradient::Add, dy_matrix, transposed);
            }
            if gradients[1].wanted() {
                let transposed = Matrix::new(values(&x), batch, inputs, inputs).transposed();
                let slot = grads.get_or_alloc_mut(&weight.ghost())?;
                product(
                    slot,
                    inputs,
                    outputs,
                    gradients[1] == Gradient::Add,
                    transposed,
                    dy_matrix,
                );
            }
            if gradients[2].wanted() {
                store_gradient(
                    grads.get_or_alloc_mut(&bias_ghost)?,
                    gradients[2],
                    column_sums(&dy, outputs),
                );
            }
            Ok(())
        });
        Ok(out)
    }

    fn forward<N: Number>(x: &[N], weight: &[N], bias: &[N], batch: usize) -> Vec<N> {
        let (inputs, outputs) = (x.len() / batch, bias.len());
        let mut out = bias.repeat(batch);
        let weight = Matrix::new(weight, inputs, outputs, outputs);
        product(&mut out, batch, outputs, true, Matrix::new(x, batch, inputs, inputs), weight);
        out
    }

    /// `out` (rows, columns) = a b, in tiles.
    fn product<N: Number>(
        out: &mut [N],
        rows: usize,
        columns: usize,
        accumulate: bool,
        a: Matrix<N>,
        b: Matrix<N>,
    ) {
        let tiles = MatrixMut::new(out, rows, columns, columns).tiles(BLOCK, BLOCK);
        tiles.into_par_iter().for_each(|mut tile| {
            let a = a.rows(tile.row, tile.out.rows());
            let b = b.columns(tile.column, tile.out.columns());
            multiply(&mut tile.out, accumulate, a, b);
        });
    }
}
