//! The geometry of an augmentation: one bilinear sampling of the stored square. And the rectangle
//! that is erased.

use super::Frame;
use super::perspective::Homography;

/// Where each output pixel comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampling {
    /// Center of the visible part, in pixels of the square.
    pub(super) center: [f64; 2],
    /// One output pixel to the right, and one down, as a vector in pixels of the square.
    pub(super) step: [[f64; 2]; 2],
    /// Before the rest, in output pixels.
    pub(super) perspective: Option<Homography>,
}

impl Sampling {
    /// Where a pixel of the output comes from, in pixels of the square from the middle of its first
    /// one.
    pub(super) fn position(&self, crop: usize, column: usize, row: usize) -> [f64; 2] {
        let half = crop as f64 / 2.0;
        let (mut along, mut down) = (column as f64 + 0.5, row as f64 + 0.5);
        if let Some(perspective) = &self.perspective {
            [along, down] = perspective.source(along, down);
        }
        let (along, down) = (along - half, down - half);
        [0, 1].map(|axis| {
            self.center[axis] + along * self.step[0][axis] + down * self.step[1][axis] - 0.5
        })
    }
}

/// Samples bilinearly; the square's edge pixels continue outward.
pub(super) fn sample(square: &[u8], frame: &Frame, sampling: &Sampling, out: &mut [f32]) {
    let Frame { size, crop, .. } = *frame;
    let last = size.saturating_sub(1) as f64;
    for (row, line) in out.chunks_exact_mut(crop * 3).enumerate() {
        for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
            let position = sampling.position(crop, column, row);
            let [x, y] = position.map(|at| at.clamp(0.0, last));
            let (left, top) = (x as usize, y as usize);
            let (right, bottom) = ((left + 1).min(size - 1), (top + 1).min(size - 1));
            let (fx, fy) = ((x - left as f64) as f32, (y - top as f64) as f32);
            for (channel, value) in pixel.iter_mut().enumerate() {
                let at = |row: usize, column: usize| {
                    f32::from(square[(row * size + column) * 3 + channel])
                };
                let upper = at(top, left) + (at(top, right) - at(top, left)) * fx;
                let lower = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * fx;
                *value = upper + (lower - upper) * fy;
            }
        }
    }
}

/// Fills a rectangle (left, top, right, bottom) with a color.
pub(super) fn erase(
    [left, top, right, bottom]: [usize; 4],
    crop: usize,
    color: [f32; 3],
    out: &mut [f32],
) {
    for row in top..bottom {
        for pixel in out[(row * crop + left) * 3..(row * crop + right) * 3].chunks_exact_mut(3) {
            pixel.copy_from_slice(&color);
        }
    }
}
