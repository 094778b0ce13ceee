//! The gradient by the weight of a convolution of 3 x 3 taps at step 1, by the same tiles: for each
//! point, a sum over tiles of products of an input and an output channel.

use super::super::Geometry;
use super::super::panels::{MULTIPLIED, PANEL, multiply_panels};
use super::{Place, Transformed, Winograd, pixels, places};
use crate::nn::matrix::transforms::{POINTS, of_input, of_output, to_weight};
use crate::nn::matrix::{Factor, MatrixMut};
use crate::nn::ops::buffers::Buffer;
use crate::nn::ops::convolution::patches::Patches;
use rayon::prelude::*;

/// Whether [`by_weight`] can be used, and is faster.
pub(in super::super) fn is_for<F: Factor>(geometry: &Geometry) -> bool {
    Winograd::<F>::is_for(&geometry.patches(), geometry.output.channels)
}

/// dW into `out`, of products of factors of one kind; adds to `out` where `accumulate`.
pub(in super::super) fn by_weight<F: Factor>(
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
    let most = MULTIPLIED / (POINTS * PANEL * (panels.0 + panels.1)) * F::VALUES;
    let together = most.clamp(64, tiles.len().max(64));
    let size = |tiles: usize| POINTS * PANEL * tiles.div_ceil(F::VALUES);
    let largest = size(together.min(tiles.len()));
    let mut sums = Buffer::new(POINTS * inputs * outputs);
    let [mut left, mut right] = [panels.0, panels.1].map(|panels| Buffer::new(panels * largest));
    for (step, tiles) in tiles.chunks(together).enumerate() {
        let size = size(tiles.len());
        let left = F::view_mut(&mut left[..panels.0 * size]);
        let right = F::view_mut(&mut right[..panels.1 * size]);
        left.par_chunks_exact_mut(size)
            .enumerate()
            .for_each(|(panel, out)| transform_input(&patches, x, tiles, panel * PANEL, out));
        right
            .par_chunks_exact_mut(size)
            .enumerate()
            .for_each(|(panel, out)| transform_output(geometry, dy, tiles, panel * PANEL, out));
        add_products::<F>((left, right), (inputs, outputs), step > 0, &mut sums);
    }
    transform_sums(&sums, (inputs, outputs), accumulate, out);
}

/// Writes channels from `first` on of transformed input tiles, for each point (tile, channel).
fn transform_input<F: Factor>(
    patches: &Patches,
    x: &[f32],
    tiles: &[Place],
    first: usize,
    out: &mut [F],
) {
    let channels = patches.map.channels;
    let outside = vec![0.0; channels];
    let width = PANEL.min(channels - first);
    let transform = |tile: usize, out: &mut MatrixMut| {
        let pixels = pixels(patches, x, &tiles[tile], &outside);
        of_input(&pixels.map(|row| row.map(|pixel| &pixel[first..first + width])), out, false);
    };
    write_tiles(tiles.len(), width, transform, out);
}

/// Writes a panel of `count` tiles, of which `transform` writes `width` columns of all points.
fn write_tiles<F: Factor>(
    count: usize,
    width: usize,
    transform: impl Fn(usize, &mut MatrixMut),
    out: &mut [F],
) {
    let stride = out.len() / POINTS;
    let mut transformed = Transformed::default();
    for (index, first) in (0..count).step_by(F::VALUES).enumerate() {
        let out = &mut out[index * PANEL..];
        let mut out = MatrixMut::new(out, POINTS, PANEL, stride);
        let items = first..count.min(first + F::VALUES);
        transformed.write(items, width, &transform, &mut out);
    }
}

/// The same of the gradients by the outputs.
fn transform_output<F: Factor>(
    geometry: &Geometry,
    dy: &[f32],
    tiles: &[Place],
    first: usize,
    out: &mut [F],
) {
    let map = geometry.output;
    let outside = vec![0.0; map.channels];
    let width = PANEL.min(map.channels - first);
    let transform = |tile: usize, out: &mut MatrixMut| {
        let place = &tiles[tile];
        let image = &dy[place.image * map.len()..][..map.len()];
        let pixel = |down: usize, right: usize| {
            let (y, x) = (place.y + down, place.x + right);
            if y >= map.height || x >= map.width {
                return &outside[..width];
            }
            &image[(y * map.width + x) * map.channels..][first..first + width]
        };
        let pixels = std::array::from_fn(|y| std::array::from_fn(|x| pixel(y, x)));
        of_output(&pixels, out, false);
    };
    write_tiles(tiles.len(), width, transform, out);
}

/// For each point, the products of transformed tiles to `sums` (point, in, out); adds to `sums`
/// where `accumulate`.
fn add_products<F: Factor>(
    (left, right): (&[F], &[F]),
    (inputs, outputs): (usize, usize),
    accumulate: bool,
    sums: &mut [f32],
) {
    let size = left.len() / (POINTS * inputs.div_ceil(PANEL));
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
