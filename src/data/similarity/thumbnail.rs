//! Small versions of images, and the rule by which two of them show the same image.

use crate::data::DataError;
use crate::data::resize;

/// Side of a thumbnail, in pixels.
pub const SIDE: usize = 32;
const LENGTH: usize = SIDE * SIDE * 3;
/// Side of the blocks whose colors are compared, in pixels.
pub(super) const BLOCK: usize = 4;

/// Smallest correlation of two near duplicates.
const MIN_CORRELATION: f64 = 0.98;
/// Largest difference between the mean colors of two near duplicates, in levels of 0..=255. JPEG of
/// quality 60 shifts a flat color by up to 3.
const MAX_SHIFT: u32 = 4;
/// Largest mean difference of the levels within any block. Two products of the same outline differ
/// in a few blocks only; a copy doesn't differ much in any.
pub(super) const MAX_IN_A_BLOCK: u32 = 8;

/// An image reduced to 32 x 32 pixels of RGB, whatever its aspect ratio.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thumbnail(Vec<u8>);

impl Thumbnail {
    /// Of a box (left, top, width, height) of an image with 1 or 3 channels.
    pub(in crate::data) fn of(
        image: resize::View,
        crop_box: [f64; 4],
    ) -> Result<Thumbnail, DataError> {
        Ok(Thumbnail(resize::to_rgb(image, crop_box, [SIDE as u32; 2])?))
    }

    /// Of a stored square of `size * size * 3` bytes.
    pub fn of_square(square: &[u8], size: u32) -> Result<Thumbnail, DataError> {
        if size == SIDE as u32 && square.len() == LENGTH {
            return Ok(Thumbnail(square.to_vec()));
        }
        let image = resize::View { bytes: square, width: size, height: size, channels: 3 };
        Thumbnail::of(image, image.whole())
    }

    /// `SIDE * SIDE * 3` bytes of RGB, row by row.
    pub fn pixels(&self) -> &[u8] {
        &self.0
    }

    pub(in crate::data) fn from_pixels(pixels: Vec<u8>) -> Option<Thumbnail> {
        (pixels.len() == LENGTH).then_some(Thumbnail(pixels))
    }

    /// The mean of the blocks of `side` pixels: `(SIDE / side)` squared times 3 levels, row by row.
    pub(super) fn blocks(&self, side: usize) -> Vec<u8> {
        let count = SIDE / side;
        let mut sums = vec![0u32; count * count * 3];
        for (y, row) in self.0.chunks_exact(SIDE * 3).enumerate() {
            let sums = sums[y / side * count * 3..].chunks_exact_mut(3);
            for (block, sum) in row.chunks_exact(side * 3).zip(sums) {
                for pixel in block.chunks_exact(3) {
                    sum.iter_mut().zip(pixel).for_each(|(sum, level)| *sum += u32::from(*level));
                }
            }
        }
        let area = (side * side) as u32;
        sums.into_iter().map(|sum| ((sum + area / 2) / area) as u8).collect()
    }

    /// The correlation of two near duplicates; none for two different images.
    pub(super) fn similarity(&self, other: &Thumbnail) -> Option<f64> {
        let is_close = self.shift(other) <= MAX_SHIFT && self.farthest(other) <= MAX_IN_A_BLOCK;
        let correlation = self.correlation(other).filter(|_| is_close)?;
        (correlation >= MIN_CORRELATION).then_some(correlation)
    }

    fn shift(&self, other: &Thumbnail) -> u32 {
        let mean = |one: &Thumbnail, channel: usize| {
            let sum: u32 = one.0.iter().skip(channel).step_by(3).map(|&v| u32::from(v)).sum();
            sum / (SIDE * SIDE) as u32
        };
        (0..3).map(|channel| mean(self, channel).abs_diff(mean(other, channel))).max().unwrap_or(0)
    }

    /// The largest mean difference of a block.
    fn farthest(&self, other: &Thumbnail) -> u32 {
        let count = SIDE / BLOCK;
        let mut sums = vec![0u32; count * count];
        for (at, (one, two)) in self.0.iter().zip(&other.0).enumerate() {
            let pixel = at / 3;
            let (row, column) = (pixel / SIDE / BLOCK, pixel % SIDE / BLOCK);
            sums[row * count + column] += u32::from(one.abs_diff(*two));
        }
        sums.into_iter().max().unwrap_or(0) / (BLOCK * BLOCK * 3) as u32
    }

    /// Of the levels around the mean of each channel. None where one of both has a single color.
    fn correlation(&self, other: &Thumbnail) -> Option<f64> {
        let count = (SIDE * SIDE) as i64;
        let (mut both, mut one, mut two) = (0i64, 0i64, 0i64);
        for channel in 0..3 {
            let pairs = self.0.iter().zip(&other.0).skip(channel).step_by(3);
            let (mut ab, mut aa, mut bb, mut a, mut b) = (0i64, 0i64, 0i64, 0i64, 0i64);
            for (&x, &y) in pairs {
                let (x, y) = (i64::from(x), i64::from(y));
                (ab, aa, bb, a, b) = (ab + x * y, aa + x * x, bb + y * y, a + x, b + y);
            }
            both += count * ab - a * b;
            one += count * aa - a * a;
            two += count * bb - b * b;
        }
        (one > 0 && two > 0).then(|| both as f64 / ((one as f64).sqrt() * (two as f64).sqrt()))
    }
}
