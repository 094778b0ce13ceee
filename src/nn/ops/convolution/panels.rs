//! Gradients by a weight as products of two packed factors: panels of 16 channels, in which each
//! pixel's values lie one after the other.

use super::Geometry;
use crate::nn::matrix::{Factor, Matrix, MatrixMut, Outer, PANELS, TILE, Tile, multiply_outer};
use crate::nn::ops::buffers::Buffer;
use rayon::prelude::*;

/// Channels in a panel.
pub(super) const PANEL: usize = TILE.1;

/// Size of the factors that are multiplied in one go, in values: 8 MiB.
pub(super) const MULTIPLIED: usize = 2 << 20;

/// The channels of a panel that are multiplied together: as many as the kernel takes.
const GROUPS: [(usize, usize); 3] = [(0, 6), (6, 11), (11, 16)];

/// Rows of factors that are packed by one task.
const PACKED: usize = 64;

/// Tiles wanted of a product, so that several threads have work.
const TILES: usize = 16;

/// dW into `out`, of products of factors of one kind; adds to `out` where `accumulate`.
pub(super) fn by_weight<F: Factor>(
    x: &[f32],
    dy: &[f32],
    geometry: &Geometry,
    accumulate: bool,
    out: &mut [f32],
) {
    let patches = geometry.patches();
    let (depth, columns) = (patches.depth(), geometry.output.channels);
    let rows = geometry.batch * patches.rows_per_image();
    let panels = (depth.div_ceil(PANEL), columns.div_ceil(PANEL));
    let most = (MULTIPLIED / (PANEL * (panels.0 + panels.1))).max(PACKED) * F::VALUES;
    let together = rows.div_ceil(rows.div_ceil(most)).next_multiple_of(F::VALUES);
    let [mut left, mut right] =
        [panels.0, panels.1].map(|panels| Buffer::new(panels * PANEL * together / F::VALUES));
    let parts = TILES.div_ceil(panels.0).clamp(1, panels.1.div_ceil(PANELS));
    let width = panels.1.div_ceil(parts).next_multiple_of(PANELS) * PANEL;
    for first in (0..rows).step_by(together) {
        let count = together.min(rows - first);
        let size = PANEL * count.div_ceil(F::VALUES);
        let (left, right) = (&mut left[..panels.0 * size], &mut right[..panels.1 * size]);
        // The rows of a tile, of which the last factor may be part.
        let range = |tile: &Tile<F>| {
            let row = tile.column / PANEL * F::VALUES;
            (first + row, (tile.out.columns() / PANEL * F::VALUES).min(count - row))
        };
        tiles_of(left, panels.0, size).into_par_iter().for_each(|mut tile| {
            let (row, taken) = range(&tile);
            patches.with_rows(x, row, taken, |rows| pack(rows, taken, &mut tile.out));
        });
        tiles_of(right, panels.1, size).into_par_iter().for_each(|mut tile| {
            let (row, taken) = range(&tile);
            let rows = Matrix::new(&dy[row * columns..], taken, columns, columns);
            pack(rows, taken, &mut tile.out);
        });
        let (left, right) = (F::view(left), F::view(right));
        multiply_panels(
            MatrixMut::new(out, depth, columns, columns).tiles(PANEL, width),
            |row| &left[row / PANEL * size..][..size],
            |_, column| &right[column / PANEL * size..][..size],
            accumulate || first > 0,
        );
    }
}

/// The parts of a packed factor, of panels of `size`, that are made by one task each.
fn tiles_of<F: Factor>(factor: &mut [f32], panels: usize, size: usize) -> Vec<Tile<'_, F>> {
    MatrixMut::new(F::view_mut(factor), panels, size, size).tiles(panels, PACKED * PANEL)
}

/// Writes the first `count` rows to panels, the rows of `out`; the last panel is padded with zeros.
fn pack<F: Factor>(rows: Matrix, count: usize, out: &mut MatrixMut<F>) {
    for (index, first) in (0..count).step_by(F::VALUES).enumerate() {
        let taken: Vec<&[f32]> =
            (first..count.min(first + F::VALUES)).map(|row| rows.row(row)).collect();
        let columns = taken[0].len();
        for panel in 0..columns.div_ceil(PANEL) {
            let place = panel * PANEL..columns.min((panel + 1) * PANEL);
            let target = &mut out.row(panel)[index * PANEL..(index + 1) * PANEL];
            F::pack(&taken, place.clone(), &mut target[..place.len()]);
            target[place.len()..].fill(F::ZERO);
        }
    }
}

/// Computes tiles, at most a panel high, of the product of the transpose of one packed factor and
/// another; adds to them where `accumulate`. `left` returns the panel of a tile's row, `right` that
/// of its row and a column.
pub(super) fn multiply_panels<'a, F: Factor>(
    tiles: Vec<Tile>,
    left: impl Fn(usize) -> &'a [F] + Sync,
    right: impl Fn(usize, usize) -> &'a [F] + Sync,
    accumulate: bool,
) {
    tiles.into_par_iter().for_each(|mut tile| {
        let width = tile.out.columns();
        for column in (0..width).step_by(PANELS * PANEL) {
            let left = left(tile.row);
            let panels = (column..width.min(column + PANELS * PANEL)).step_by(PANEL);
            let right: Vec<&[F]> =
                panels.map(|column| right(tile.row, tile.column + column)).collect();
            for (first, last) in GROUPS {
                let columns = first..last.min(tile.out.rows());
                if !columns.is_empty() {
                    let outer = Outer { left, columns, right: &right };
                    multiply_outer(&mut tile.out, (first, column), &outer, accumulate);
                }
            }
        }
    });
}
