//! Convolutions of 3 x 3 taps at step 1 by F(2 x 2, 3 x 3): tiles of 4 x 4 input pixels that give
//! 2 x 2 output pixels are transformed, so that 16 products a channel pair and tile take the place
//! of 36. Rounding errors are about twice those of the direct product, and an infinite value makes
//! its whole tile NaN.

mod gradient;

pub(super) use gradient::{by_weight, is_for as gradient_is_for};

use super::packed::{PACKED, Panel, Parts};
use super::patches::Patches;
use super::prepared::Ending;
use crate::nn::matrix::transforms::{LANES, POINTS, of_input, of_weight, to_output};
use crate::nn::matrix::{Factor, MatrixMut, TILE, Tile, has_kernels, vectorized};
use crate::nn::number::Number;
use crate::nn::ops::buffers::Buffer;
use crate::nn::ops::chunks::at_least;
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// Tiles that are computed together: so many that transformed weights are read seldom, and so few
/// that transformed tiles stay in a cache.
const TOGETHER: usize = 96;

/// The least number of channels for which the transforms cost little.
const LEAST: usize = 32;

/// Values between the points of transformed tiles, so that they don't fall into the same sets of a
/// cache.
const GAP: usize = 16;

/// A transformed weight.
pub(super) struct Winograd<F> {
    parts: Parts,
    /// For each point, the packed weight (in, out).
    values: Buffer,
    factor: PhantomData<F>,
}

impl<F: Factor> Winograd<F> {
    /// Whether windows can be multiplied with a weight of `columns` columns this way, and faster.
    pub(super) fn is_for(patches: &Patches, columns: usize) -> bool {
        let channels = patches.map.channels;
        has_kernels()
            && patches.taps == (3, 3)
            && patches.step == (1, 1)
            && patches.grid.0.min(patches.grid.1) > 1
            && channels.min(columns) >= LEAST
            && channels.is_multiple_of(LANES)
            && columns.is_multiple_of(LANES)
    }

    /// Transforms a weight (9, `channels`, `columns`).
    pub(super) fn new(weight: &[f32], channels: usize, columns: usize) -> Winograd<F> {
        let parts = Parts::new(1, channels.div_ceil(F::VALUES), columns);
        let mut values = Buffer::new(POINTS * parts.length);
        let widths: Vec<usize> = parts.panels().map(|panel| panel.place.len()).collect();
        let points = MatrixMut::new(F::view_mut(&mut values), POINTS, parts.length, parts.length);
        let mut bands: Vec<(Panel, MatrixMut<F>)> =
            parts.panels().zip(points.columns_of(&widths)).collect();
        // Rows of the weight are read in pieces of several cache lines.
        bands.par_chunks_mut(PACKED).for_each(|bands| {
            let longest = bands.iter().map(|(panel, _)| panel.factors.len()).max().unwrap_or(0);
            let mut transformed = Transformed::default();
            for row in 0..longest {
                for (panel, band) in bands.iter_mut().filter(|(one, _)| row < one.factors.len()) {
                    let first = panel.index * TILE.1;
                    let width = TILE.1.min(columns - first);
                    let of_channel = |channel: usize, out: &mut MatrixMut| {
                        let tap =
                            |tap: usize| &weight[(tap * channels + channel) * columns + first..];
                        let taps = std::array::from_fn(|y| {
                            std::array::from_fn(|x| &tap(3 * y + x)[..width])
                        });
                        of_weight(&taps, out, false);
                    };
                    let begin = (panel.factors.start + row) * F::VALUES;
                    let range = begin..channels.min(begin + F::VALUES);
                    let mut out = band.part((0, row * TILE.1), POINTS, TILE.1);
                    transformed.write(range, width, of_channel, &mut out);
                }
            }
        });
        Winograd { parts, values, factor: PhantomData }
    }

    /// Computes some columns of a band of rows that [`bands`] names.
    pub(super) fn tile(&self, patches: &Patches, x: &[f32], ending: &Ending, tile: Tile) {
        let Tile { row, column, mut out } = tile;
        let places: Vec<Place> = places(patches, row..row + out.rows()).collect();
        let (count, channels, columns) = (places.len(), patches.map.channels, out.columns());
        let (stride, stride_out) = (count * channels + GAP, count * columns + GAP);
        f32::with_scratch(POINTS * (stride + stride_out), |scratch| {
            let (input, sums) = scratch.split_at_mut(POINTS * stride);
            transform_input(patches, x, &places, input, stride);
            let points = input.chunks_exact(stride).zip(sums.chunks_exact_mut(stride_out));
            let weights = F::view(&self.values).chunks_exact(self.parts.length);
            for (weight, (input, sums)) in weights.zip(points) {
                let out = MatrixMut::new(sums, count, columns, columns);
                F::with_rows(&input[..count * channels], channels, |factors| {
                    let rows: Vec<&[F]> =
                        factors.chunks_exact(channels.div_ceil(F::VALUES)).collect();
                    self.parts.multiply(weight, &rows, None, Tile { row: 0, column, out });
                });
            }
            finish(patches, &places, sums, stride_out, ending, (row, column), &mut out);
        });
    }
}

/// Transformed items such as channels or tiles: a panel's columns of all points, as many as are
/// packed to one factor.
#[derive(Default)]
struct Transformed([[[f32; TILE.1]; POINTS]; 2]);

