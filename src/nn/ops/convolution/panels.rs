//! Gradients by a weight as products of two packed factors: panels of 16 channels, in which each
//! pixel's values lie one after the other.

use super::Geometry;
use crate::nn::matrix::{Matrix, MatrixMut, Outer, TILE, Tile, multiply_outer};
use crate::nn::ops::buffers::Buffer;
use rayon::prelude::*;

/// Channels in a panel.
pub(super) const PANEL: usize = TILE.1;

/// Size of the factors that are multiplied in one go, in values: 8 MiB.
pub(super) const MULTIPLIED: usize = 2 << 20;

/// The channels of a panel that are multiplied together: as many as the kernel takes.
const GROUPS: [(usize, usize); 3] = [(0, 6), (6, 11), (11, 16)];

/// Rows that are packed by one task.
const PACKED: usize = 64;

/// Tiles wanted of a product, so that several threads have work.
const TILES: usize = 16;

/// dW into `out`; adds to `out` where `accumulate`.
pub(super) fn by_weight(
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
    let most = (MULTIPLIED / (PANEL * (panels.0 + panels.1))).max(PACKED);
    let together = rows.div_ceil(rows.div_ceil(most));
    let [mut left, mut right] =
        [panels.0, panels.1].map(|panels| Buffer::new(panels * PANEL * together));
    let parts = TILES.div_ceil(panels.0).clamp(1, panels.1);
    let width = panels.1.div_ceil(parts) * PANEL;
    for first in (0..rows).step_by(together) {
        let count = together.min(rows - first);
        let size = PANEL * count;
        let (left, right) = (&mut left[..panels.0 * size], &mut right[..panels.1 * size]);
        MatrixMut::new(left, panels.0, size, size)
            .tiles(panels.0, PACKED * PANEL)
            .into_par_iter()
            .for_each(|mut tile| {
                let (row, taken) = (tile.column / PANEL, tile.out.columns() / PANEL);
                patches.with_rows(x, first + row, taken, |rows| pack(rows, taken, &mut tile.out));
            });
        MatrixMut::new(right, panels.1, size, size)
            .tiles(panels.1, PACKED * PANEL)
            .into_par_iter()
            .for_each(|mut tile| {
                let (row, taken) = (tile.column / PANEL, tile.out.columns() / PANEL);
                let rows = Matrix::new(&dy[(first + row) * columns..], taken, columns, columns);
                pack(rows, taken, &mut tile.out);
            });
        multiply_panels(
            MatrixMut::new(out, depth, columns, columns).tiles(PANEL, width),
            |row| &left[row / PANEL * size..][..size],
            |_, column| &right[column / PANEL * size..][..size],
            accumulate || first > 0,
        );
    }
}

/// Writes the first `count` rows to panels, the rows of `out`; the last panel is padded with zeros.
fn pack(rows: Matrix, count: usize, out: &mut MatrixMut) {
    for index in 0..count {
        let (whole, rest) = rows.row(index).as_chunks::<PANEL>();
        let place = index * PANEL..(index + 1) * PANEL;
        for (panel, values) in whole.iter().enumerate() {
            out.row(panel)[place.clone()].copy_from_slice(values);
        }
        if !rest.is_empty() {
            let last = &mut out.row(whole.len())[place];
            last[..rest.len()].copy_from_slice(rest);
            last[rest.len()..].fill(0.0);
        }
    }
}

/// Computes tiles, at most a panel high, of the product of the transpose of one packed factor and
/// another; adds to them where `accumulate`. `left` returns the panel of a tile's row, `right` that
/// of its row and a column.
pub(super) fn multiply_panels<'a>(
    tiles: Vec<Tile>,
    left: impl Fn(usize) -> &'a [f32] + Sync,
    right: impl Fn(usize, usize) -> &'a [f32] + Sync,
    accumulate: bool,
) {
    tiles.into_par_iter().for_each(|mut tile| {
        for column in (0..tile.out.columns()).step_by(PANEL) {
            let (left, right) = (left(tile.row), right(tile.row, tile.column + column));
            for (first, last) in GROUPS {
                let columns = first..last.min(tile.out.rows());
                if !columns.is_empty() {
                    let outer = Outer { left, columns, right };
                    multiply_outer(&mut tile.out, (first, column), &outer, accumulate);
                }
            }
        }
    });
}
