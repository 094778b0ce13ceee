//! A weight in the order in which the kernel for windows reads it, and tiles of a product with it.
//! Windows are read where they are in the maps, without an im2col buffer.

use crate::nn::compiled::Epilogue;
use crate::nn::matrix::{Finish, Matrix, TILE, Tile, Windows, multiply_windows};
use crate::nn::number::Number;
use crate::nn::ops::convolution::patches::Patches;
use std::ops::Range;

/// Rows of a product that are computed together: their part of a window stays in an L2 cache.
pub(super) const BLOCK: usize = 126;

/// Products that are added up in one go, in registers: six rows of them stay in an L1 cache.
const SUMMED: usize = 256;

/// Size of the weights that are kept in an L2 cache while all rows of a block are multiplied with
/// them, in values: 128 KiB.
const BAND: usize = 32 * 1024;

/// Maps of fewer channels are gathered into rows first: their pixels are too short to be read one
/// by one.
const SHORT: usize = 16;

/// See the module.
pub(super) struct Packed {
    parts: Vec<Part>,
    /// For each part, for each panel of `TILE.1` columns (the last one padded with zeros), its rows
    /// of the weight.
    values: Vec<f32>,
    /// Whether windows are gathered into rows, which then count as one tap.
    gathered: bool,
}

/// A part of a window that is summed in one go: whole taps, or some channels of one.
struct Part {
    taps: Range<usize>,
    channels: Range<usize>,
    /// Its first value in `values`.
    first: usize,
}

impl Part {
    fn depth(&self) -> usize {
        self.taps.len() * self.channels.len()
    }
}

/// At least as large, without a part of a register tile at the end.
pub(super) fn whole_tiles(rows: usize, columns: usize) -> (usize, usize) {
    (rows.next_multiple_of(TILE.0), columns.next_multiple_of(TILE.1))
}

impl Packed {
    /// Packs a weight (depth, columns).
    pub(super) fn new(patches: &Patches, weight: &[f32], columns: usize) -> Packed {
        let gathered = patches.map.channels < SHORT && !patches.is_identity();
        let (taps, channels) = if gathered {
            (1, patches.depth())
        } else {
            (patches.taps.0 * patches.taps.1, patches.map.channels)
        };
        let weight = Matrix::new(weight, taps * channels, columns, columns);
        let panels = columns.div_ceil(TILE.1);
        let mut values = Vec::with_capacity(taps * channels * panels * TILE.1);
        let mut parts = Vec::new();
        let together = (SUMMED / channels).clamp(1, taps);
        let piece = channels.div_ceil(channels.div_ceil(SUMMED));
        for tap in (0..taps).step_by(together) {
            for channel in (0..channels).step_by(piece) {
                let part = Part {
                    taps: tap..taps.min(tap + together),
                    channels: channel..channels.min(channel + piece),
                    first: values.len(),
                };
                for panel in 0..panels {
                    let columns = panel * TILE.1..columns.min((panel + 1) * TILE.1);
                    append(&mut values, &part, weight, channels, columns);
                }
                parts.push(part);
            }
        }
        Packed { parts, values, gathered }
    }

    /// Computes one tile.
    pub(super) fn tile(
        &self,
        patches: &Patches,
        x: &[f32],
        epilogue: &Epilogue,
        residual: Option<Matrix>,
        tile: Tile,
    ) {
        let (first, rows) = (tile.row, tile.out.rows());
        if self.gathered {
            let depth = patches.depth();
            f32::with_scratch(rows * depth, |scratch| {
                patches.gather(x, first, scratch);
                let windows: Vec<&[f32]> = scratch.chunks_exact(depth).collect();
                self.multiply(&windows, epilogue, residual, tile);
            });
        } else {
            let outside = vec![0.0; patches.map.channels];
            let windows = windows(patches, x, first..first + rows, &outside);
            self.multiply(&windows, epilogue, residual, tile);
        }
    }

    /// `windows` as [`windows`] returns them.
    fn multiply(
        &self,
        windows: &[&[f32]],
        epilogue: &Epilogue,
        residual: Option<Matrix>,
        tile: Tile,
    ) {
        let Tile { column: first_column, mut out, .. } = tile;
        let (rows, columns) = (out.rows(), out.columns());
        let taps = windows.len() / rows;
        let mut cut: Vec<&[f32]> = Vec::with_capacity(windows.len());
        for (index, part) in self.parts.iter().enumerate() {
            cut.clear();
            for row in (0..rows).step_by(TILE.0) {
                let count = TILE.0.min(rows - row);
                let group = &windows[row * taps..][part.taps.start * count..part.taps.end * count];
                cut.extend(group.iter().map(|tap| &tap[part.channels.clone()]));
            }
            let last = index + 1 == self.parts.len();
            let panel = part.depth() * TILE.1;
            let band = (BAND / panel).max(1) * TILE.1;
            for begin in (0..columns).step_by(band) {
                for row in (0..rows).step_by(TILE.0) {
                    let count = TILE.0.min(rows - row);
                    let taps = &cut[row * part.taps.len()..][..count * part.taps.len()];
                    for column in (begin..columns.min(begin + band)).step_by(TILE.1) {
                        let width = TILE.1.min(columns - column);
                        let at = first_column + column;
                        let weight = &self.values[part.first + at / TILE.1 * panel..][..panel];
                        let finish = last.then(|| Finish {
                            shift: &epilogue.shift[at..at + width],
                            residual: residual
                                .map(|residual| residual.rows(row, count).columns(column, width)),
                            floor: epilogue.floor(),
                        });
                        let windows = Windows { taps, rows: count, weight };
                        let accumulate = index > 0;
                        multiply_windows(
                            &mut out,
                            (row, column),
                            &windows,
                            accumulate,
                            finish.as_ref(),
                        );
                    }
                }
            }
        }
    }
}

/// Appends some columns of a part's rows of a weight, padded to a panel.
fn append(
    values: &mut Vec<f32>,
    part: &Part,
    weight: Matrix,
    channels: usize,
    columns: Range<usize>,
) {
    for tap in part.taps.clone() {
        for channel in part.channels.clone() {
            let row = &weight.row(tap * channels + channel)[columns.clone()];
            values.extend_from_slice(row);
            values.resize(values.len() + TILE.1 - row.len(), 0.0);
        }
    }
}

/// The pixels that windows `rows` read: for each group of `TILE.0` windows, for each tap, that of
/// each window; `outside` where it is outside the map.
fn windows<'a>(
    patches: &Patches,
    x: &'a [f32],
    rows: Range<usize>,
    outside: &'a [f32],
) -> Vec<&'a [f32]> {
    let Patches { map, taps, .. } = *patches;
    let mut found = Vec::with_capacity(rows.len() * taps.0 * taps.1);
    for first in rows.clone().step_by(TILE.0) {
        let group = first..rows.end.min(first + TILE.0);
        let corners: Vec<(usize, isize, isize)> = group.map(|row| patches.corner(row)).collect();
        for tap in 0..taps.0 * taps.1 {
            let (down, right) = ((tap / taps.1) as isize, (tap % taps.1) as isize);
            found.extend(corners.iter().map(|&(image, top, left)| {
                let (y, column) = (top + down, left + right);
                let inside = (0..map.height as isize).contains(&y)
                    && (0..map.width as isize).contains(&column);
                if !inside {
                    return outside;
                }
                let pixel = y as usize * map.width + column as usize;
                &x[image * map.len() + pixel * map.channels..][..map.channels]
            }));
        }
    }
    found
}
