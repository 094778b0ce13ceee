//! The operations of torchvision's `RandAugment` and `TrivialAugmentWide`, on pixels in 0..=255,
//! row by row. Geometry takes the nearest pixel and fills with black, as there by default.

use super::luma;
use crate::random::Stream;

/// Steps of a magnitude (`num_magnitude_bins`).
pub(super) const BINS: u32 = 31;

/// The order is torchvision's: it decides which one a random number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

pub(super) const OPS: [Op; 14] = [
    Op::Identity,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateX,
    Op::TranslateY,
    Op::Rotate,
    Op::Brightness,
    Op::Color,
    Op::Contrast,
    Op::Sharpness,
    Op::Posterize,
    Op::Solarize,
    Op::AutoContrast,
    Op::Equalize,
];

/// The largest magnitudes of a policy.
struct Ranges {
    shear: f64,
    /// In pixels.
    translate: f64,
    /// In degrees.
    rotate: f64,
    enhance: f64,
    /// Bits that posterizing takes at most.
    posterize: f64,
}

/// `RandAugment`: `count` operations of one magnitude, 0 to 30.
pub(super) fn rand_augment(
    count: u32,
    magnitude: u32,
    side: usize,
    stream: &mut Stream,
    pixels: &mut [f32],
) {
    let translate = 150.0 / 331.0 * side as f64;
    let ranges = Ranges { shear: 0.3, translate, rotate: 30.0, enhance: 0.9, posterize: 4.0 };
    for _ in 0..count {
        apply_one(magnitude, &ranges, side, stream, pixels);
    }
}

/// `TrivialAugmentWide`: one operation of a random magnitude.
pub(super) fn trivial_augment(side: usize, stream: &mut Stream, pixels: &mut [f32]) {
    let ranges =
        Ranges { shear: 0.99, translate: 32.0, rotate: 135.0, enhance: 0.99, posterize: 6.0 };
    let magnitude = stream.below(u64::from(BINS)) as u32;
    apply_one(magnitude, &ranges, side, stream, pixels);
}

fn apply_one(bin: u32, ranges: &Ranges, side: usize, stream: &mut Stream, pixels: &mut [f32]) {
    let op = OPS[stream.below(OPS.len() as u64) as usize];
    let sign = if stream.chance(0.5) { -1.0 } else { 1.0 };
    let share = f64::from(bin.min(BINS - 1)) / f64::from(BINS - 1);
    apply(op, share, sign, ranges, side, pixels);
}

/// An operation of `RandAugment` at a share of its largest magnitude, for tests.
#[cfg(test)]
pub(super) fn applied(op: Op, share: f64, sign: f64, side: usize, pixels: &mut [f32]) {
    let translate = 150.0 / 331.0 * side as f64;
    let ranges = Ranges { shear: 0.3, translate, rotate: 30.0, enhance: 0.9, posterize: 4.0 };
    apply(op, share, sign, &ranges, side, pixels);
}

/// Applies an operation at `share` of its largest magnitude.
fn apply(op: Op, share: f64, sign: f64, ranges: &Ranges, side: usize, pixels: &mut [f32]) {
    let signed = |most: f64| sign * share * most;
    let factor = (1.0 + signed(ranges.enhance)) as f32;
    match op {
        Op::Identity => {}
        Op::ShearX => warp(side, pixels, [1.0, signed(ranges.shear), 0.0, 0.0, 1.0, 0.0]),
        Op::ShearY => warp(side, pixels, [1.0, 0.0, 0.0, signed(ranges.shear), 1.0, 0.0]),
        Op::TranslateX => {
            warp(side, pixels, [1.0, 0.0, -signed(ranges.translate).trunc(), 0.0, 1.0, 0.0])
        }
        Op::TranslateY => {
            warp(side, pixels, [1.0, 0.0, 0.0, 0.0, 1.0, -signed(ranges.translate).trunc()])
        }
        Op::Rotate => {
            let (sine, cosine) = signed(ranges.rotate).to_radians().sin_cos();
            let center = side as f64 / 2.0;
            let x = center - cosine * center + sine * center;
            let y = center - sine * center - cosine * center;
            warp(side, pixels, [cosine, -sine, x, sine, cosine, y]);
        }
        Op::Brightness => blend(pixels, factor, |_| [0.0; 3]),
        Op::Color => blend(pixels, factor, |pixel| [luma(pixel); 3]),
        Op::Contrast => {
            let mean = mean_luma(pixels);
            blend(pixels, factor, |_| [mean; 3]);
        }
        Op::Sharpness => sharpen(side, pixels, factor),
        Op::Posterize => {
            let mask = 0xffu32 << (share * ranges.posterize).round() as u32;
            pixels.iter_mut().for_each(|value| *value = (value.round() as u32 & mask & 255) as f32);
        }
        Op::Solarize => {
            let threshold = (255.0 * (1.0 - share)) as f32;
            let inverted = pixels.iter_mut().filter(|value| **value >= threshold);
            inverted.for_each(|value| *value = 255.0 - *value);
        }
        Op::AutoContrast => auto_contrast(pixels),
        Op::Equalize => equalize(pixels),
    }
}

