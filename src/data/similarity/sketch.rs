//! The sketch of an image: the mean colors of 8 x 8 parts, 192 bytes, and a hash of 64 bits made
//! from it. Each bit of the hash is the side of a random plane on which the colors lie (Charikar,
//! 2002), so that the share of different bits is the angle between two images: it doesn't matter
//! how large the parts of one color are, on which hashes by neighboring pixels depend on noise.

use super::thumbnail::{self, BLOCK, MAX_IN_A_BLOCK, Thumbnail};
use crate::random::Stream;

/// Parts along a side.
const PARTS: usize = 8;
/// The same as the side of an image: a sketch is one of 8 x 8 pixels.
pub(in crate::data) const SIDE: u32 = PARTS as u32;
/// Bytes of a sketch.
pub(in crate::data) const LENGTH: usize = PARTS * PARTS * 3;
/// Bits of a hash.
pub(super) const BITS: usize = 64;
/// Largest difference of the three levels of a part, summed: a part is a block of the thumbnail,
/// whose mean differences are rounded down, and so is each level of the sketch, to the nearest.
const MAX_IN_A_PART: u32 = 3 * (MAX_IN_A_BLOCK + 1) + 3;
const _: () = assert!(thumbnail::SIDE / PARTS == BLOCK);
/// Smallest standard deviation of a sketch, in levels. Below it, an image is nearly of one color.
const MIN_DEVIATION: i64 = 3;

/// Raised whenever the sketch of the same pixels changes.
pub(in crate::data) const VERSION: u32 = 1;

/// Mean colors of the parts of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sketch([u8; LENGTH]);

impl Sketch {
    /// Mean colors as they were stored.
    pub(in crate::data) fn from_bytes(colors: [u8; LENGTH]) -> Sketch {
        Sketch(colors)
    }

    pub(in crate::data) fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    pub fn of(thumbnail: &Thumbnail) -> Sketch {
        let mut colors = [0; LENGTH];
        colors.copy_from_slice(&thumbnail.blocks(BLOCK));
        Sketch(colors)
    }

    /// The sum of all levels.
    pub(super) fn brightness(&self) -> u32 {
        self.0.iter().map(|&level| u32::from(level)).sum()
    }

    /// The sum of the differences of all levels. None if a part differs more than a part of two
    /// near duplicates can.
    #[inline]
    pub(super) fn distance(&self, other: &Sketch) -> Option<u32> {
        let part = |a: &[u8], b: &[u8]| -> u32 {
            a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
        };
        let mut parts =
            self.0.chunks_exact(3).zip(other.0.chunks_exact(3)).map(|(a, b)| part(a, b));
        parts.try_fold(0, |sum, part| (part <= MAX_IN_A_PART).then_some(sum + part))
    }

    /// The hash by the planes of [`planes`]; none for an image of nearly one color.
    #[inline(always)]
    pub(super) fn hash(&self, planes: &[Plane]) -> Option<u64> {
        let count = (PARTS * PARTS) as i32;
        let sums = [0, 1, 2].map(|channel| {
            self.0.iter().skip(channel).step_by(3).fold(0, |sum, &level| sum + i32::from(level))
        });
        let mut centered = [0i32; LENGTH];
        for (at, (value, &level)) in centered.iter_mut().zip(&self.0).enumerate() {
            *value = i32::from(level) * count - sums[at % 3];
        }
        let squares: i64 = centered.iter().map(|&value| i64::from(value) * i64::from(value)).sum();
        let least = MIN_DEVIATION * i64::from(count);
        if squares < least * least * LENGTH as i64 {
            return None;
        }
        let total: i32 = centered.iter().sum();
        // The sum of the values at 1 less that of the values at -1.
        let side = |plane: &Plane| -> i32 {
            let positive: i32 = plane.iter().zip(&centered).map(|(mask, value)| mask & value).sum();
            2 * positive - total
        };
        Some(planes.iter().fold(0, |hash, plane| hash << 1 | u64::from(side(plane) > 0)))
    }
}

/// The normal of a plane, of 1 and -1 alone, as masks: all bits are set at 1, none at -1.
pub(super) type Plane = [i32; LENGTH];

pub(super) fn planes() -> Vec<Plane> {
    let mut stream = Stream::new(0, "similarity", &[]);
    let mut mask = || if stream.chance(0.5) { -1 } else { 0 };
    (0..BITS).map(|_| std::array::from_fn(|_| mask())).collect()
}
