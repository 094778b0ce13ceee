//! A weight in the order in which the kernel for windows reads it, and tiles of a product with it.
//! Windows are read where they are in the maps, without an im2col buffer.

use super::patches::Patches;
use super::prepared::Ending;
use crate::nn::matrix::{
    Factor, Finish, Matrix, MatrixMut, PANELS, TILE, Tile, Windows, multiply_windows,
};
use crate::nn::number::Number;
use crate::nn::ops::buffers::Buffer;
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// Factors that are multiplied and added up in one go, in registers: six rows of them stay in an L1
/// cache.
const SUMMED: usize = 256;

/// Size of the weights that are kept in an L2 cache while all rows of a block are multiplied with
/// them, in factors: 128 KiB.
const BAND: usize = 32 * 1024;

/// Panels of a weight that are packed together.
pub(super) const PACKED: usize = 8;

/// Columns that are computed together.
const WIDTH: usize = PANELS * TILE.1;

/// The least number of channels of a pixel that is read where it is.
const SHORT: usize = 16;

/// See the module.
pub(super) struct Packed<F> {
    parts: Parts,
    values: Buffer,
    /// Whether windows are gathered into rows, which then count as one tap.
    gathered: bool,
    factor: PhantomData<F>,
}

/// How windows are divided into parts that are summed in one go, and where a packed weight has the
/// rows of each: for each part, for each panel of `TILE.1` columns (the last one padded with
/// zeros), one row after the other.
pub(super) struct Parts {
    parts: Vec<Part>,
    panels: usize,
    /// Length of the packed weight.
    pub length: usize,
}

/// Whole taps, or some factors of one.
struct Part {
    taps: Range<usize>,
    factors: Range<usize>,
    /// Its first value in a packed weight.
    first: usize,
}

impl Part {
    fn depth(&self) -> usize {
        self.taps.len() * self.factors.len()
    }
}

/// A panel of a part in a packed weight, of a single tap.
pub(super) struct Panel {
    /// Its place in the packed weight.
    pub place: Range<usize>,
    pub factors: Range<usize>,
    /// The number of the panel.
    pub index: usize,
}

impl<F: Factor> Packed<F> {
    /// Packs a weight (depth, columns).
    pub(super) fn new(patches: &Patches, weight: &[f32], columns: usize) -> Packed<F> {
        let gathered = is_gathered(patches);
        let (taps, channels) = if gathered {
            (1, patches.depth())
        } else {
            (patches.taps.0 * patches.taps.1, patches.map.channels)
        };
        let weight = Matrix::new(weight, taps * channels, columns, columns);
        let parts = Parts::new(taps, channels.div_ceil(F::VALUES), columns);
        let mut values = Buffer::new(parts.length);
        let tiles = parts.tiles(F::view_mut(&mut values));
        tiles.into_par_iter().for_each(|(part, mut tile)| {
            let rows = part.taps.clone().flat_map(|tap| {
                part.factors.clone().map(move |factor| (tap * channels, factor * F::VALUES))
            });
            for (index, (first, channel)) in rows.enumerate() {
                let rows: Vec<&[f32]> = (channel..channels.min(channel + F::VALUES))
                    .map(|channel| weight.row(first + channel))
                    .collect();
                for panel in 0..tile.out.rows() {
                    let begin = (tile.row + panel) * TILE.1;
                    let taken = begin..columns.min(begin + TILE.1);
                    let target = &mut tile.out.row(panel)[index * TILE.1..(index + 1) * TILE.1];
                    F::pack(&rows, taken.clone(), &mut target[..taken.len()]);
                    target[taken.len()..].fill(F::ZERO);
                }
            }
        });
        Packed { parts, values, gathered, factor: PhantomData }
    }

    /// Computes one tile of the products of windows of `x`.
    pub(super) fn tile(&self, patches: &Patches, x: &[f32], ending: &Ending, tile: Tile) {
        let (first, rows) = (tile.row, tile.out.rows());
        let values = F::view(&self.values);
        if self.gathered {
            let depth = patches.depth();
            f32::with_scratch(rows * depth, |scratch| {
                patches.gather(x, first, scratch);
                F::with_rows(scratch, depth, |factors| {
                    let windows: Vec<&[F]> =
                        factors.chunks_exact(depth.div_ceil(F::VALUES)).collect();
                    self.parts.multiply(values, &windows, Some(ending), tile);
                });
            });
        } else {
            let channels = patches.map.channels;
            let pixels = patches.pixels(first..first + rows);
            let read = &x[pixels.start * channels..pixels.end * channels];
            F::with_rows(read, channels, |factors| {
                let outside = vec![F::ZERO; channels.div_ceil(F::VALUES)];
                let windows =
                    windows(patches, factors, pixels.start, first..first + rows, &outside);
                self.parts.multiply(values, &windows, Some(ending), tile);
            });
        }
    }
}

/// Whether windows are gathered into rows: pixels of few channels are too short to be read one by
/// one, and of those between single taps there is no use.
fn is_gathered(patches: &Patches) -> bool {
    (patches.map.channels < SHORT || patches.taps == (1, 1)) && !patches.is_identity()
}