/// Moves each pixel to where the inverse matrix takes it from.
fn warp(side: usize, pixels: &mut [f32], [a, b, c, d, e, f]: [f64; 6]) {
    let source = pixels.to_vec();
    for (index, out) in pixels.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((index % side) as f64 + 0.5, (index / side) as f64 + 0.5);
        let (from_x, from_y) = ((a * x + b * y + c).floor(), (d * x + e * y + f).floor());
        let inside = 0.0..side as f64;
        if inside.contains(&from_x) && inside.contains(&from_y) {
            let at = (from_y as usize * side + from_x as usize) * 3;
            out.copy_from_slice(&source[at..at + 3]);
        } else {
            out.fill(0.0);
        }
    }
}

/// Moves each pixel away from another color by a factor.
pub(super) fn blend(pixels: &mut [f32], factor: f32, other: impl Fn(&[f32]) -> [f32; 3]) {
    for pixel in pixels.chunks_exact_mut(3) {
        let other = other(pixel);
        for (value, other) in pixel.iter_mut().zip(other) {
            *value = (other + (*value - other) * factor).clamp(0.0, 255.0);
        }
    }
}

pub(super) fn mean_luma(pixels: &[f32]) -> f32 {
    let sum = pixels.chunks_exact(3).fold(0.0, |sum, pixel| sum + f64::from(luma(pixel)));
    (sum / (pixels.len() / 3).max(1) as f64) as f32
}

/// Away from the image smoothed by PIL's filter; the border stays.
fn sharpen(side: usize, pixels: &mut [f32], factor: f32) {
    let source = pixels.to_vec();
    for y in 1..side.saturating_sub(1) {
        for at in (y * side + 1) * 3..(y * side + side - 1) * 3 {
            let rows = [at - side * 3, at, at + side * 3];
            let around: f32 =
                rows.map(|row| source[row - 3] + source[row] + source[row + 3]).iter().sum();
            let smooth = (around + 4.0 * source[at]) / 13.0;
            pixels[at] = (smooth + (source[at] - smooth) * factor).clamp(0.0, 255.0);
        }
    }
}

fn auto_contrast(pixels: &mut [f32]) {
    for channel in 0..3 {
        let values = || pixels.iter().skip(channel).step_by(3).copied();
        let (low, high) = (values().fold(255.0, f32::min), values().fold(0.0, f32::max));
        if high > low {
            let stretched = pixels.iter_mut().skip(channel).step_by(3);
            stretched.for_each(|value| *value = (*value - low) * 255.0 / (high - low));
        }
    }
}

/// PIL's: the histogram of each channel becomes as even as its levels allow.
fn equalize(pixels: &mut [f32]) {
    for channel in 0..3 {
        let mut counts = [0usize; 256];
        for value in pixels.iter().skip(channel).step_by(3) {
            counts[value.round() as usize & 255] += 1;
        }
        let last = counts.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
        let step = (pixels.len() / 3 - last) / 255;
        if step == 0 {
            continue;
        }
        let mut sum = step / 2;
        let levels: Vec<f32> = counts
            .iter()
            .map(|count| {
                let level = (sum / step).min(255) as f32;
                sum += count;
                level
            })
            .collect();
        for value in pixels.iter_mut().skip(channel).step_by(3) {
            *value = levels[value.round() as usize & 255];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGES: Ranges =
        Ranges { shear: 0.3, translate: 4.0, rotate: 90.0, enhance: 0.9, posterize: 4.0 };

    /// Of 4 x 4 pixels, all different.
    fn square() -> Vec<f32> {
        (0..48).map(|at| at as f32 * 5.0).collect()
    }

    fn applied(op: Op, share: f64, sign: f64) -> Vec<f32> {
        let mut pixels = square();
        apply(op, share, sign, &RANGES, 4, &mut pixels);
        pixels
    }

    #[test]
    fn operations_do_what_pil_does() {
        let plain = square();
        assert_eq!(applied(Op::Identity, 1.0, 1.0), plain);
        // One pixel to the right; what comes in is black.
        let moved = applied(Op::TranslateX, 0.25, 1.0);
        assert_eq!((&moved[3..12], &moved[..3]), (&plain[..9], &[0.0; 3][..]));
        // A quarter turn puts a corner into the next.
        let turned = applied(Op::Rotate, 1.0, 1.0);
        assert_eq!(turned[..3], plain[9..12]);
        assert_eq!(applied(Op::Brightness, 0.0, 1.0), plain);
        assert_eq!(applied(Op::Solarize, 1.0, 1.0)[0], 255.0);
        assert_eq!(applied(Op::Solarize, 0.0, 1.0), plain);
        assert_eq!(applied(Op::Posterize, 1.0, 1.0)[4], 16.0);
        let stretched = applied(Op::AutoContrast, 1.0, 1.0);
        assert_eq!((stretched[0], stretched[45]), (0.0, 255.0));
    }

    #[test]
    fn a_flat_image_stays_flat_and_inside_the_range() {
        for op in OPS {
            for sign in [-1.0, 1.0] {
                let mut pixels = vec![200.0; 48];
                apply(op, 1.0, sign, &RANGES, 4, &mut pixels);
                assert!(pixels.iter().all(|value| (0.0..=255.0).contains(value)), "{op:?}");
            }
        }
    }
}
