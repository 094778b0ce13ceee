//! Convolutions and linear layers of compiled networks: windows of maps times a weight, a tile at a
//! time, with the epilogue while the tile is in the cache. An image's output doesn't depend on the
//! tiles or on the other images.

use super::Epilogue;
use crate::nn::matrix::{Matrix, MatrixMut, Tile, multiply};
use crate::nn::number::Number;
use crate::nn::ops::Products;
use crate::nn::ops::convolution::patches::{Patches, block_rows};
use crate::nn::ops::convolution::prepared::{Ending, Prepared};
use rayon::prelude::*;

/// Convolution or linear layer: im2col rows times a weight.
pub(super) struct Product {
    patches: Patches,
    /// (depth, columns), row-major; empty once prepared.
    pub weight: Vec<f32>,
    prepared: Option<Box<Prepared>>,
    /// Rows of a block, where the weight isn't prepared.
    rows: usize,
    pub epilogue: Epilogue,
}

/// Columns of a block of a linear layer where the weight isn't prepared.
const LINEAR_COLUMNS: usize = 256;
/// Rows of such a block: few, as a short batch is padded to them.
const LINEAR_ROWS: usize = 16;

fn is_linear(patches: &Patches) -> bool {
    patches.is_identity() && patches.rows_per_image() == 1
}

impl Product {
    /// For `images` that are processed together.
    pub(super) fn new(
        patches: Patches,
        weight: Vec<f32>,
        epilogue: Epilogue,
        images: usize,
    ) -> Product {
        let total = images * patches.rows_per_image();
        let blocks = total.div_ceil(block_rows(patches.depth()).max(112)).max(1);
        let rows = if is_linear(&patches) {
            LINEAR_ROWS
        } else {
            total.div_ceil(blocks).next_multiple_of(8)
        };
        Product { patches, weight, prepared: None, rows, epilogue }
    }

    /// Prepares the weight for the processor's kernel, if there is one.
    pub(super) fn prepare(&mut self, products: Products) {
        let prepared = Prepared::new(&self.patches, &self.weight, self.columns(), products);
        self.prepared = prepared.map(Box::new);
        if self.prepared.is_some() {
            self.weight = Vec::new();
        }
    }

    fn columns(&self) -> usize {
        self.epilogue.shift.len()
    }

    /// Computes the windows of the maps `x`, with a residual of the shape of `out`.
    pub(super) fn run(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let columns = self.columns();
        let rows = out.len() / columns;
        let residual = residual.map(|residual| Matrix::new(residual, rows, columns, columns));
        if let Some(prepared) = &self.prepared {
            let (shift, floor) = (&self.epilogue.shift[..], self.epilogue.floor());
            return prepared.run(x, &Ending { accumulate: false, shift, residual, floor }, out);
        }
        let width = if is_linear(&self.patches) { LINEAR_COLUMNS } else { columns };
        let tiles = MatrixMut::new(out, rows, columns, columns).tiles(self.rows, width);
        tiles.into_par_iter().for_each(|tile| {
            let residual = residual.map(|residual| {
                residual.rows(tile.row, tile.out.rows()).columns(tile.column, tile.out.columns())
            });
            self.block(x, residual, tile);
        });
    }

    /// Computes one block. A short last block is padded.
    fn block(&self, x: &[f32], residual: Option<Matrix>, tile: Tile) {
        let Tile { row, column, mut out } = tile;
        let (depth, rows, columns) = (self.patches.depth(), out.rows(), out.columns());
        let stride = self.columns();
        let weight = Matrix::new(&self.weight, depth, stride, stride).columns(column, columns);
        if rows == self.rows {
            self.patches
                .with_rows(x, row, rows, |windows| multiply(&mut out, false, windows, weight));
        } else {
            // The same stride as `out`, so that `gemm` makes the same choices.
            f32::with_scratch(self.rows * (depth + stride), |scratch| {
                let (windows, product) = scratch.split_at_mut(self.rows * depth);
                let (real, padding) = windows.split_at_mut(rows * depth);
                padding.fill(0.0);
                self.patches.gather(x, row, real);
                let windows = Matrix::new(windows, self.rows, depth, depth);
                let padded = &mut MatrixMut::new(product, self.rows, columns, stride);
                multiply(padded, false, windows, weight);
                for row in 0..rows {
                    out.row(row).copy_from_slice(padded.row(row));
                }
            });
        }
        for row in 0..rows {
            let residual = residual.as_ref().map(|residual| residual.row(row));
            self.epilogue.apply(out.row(row), column, residual);
        }
    }
}

#[cfg(test)]
mod tests;
