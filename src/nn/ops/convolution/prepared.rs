//! Products of windows with a weight that is in the order in which the processor's kernels read it.
//! A row of the result doesn't depend on the other rows, nor on how the work is divided.

use super::packed::Packed;
use super::patches::Patches;
use super::winograd::{Winograd, bands};
use crate::nn::matrix::{Factor, Matrix, MatrixMut, PANELS, Pair, TILE, has_kernels};
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
    Own(Way<f32>),
    Bf16(Way<Pair>),
}

/// How windows are multiplied.
enum Way<F> {
    Packed(Packed<F>),
    Winograd(Winograd<F>),
}

/// Rows of a product that are computed together: their part of a window stays in an L2 cache.
const BLOCK: usize = 126;
/// Tiles wanted of a product, so that several threads have work.
const TILES: usize = 16;
/// The least number of columns of a tile.
const NARROW: usize = 128;

impl Prepared {
    /// Prepares a weight (depth, columns); `None` where the processor has no kernel.
    pub(crate) fn new(
        patches: &Patches,
        weight: &[f32],
        columns: usize,
        products: Products,
    ) -> Option<Prepared> {
        let weight = match products {
            Products::Bf16 => Weight::Bf16(Way::new(patches, weight, columns)),
            Products::Own if has_kernels() => Weight::Own(Way::new(patches, weight, columns)),
            Products::Own => return None,
        };
        Some(Prepared { patches: *patches, columns, weight })
    }

    /// Computes the windows of the maps `x`.
    pub(crate) fn run(&self, x: &[f32], ending: &Ending, out: &mut [f32]) {
        let rows = out.len() / self.columns;
        let out = MatrixMut::new(out, rows, self.columns, self.columns);
        match &self.weight {
            Weight::Own(way) => way.run(&self.patches, x, ending, out),
            Weight::Bf16(way) => way.run(&self.patches, x, ending, out),
        }
    }
}

impl<F: Factor> Way<F> {
    fn new(patches: &Patches, weight: &[f32], columns: usize) -> Way<F> {
        match Winograd::<F>::is_for(patches, columns) {
            true => Way::Winograd(Winograd::new(weight, patches.map.channels, columns)),
            false => Way::Packed(Packed::new(patches, weight, columns)),
        }
    }

    fn run(&self, patches: &Patches, x: &[f32], ending: &Ending, out: MatrixMut) {
        let (rows, columns) = (out.rows(), out.columns());
        match self {
            Way::Packed(packed) => {
                let blocks = rows.div_ceil(BLOCK).max(1);
                let height = rows.div_ceil(blocks).next_multiple_of(TILE.0);
                let tiles = out.tiles(height, width(columns, blocks));
                tiles.into_par_iter().for_each(|tile| packed.tile(patches, x, ending, tile));
            }
            Way::Winograd(winograd) => {
                let bands = bands(patches, rows / patches.rows_per_image());
                let tiles = out.bands(&bands, width(columns, bands.len()));
                tiles.into_par_iter().for_each(|tile| winograd.tile(patches, x, ending, tile));
            }
        }
    }
}

/// Columns of a tile, where there are `blocks` of rows.
fn width(columns: usize, blocks: usize) -> usize {
    let parts = (TILES / blocks).clamp(1, columns.div_ceil(NARROW));
    columns.div_ceil(parts).next_multiple_of(PANELS * TILE.1)
}
