//! A weight in the order in which the kernel for windows reads it, and tiles of a product with it.
//! Windows are read where they are in the maps, without an im2col buffer.

use super::patches::Patches;
use super::prepared::Ending;
use crate::nn::matrix::{Finish, Matrix, TILE, Tile, Windows, multiply_windows};
use crate::nn::number::Number;
use crate::nn::ops::buffers::Buffer;
use rayon::prelude::*;
use std::ops::Range;

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
    parts: Parts,
    values: Buffer,
    /// Whether windows are gathered into rows, which then count as one tap.
    gathered: bool,
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

/// Whole taps, or some channels of one.
struct Part {
    taps: Range<usize>,
    channels: Range<usize>,
    /// Its first value in a packed weight.
    first: usize,
}

impl Part {
    fn depth(&self) -> usize {
        self.taps.len() * self.channels.len()
    }
}

/// A panel of a part in a packed weight.
pub(super) struct Panel {
    /// First value and number of values in the packed weight.
    pub place: Range<usize>,
    pub taps: Range<usize>,
    pub channels: Range<usize>,
    /// The number of the panel.
    pub index: usize,
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
        let parts = Parts::new(taps, channels, columns);
        let mut values = Buffer::new(parts.length);
        parts.bands(&mut values).into_par_iter().for_each(|(panel, band)| {
            let columns = panel.index * TILE.1..columns.min((panel.index + 1) * TILE.1);
            let rows = panel.taps.flat_map(|tap| {
                panel.channels.clone().map(move |channel| tap * channels + channel)
            });
            for (row, target) in rows.zip(band.chunks_exact_mut(TILE.1)) {
                target[..columns.len()].copy_from_slice(&weight.row(row)[columns.clone()]);
                target[columns.len()..].fill(0.0);
            }
        });
        Packed { parts, values, gathered }
    }

    /// Computes one tile of the products of windows of `x`.
    pub(super) fn tile(&self, patches: &Patches, x: &[f32], ending: &Ending, tile: Tile) {
        let (first, rows) = (tile.row, tile.out.rows());
        if self.gathered {
            let depth = patches.depth();
            f32::with_scratch(rows * depth, |scratch| {
                patches.gather(x, first, scratch);
                let windows: Vec<&[f32]> = scratch.chunks_exact(depth).collect();
                self.parts.multiply(&self.values, &windows, Some(ending), tile);
            });
        } else {
            let outside = vec![0.0; patches.map.channels];
            let windows = windows(patches, x, first..first + rows, &outside);
            self.parts.multiply(&self.values, &windows, Some(ending), tile);
        }
    }
}

impl Parts {
    /// For a weight of `columns` columns.
    pub(super) fn new(taps: usize, channels: usize, columns: usize) -> Parts {
        let panels = columns.div_ceil(TILE.1);
        let together = (SUMMED / channels).clamp(1, taps);
        let piece = channels.div_ceil(channels.div_ceil(SUMMED));
        let (mut parts, mut length) = (Vec::new(), 0);
        for tap in (0..taps).step_by(together) {
            for channel in (0..channels).step_by(piece) {
                let part = Part {
                    taps: tap..taps.min(tap + together),
                    channels: channel..channels.min(channel + piece),
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
                taps: part.taps.clone(),
                channels: part.channels.clone(),
                index,
            })
        })
    }

    /// The panels, with their values of a packed weight.
    fn bands<'a>(&self, values: &'a mut [f32]) -> Vec<(Panel, &'a mut [f32])> {
        let mut rest = values;
        let mut bands = Vec::new();
        for panel in self.panels() {
            let (band, after) = rest.split_at_mut(panel.place.len());
            bands.push((panel, band));
            rest = after;
        }
        bands
    }

    /// Computes one tile of the product of `windows`, given as [`windows`] returns them, and a
    /// packed weight. Without an ending the tile is overwritten with the sums.
    pub(super) fn multiply(
        &self,
        values: &[f32],
        windows: &[&[f32]],
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
        let mut cut: Vec<&[f32]> = Vec::with_capacity(windows.len());
        for (index, part) in self.parts.iter().enumerate() {
            cut.clear();
            for row in (0..rows).step_by(TILE.0) {
                let count = TILE.0.min(rows - row);
                let group = &windows[row * taps..][part.taps.start * count..part.taps.end * count];
                cut.extend(group.iter().map(|tap| &tap[part.channels.clone()]));
            }
            let last = ending.filter(|_| index + 1 == self.parts.len());
            let panel = part.depth() * TILE.1;
            let band = (BAND / panel).max(1) * TILE.1;
            for begin in (0..columns).step_by(band) {
                for row in (0..rows).step_by(TILE.0) {
                    let count = TILE.0.min(rows - row);
                    let taps = &cut[row * part.taps.len()..][..count * part.taps.len()];
                    for column in (begin..columns.min(begin + band)).step_by(TILE.1) {
                        let width = TILE.1.min(columns - column);
                        let at = first_column + column;
                        let weight = &values[part.first + at / TILE.1 * panel..][..panel];
                        let finish = last.map(|ending| Finish {
                            shift: &ending.shift[at..at + width],
                            residual: residual
                                .map(|residual| residual.rows(row, count).columns(column, width)),
                            floor: ending.floor,
                        });
                        let windows = Windows { taps, rows: count, weight };
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
