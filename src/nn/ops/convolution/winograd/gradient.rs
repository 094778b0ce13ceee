//! The gradient by the weight of a convolution of 3 x 3 taps at step 1, by the same tiles: for each
//! point, a sum over tiles of products of an input and an output channel.

use super::super::Geometry;
use super::super::panels::{MULTIPLIED, PANEL, multiply_panels};
use super::{Place, Winograd, pixels, places};
use crate::nn::matrix::MatrixMut;
use crate::nn::matrix::transforms::{POINTS, of_input, of_output, to_weight};
use crate::nn::ops::buffers::Buffer;
use crate::nn::ops::convolution::patches::Patches;
use rayon::prelude::*;

/// Whether [`by_weight`] can be used, and is faster.
pub(in super::super) fn is_for(geometry: &Geometry) -> bool {
    Winograd::is_for(&geometry.patches(), geometry.output.channels)
}

/// dW into `out`; adds to `out` where `accumulate`.
pub(in super::super) fn by_weight(
    x: &[f32],
    dy: &[f32],
    geometry: &Geometry,
    accumulate: bool,
    out: &mut [f32],
) {
    let patches = geometry.patches();
    let (inputs, outputs) = (geometry.input.channels, geometry.output.channels);
    let tiles: Vec<Place> =
        places(&patches, 0..geometry.batch * patches.rows_per_image()).collect();
    let panels = (inputs.div_ceil(PANEL), outputs.div_ceil(PANEL));
    let together =
        (MULTIPLIED / (POINTS * PANEL * (panels.0 + panels.1))).clamp(64, tiles.len().max(64));
    let size = POINTS * PANEL * together.min(tiles.len());
    let mut sums = Buffer::new(POINTS * inputs * outputs);
    let [mut left, mut right] = [panels.0, panels.1].map(|panels| Buffer::new(panels * size));
    for (step, tiles) in tiles.chunks(together).enumerate() {
        let size = POINTS * PANEL * tiles.len();
        let (left, right) = (&mut left[..panels.0 * size], &mut right[..panels.1 * size]);
        left.par_chunks_exact_mut(size)
            .enumerate()
            .for_each(|(panel, out)| transform_input(&patches, x, tiles, panel * PANEL, out));
        right
            .par_chunks_exact_mut(size)
            .enumerate()
            .for_each(|(panel, out)| transform_output(geometry, dy, tiles, panel * PANEL, out));
        add_products((left, right), (inputs, outputs), tiles.len(), step > 0, &mut sums);
    }
    transform_sums(&sums, (inputs, outputs), accumulate, out);
}

/// Writes channels from `first` on of transformed input tiles, for each point (tile, channel).
fn transform_input(patches: &Patches, x: &[f32], tiles: &[Place], first: usize, out: &mut [f32]) {
    let channels = patches.map.channels;
    let outside = vec![0.0; channels];
    let (width, stride) = (PANEL.min(channels - first), PANEL * tiles.len());
    for (index, place) in tiles.iter().enumerate() {
        let pixels = pixels(patches, x, place, &outside);
        let pixels = pixels.map(|row| row.map(|pixel| &pixel[first..first + width]));
        let out = &mut out[index * PANEL..];
        of_input(&pixels, &mut MatrixMut::new(out, POINTS, width, stride), false);
    }
}

/// The same of the gradients by the outputs.
fn transform_output(
    geometry: &Geometry,
    dy: &[f32],
    tiles: &[Place],
    first: usize,
    out: &mut [f32],
) {
    let map = geometry.output;
    let outside = vec![0.0; map.channels];
    let (width, stride) = (PANEL.min(map.channels - first), PANEL * tiles.len());
    for (index, place) in tiles.iter().enumerate() {
        let image = &dy[place.image * map.len()..][..map.len()];
        let pixel = |down: usize, right: usize| {
            let (y, x) = (place.y + down, place.x + right);
            if y >= map.height || x >= map.width {
                return &outside[..width];
            }
            &image[(y * map.width + x) * map.channels..][first..first + width]
        };
        let pixels = std::array::from_fn(|y| std::array::from_fn(|x| pixel(y, x)));
        let out = &mut out[index * PANEL..];
        of_output(&pixels, &mut MatrixMut::new(out, POINTS, width, stride), false);
    }
}

/// For each point, the products of `tiles` transformed tiles to `sums` (point, in, out); adds to
/// `sums` where `accumulate`.
fn add_products(
    (left, right): (&[f32], &[f32]),
    (inputs, outputs): (usize, usize),
    tiles: usize,
    accumulate: bool,
    sums: &mut [f32],
) {
    let size = PANEL * tiles;
    let of_point = (0..inputs).step_by(PANEL).map(|first| PANEL.min(inputs - first));
    let heights: Vec<usize> = std::iter::repeat_n(of_point, POINTS).flatten().collect();
    multiply_panels(
        MatrixMut::new(sums, POINTS * inputs, outputs, outputs).bands(&heights, outputs),
        |row| &left[(row % inputs / PANEL * POINTS + row / inputs) * size..][..size],
        |row, column| &right[(column / PANEL * POINTS + row / inputs) * size..][..size],
        accumulate,
    );
}

/// Transforms sums (point, in, out) to the gradient (tap, in, out).
fn transform_sums(
    sums: &[f32],
    (inputs, outputs): (usize, usize),
    accumulate: bool,
    out: &mut [f32],
) {
    let size = inputs * outputs;
    let rows = MatrixMut::new(out, 9, size, size).tiles(9, outputs);
    rows.into_par_iter().for_each(|mut row| {
        let point = |y: usize, x: usize| &sums[(4 * y + x) * size + row.column..][..outputs];
        let points = std::array::from_fn(|y| std::array::from_fn(|x| point(y, x)));
        to_weight(&points, &mut row.out, accumulate);
    });
}