impl Transformed {
    /// Writes the factors of up to `F::VALUES` items, of which `transform` writes `width` columns of
    /// all points: one row of `out` a point. The other columns are arbitrary, as no product of theirs
    /// is written.
    fn write<F: Factor>(
        &mut self,
        items: Range<usize>,
        width: usize,
        transform: impl Fn(usize, &mut MatrixMut),
        out: &mut MatrixMut<F>,
    ) {
        let count = items.len();
        for (item, points) in items.zip(&mut self.0) {
            let points = points.as_flattened_mut();
            transform(item, &mut MatrixMut::new(points, POINTS, width, TILE.1));
        }
        F::pack_rows(&self.0[..count], out);
    }
}

/// The bands of rows that are computed together, of the windows of `images`: several images, or
/// some pairs of rows of the grid of one.
pub(super) fn bands(patches: &Patches, images: usize) -> Vec<usize> {
    let (height, width) = (patches.grid.0.div_ceil(2), patches.grid.1.div_ceil(2));
    let even = |total: usize, most: usize| total.div_ceil(total.div_ceil(most.max(1)).max(1));
    let together = even(images, TOGETHER / (height * width));
    let rows = patches.rows_per_image();
    if height * width <= TOGETHER {
        return (0..images)
            .step_by(together)
            .map(|image| together.min(images - image) * rows)
            .collect();
    }
    let band = even(height, TOGETHER / width) * 2 * patches.grid.1;
    let of_image = (0..rows).step_by(band).map(|row| band.min(rows - row));
    std::iter::repeat_n(of_image, images).flatten().collect()
}

/// A tile: its image, and the grid pixel at its top left.
#[derive(Clone, Copy)]
struct Place {
    image: usize,
    y: usize,
    x: usize,
}

/// The tiles of some rows of the windows, whole pairs of rows of the grid.
fn places(patches: &Patches, rows: Range<usize>) -> impl Iterator<Item = Place> {
    let (height, width) = patches.grid;
    let (first, last) = (rows.start / width, rows.end.div_ceil(width));
    let starts = (first..last).filter(move |line| (line % height).is_multiple_of(2));
    starts.flat_map(move |line| {
        let (image, y) = (line / height, line % height);
        (0..width).step_by(2).map(move |x| Place { image, y, x })
    })
}

/// Writes the transformed tiles to `out`, for each point (tile, channel), `stride` values apart.
fn transform_input(patches: &Patches, x: &[f32], places: &[Place], out: &mut [f32], stride: usize) {
    let channels = patches.map.channels;
    let outside = vec![0.0; channels];
    for (index, place) in places.iter().enumerate() {
        let pixels = pixels(patches, x, place, &outside);
        let out = &mut out[index * channels..];
        of_input(&pixels, &mut MatrixMut::new(out, POINTS, channels, stride), false);
    }
}

/// The 4 x 4 input pixels of a tile; `outside` for those outside the map.
fn pixels<'a>(
    patches: &Patches,
    x: &'a [f32],
    place: &Place,
    outside: &'a [f32],
) -> [[&'a [f32]; 4]; 4] {
    let (map, origin) = (patches.map, patches.origin);
    let image = &x[place.image * map.len()..][..map.len()];
    std::array::from_fn(|down| {
        let y = (place.y + down) as isize + origin.0;
        std::array::from_fn(|right| {
            let x = (place.x + right) as isize + origin.1;
            let inside =
                (0..map.height as isize).contains(&y) && (0..map.width as isize).contains(&x);
            if !inside {
                return outside;
            }
            &image[(y as usize * map.width + x as usize) * map.channels..][..map.channels]
        })
    })
}

/// Transforms `sums`, for each point (tile, column), `stride` values apart, to output pixels, and
/// ends them. `first` is the row and the column of `out` in the whole output.
fn finish(
    patches: &Patches,
    places: &[Place],
    sums: &[f32],
    stride: usize,
    ending: &Ending,
    first: (usize, usize),
    out: &mut MatrixMut,
) {
    let columns = out.columns();
    let shift = &ending.shift[first.1..][..columns];
    let residual = ending.residual.map(|residual| residual.columns(first.1, columns));
    let mut pixels = vec![0.0; 4 * columns];
    for (index, place) in places.iter().enumerate() {
        let point = |y: usize, x: usize| &sums[(4 * y + x) * stride + index * columns..][..columns];
        let points = std::array::from_fn(|y| std::array::from_fn(|x| point(y, x)));
        to_output(&points, &mut MatrixMut::new(&mut pixels, 4, columns, columns), false);
        for (pixel, values) in pixels.chunks_exact(columns).enumerate() {
            let (y, x) = (place.y + pixel / 2, place.x + pixel % 2);
            if y >= patches.grid.0 || x >= patches.grid.1 {
                continue;
            }
            let row = (place.image * patches.grid.0 + y) * patches.grid.1 + x;
            let residual = residual.as_ref().map(|residual| residual.row(row));
            let out = out.row(row - first.0);
            vectorized(|| end(ending, values, shift, residual, out));
        }
    }
}

/// See [`Ending`].
#[inline(always)]
fn end(ending: &Ending, values: &[f32], shift: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
    if !ending.accumulate {
        out.copy_from_slice(values);
    } else {
        out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
    }
    match residual {
        None => out.iter_mut().zip(shift).for_each(|(out, shift)| {
            *out = at_least(*out + shift, ending.floor);
        }),
        Some(residual) => {
            for ((out, shift), residual) in out.iter_mut().zip(shift).zip(residual) {
                *out = at_least(*out + shift + residual, ending.floor);
            }
        }
    }
}
