//! Products of windows with a weight that is in the order in which the processor's kernels read it.
//! A row of the result doesn't depend on the other rows, nor on how the work is divided.

use super::packed::Packed;
use super::patches::Patches;
use super::winograd::{Winograd, bands};
use crate::nn::matrix::{Factor, Matrix, MatrixMut, PANELS, Pair, TILE, Tile, has_kernels};
use crate::nn::ops::Products;
use rayon::prelude::*;

/// What becomes of the sums of a product: the maximum of `floor` and old + sum + shift + residual.
#[derive(Clone, Copy)]
pub(crate) struct Ending<'a> {
    /// Whether the sums are added to what the output was.
    pub accumulate: bool,
    /// One value per column.
    pub shift: &'a [f32],
    /// As large as the output.
    pub residual: Option<Matrix<'a>>,
    pub floor: f32,
}

/// A weight, for windows of one kind.
pub(crate) struct Prepared {
    patches: Patches,
    columns: usize,
    weight: Weight,
}

enum Weight {
    Packed(Packed<f32>),
    Bf16(Packed<Pair>),
    Winograd(Winograd),
}

/// Rows of a product that are computed together: their part of a window stays in an L2 cache.
const BLOCK: usize = 126;
/// Tiles wanted of a product, so that several threads have work.
const TILES: usize = 16;
/// The least number of columns of a tile.
const NARROW: usize = 128;

impl Prepared {
    /// Prepares a weight (depth, columns); `None` where `gemm` is better at it.
    pub(crate) fn new(
        patches: &Patches,
        weight: &[f32],
        columns: usize,
        products: Products,
    ) -> Option<Prepared> {
        let weight = if products == Products::Bf16 {
            Weight::Bf16(Packed::new(patches, weight, columns))
        } else if Winograd::is_for(patches, columns) {
            Weight::Winograd(Winograd::new(weight, patches.map.channels, columns))
        } else if has_kernels() {
            Weight::Packed(Packed::new(patches, weight, columns))
        } else {
            return None;
        };
        Some(Prepared { patches: *patches, columns, weight })
    }

    /// Computes the windows of the maps `x`.
    pub(crate) fn run(&self, x: &[f32], ending: &Ending, out: &mut [f32]) {
        let rows = out.len() / self.columns;
        let out = MatrixMut::new(out, rows, self.columns, self.columns);
        match &self.weight {
            Weight::Packed(packed) => self.run_packed(packed, x, ending, out),
            Weight::Bf16(packed) => self.run_packed(packed, x, ending, out),
            Weight::Winograd(winograd) => {
                let bands = bands(&self.patches, rows / self.patches.rows_per_image());
                let tiles = out.bands(&bands, self.width(bands.len()));
                tiles
                    .into_par_iter()
                    .for_each(|tile| winograd.tile(&self.patches, x, ending, tile));
            }
        }
    }

    fn run_packed<F: Factor>(
        &self,
        packed: &Packed<F>,
        x: &[f32],
        ending: &Ending,
        out: MatrixMut,
    ) {
        let blocks = out.rows().div_ceil(BLOCK).max(1);
        let height = out.rows().div_ceil(blocks).next_multiple_of(TILE.0);
        let tiles: Vec<Tile> = out.tiles(height, self.width(blocks));
        tiles.into_par_iter().for_each(|tile| packed.tile(&self.patches, x, ending, tile));
    }

    /// Columns of a tile, where there are `blocks` of rows.
    fn width(&self, blocks: usize) -> usize {
        let parts = (TILES / blocks).clamp(1, self.columns.div_ceil(NARROW));
        self.columns.div_ceil(parts).next_multiple_of(PANELS * TILE.1)
    }
}