impl Parts {
    /// For a weight of `columns` columns and taps of `factors` factors.
    pub(super) fn new(taps: usize, factors: usize, columns: usize) -> Parts {
        let panels = columns.div_ceil(TILE.1);
        let together = (SUMMED / factors).clamp(1, taps);
        let together = taps.div_ceil(taps.div_ceil(together));
        let piece = factors.div_ceil(factors.div_ceil(SUMMED));
        let (mut parts, mut length) = (Vec::new(), 0);
        for tap in (0..taps).step_by(together) {
            for factor in (0..factors).step_by(piece) {
                let part = Part {
                    taps: tap..taps.min(tap + together),
                    factors: factor..factors.min(factor + piece),
                    first: length,
                };
                length += part.depth() * panels * TILE.1;
                parts.push(part);
            }
        }
        Parts { parts, panels, length }
    }

    /// The panels of all parts, in order.
    pub(super) fn panels(&self) -> impl Iterator<Item = Panel> {
        self.parts.iter().flat_map(|part| {
            let size = part.depth() * TILE.1;
            (0..self.panels).map(move |index| Panel {
                place: part.first + index * size..part.first + (index + 1) * size,
                factors: part.factors.clone(),
                index,
            })
        })
    }

    /// The parts of a packed weight, some panels at a time: rows of the weight are read in pieces
    /// of several cache lines.
    fn tiles<'a, F>(&self, values: &'a mut [F]) -> Vec<(&Part, Tile<'a, F>)> {
        let mut rest = values;
        let mut tiles = Vec::new();
        for part in &self.parts {
            let size = part.depth() * TILE.1;
            let (values, after) = rest.split_at_mut(self.panels * size);
            let panels = MatrixMut::new(values, self.panels, size, size).tiles(PACKED, size);
            tiles.extend(panels.into_iter().map(|tile| (part, tile)));
            rest = after;
        }
        tiles
    }

    /// Computes one tile of the product of `windows`, given as [`windows`] returns them, and a
    /// packed weight. Without an ending the tile is overwritten with the sums.
    pub(super) fn multiply<F: Factor>(
        &self,
        values: &[F],
        windows: &[&[F]],
        ending: Option<&Ending>,
        tile: Tile,
    ) {
        let Tile { row: first_row, column: first_column, mut out } = tile;
        let (rows, columns) = (out.rows(), out.columns());
        let taps = windows.len() / rows;
        let residual = ending
            .and_then(|ending| ending.residual)
            .map(|residual| residual.rows(first_row, rows).columns(first_column, columns));
        let accumulate = ending.is_some_and(|ending| ending.accumulate);
        let mut cut: Vec<&[F]> = Vec::with_capacity(windows.len());
        for (index, part) in self.parts.iter().enumerate() {
            cut.clear();
            for row in (0..rows).step_by(TILE.0) {
                let count = TILE.0.min(rows - row);
                let group = &windows[row * taps..][part.taps.start * count..part.taps.end * count];
                cut.extend(group.iter().map(|tap| &tap[part.factors.clone()]));
            }
            let last = ending.filter(|_| index + 1 == self.parts.len());
            let panel = part.depth() * TILE.1;
            let band = (BAND / (PANELS * panel)).max(1) * WIDTH;
            for begin in (0..columns).step_by(band) {
                for row in (0..rows).step_by(TILE.0) {
                    let count = TILE.0.min(rows - row);
                    let taps = &cut[row * part.taps.len()..][..count * part.taps.len()];
                    for column in (begin..columns.min(begin + band)).step_by(WIDTH) {
                        let width = WIDTH.min(columns - column);
                        let at = first_column + column;
                        let weight = &values[part.first + at / TILE.1 * panel..];
                        let weight = &weight[..width.div_ceil(TILE.1) * panel];
                        let finish = last.map(|ending| Finish {
                            shift: &ending.shift[at..at + width],
                            residual: residual
                                .map(|residual| residual.rows(row, count).columns(column, width)),
                            floor: ending.floor,
                        });
                        let windows = Windows { taps, rows: count, columns: width, weight };
                        multiply_windows(
                            &mut out,
                            (row, column),
                            &windows,
                            accumulate || index > 0,
                            finish.as_ref(),
                        );
                    }
                }
            }
        }
    }
}

/// The pixels that windows `rows` read: for each group of `TILE.0` windows, for each tap, that of
/// each window; `outside` where it is outside the map. `factors` are those of the pixels from
/// `begin` on, counted over all maps.
fn windows<'a, F>(
    patches: &Patches,
    factors: &'a [F],
    begin: usize,
    rows: Range<usize>,
    outside: &'a [F],
) -> Vec<&'a [F]> {
    let Patches { map, taps, .. } = *patches;
    let length = outside.len();
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
                let pixel = (image * map.height + y as usize) * map.width + column as usize;
                &factors[(pixel - begin) * length..][..length]
            }));
        }
    }
    found
}
