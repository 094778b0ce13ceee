//! Filters after the geometry: color jitter, grayscale and Gaussian blur, as torchvision's.

use super::luma;
use super::ops::{blend, mean_luma};

/// A change of color.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Jitter {
    /// A factor.
    Brightness(f32),
    /// A factor around the mean of the image's luma.
    Contrast(f32),
    /// A factor around each pixel's luma.
    Saturation(f32),
    /// A shift by a share of the circle.
    Hue(f32),
}

impl Jitter {
    pub(super) fn is_identity(self) -> bool {
        match self {
            Jitter::Brightness(factor) | Jitter::Contrast(factor) | Jitter::Saturation(factor) => {
                factor == 1.0
            }
            Jitter::Hue(shift) => shift == 0.0,
        }
    }

    pub(super) fn apply(self, pixels: &mut [f32]) {
        match self {
            Jitter::Brightness(factor) => blend(pixels, factor, |_| [0.0; 3]),
            Jitter::Contrast(factor) => {
                let mean = mean_luma(pixels);
                blend(pixels, factor, |_| [mean; 3]);
            }
            Jitter::Saturation(factor) => blend(pixels, factor, |pixel| [luma(pixel); 3]),
            Jitter::Hue(shift) => shift_hue(pixels, shift),
        }
    }
}

/// Shifts the hue by a share of the circle, as `adjust_hue`.
fn shift_hue(pixels: &mut [f32], shift: f32) {
    for pixel in pixels.chunks_exact_mut(3) {
        let (red, green, blue) = (pixel[0], pixel[1], pixel[2]);
        let (high, low) = (red.max(green).max(blue), red.min(green).min(blue));
        let range = high - low;
        if range == 0.0 {
            continue;
        }
        let sixth = if high == red {
            (green - blue) / range
        } else if high == green {
            2.0 + (blue - red) / range
        } else {
            4.0 + (red - green) / range
        };
        let hue = (sixth / 6.0 + shift).rem_euclid(1.0) * 6.0;
        for (value, offset) in pixel.iter_mut().zip([5.0, 3.0, 1.0]) {
            let part = (offset + hue).rem_euclid(6.0);
            let share = part.min(4.0 - part).clamp(0.0, 1.0);
            *value = (high - range * share).clamp(0.0, 255.0);
        }
    }
}

/// Replaces each color by its luma.
pub(super) fn to_gray(pixels: &mut [f32]) {
    for pixel in pixels.chunks_exact_mut(3) {
        let gray = luma(pixel).min(255.0);
        pixel.fill(gray);
    }
}

/// Blurs with a kernel of an odd number of taps; what is outside is the mirrored inside.
pub(super) fn blur(side: usize, pixels: &mut [f32], taps: usize, sigma: f64) {
    let half = taps as isize / 2;
    let weights: Vec<f64> =
        (-half..=half).map(|at| (-0.5 * (at as f64 / sigma).powi(2)).exp()).collect();
    let total: f64 = weights.iter().fold(0.0, |sum, weight| sum + weight);
    let weights: Vec<f32> = weights.iter().map(|weight| (weight / total) as f32).collect();
    let mirrored = |at: isize| {
        let last = side as isize - 1;
        // Reflected at both ends until it is inside; a side of 1 has only itself.
        let period = (2 * last).max(1);
        let at = at.rem_euclid(period);
        at.min(period - at).clamp(0, last) as usize
    };
    for (step, other) in [(3, side * 3), (side * 3, 3)] {
        let source = pixels.to_vec();
        for line in 0..side {
            for at in 0..side {
                for channel in 0..3 {
                    let sum = weights.iter().zip(-half..).fold(0.0, |sum, (weight, tap)| {
                        let from = mirrored(at as isize + tap);
                        sum + weight * source[line * other + from * step + channel]
                    });
                    pixels[line * other + at * step + channel] = sum.clamp(0.0, 255.0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_circle_turns_red_into_green() {
        let mut pixels = [200.0, 10.0, 10.0, 7.0, 7.0, 7.0];
        shift_hue(&mut pixels, 1.0 / 3.0);
        let expected = [10.0, 200.0, 10.0, 7.0, 7.0, 7.0];
        assert!(pixels.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.01), "{pixels:?}");
        shift_hue(&mut pixels, -1.0 / 3.0);
        assert!((pixels[0] - 200.0).abs() < 0.01);
    }

    #[test]
    fn gray_has_the_luma_of_pil() {
        let mut pixels = [100.0, 200.0, 50.0];
        to_gray(&mut pixels);
        assert!(pixels.iter().all(|value| (value - 153.0).abs() < 1e-3), "{pixels:?}");
    }

    /// `v2.functional.gaussian_blur` of a point of 100 in the middle of 5 x 5, kernel 3, sigma 1:
    /// its one-dimensional weights are 0.2741, 0.4519, 0.2741.
    #[test]
    fn a_point_is_blurred_into_the_kernel() {
        let mut pixels = vec![0.0; 75];
        pixels[12 * 3] = 100.0;
        blur(5, &mut pixels, 3, 1.0);
        assert!((pixels[12 * 3] - 20.42).abs() < 0.01, "{}", pixels[36]);
        assert!((pixels[11 * 3] - 12.38).abs() < 0.01 && (pixels[6 * 3] - 7.51).abs() < 0.01);
        assert_eq!(pixels[37], 0.0);
        let mut flat = vec![80.0; 3];
        blur(1, &mut flat, 5, 2.0);
        assert!((flat[0] - 80.0).abs() < 1e-3);
    }
}
