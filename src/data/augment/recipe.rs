//! A view as a fixed number of words: what was drawn for it, so that a GPU makes the pixels that
//! [`AugmentationPolicy::apply`] makes, from the stored square itself.
//!
//! Words are of 32 bits, little-endian; numbers of 64 bits are two words, the lower first.
//! Positions are in pixels of the square, from the middle of its first one.
//!
//! | words | type | content |
//! | --- | --- | --- |
//! | 0..4 | 2 x i64 | where the view's first pixel comes from: x, y, in 2^-32 pixels |
//! | 4..8 | 2 x i64 | how much further its neighbor to the right comes from |
//! | 8..12 | 2 x i64 | how much further the pixel below comes from |
//! | 12..28 | 8 x f64 | a to h of the same as a projection: ((a x + b y + c) / z, (d x + e y + f) / z) with z = g x + h y + 1, where x and y are the middle of a pixel of the view: 0.5 for its first |
//! | 28 | u32 | 1: words 12..28 hold, 0: words 0..12 do |
//! | 29 | u32 | 1: colors become gray after the changes below |
//! | 30..34 | 4 x u32 | left, top, right and bottom of the erased rectangle, in pixels of the view; zeros for none |
//! | 34..38 | 4 x u32 | changes of color in order: 1 brightness, 2 contrast, 3 saturation, 4 hue, 0 none |
//! | 38..42 | 4 x f32 | their factors; of hue, the shift as a share of the circle |

use super::filters::Jitter;
use super::perspective::Homography;
use super::sample::Sampling;
use super::{AugmentationPolicy, Frame};
use crate::random::Stream;

/// Changes of color in a view, at most.
const CHANGES: usize = 4;

/// A pixel in the unit of positions.
const ONE: f64 = (1u64 << 32) as f64;

/// Positions up to this, in pixels, are stored as integers. A projection has those beyond.
const FAR: f64 = (1u64 << 30) as f64;

/// How one view is made of its stored square.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    source: Source,
    is_gray: bool,
    /// Left, top, right and bottom, in pixels of the view.
    erased: [usize; 4],
    changes: [Option<Jitter>; CHANGES],
}

/// Where the pixels of a view come from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    /// The first pixel, and the steps to the right and down: x and y of each.
    Steps([i64; 6]),
    Projection([f64; 8]),
}

impl Recipe {
    /// Length in words.
    pub const WORDS: usize = 42;

    /// Length in bytes.
    pub const BYTES: usize = 4 * Recipe::WORDS;

    /// The center crop, without augmentation.
    pub fn center_crop(frame: &Frame) -> Recipe {
        let middle = frame.offset as f64 + frame.crop as f64 / 2.0;
        let step = [[1.0, 0.0], [0.0, 1.0]];
        let sampling = Sampling { center: [middle; 2], step, perspective: None };
        Recipe {
            source: Source::new(&sampling, frame.crop),
            is_gray: false,
            erased: [0; 4],
            changes: [None; CHANGES],
        }
    }

    /// Writes the words to `out`, [`Recipe::BYTES`] bytes, front to back.
    pub fn write(&self, out: &mut [u8]) {
        for (bytes, word) in out.chunks_exact_mut(4).zip(self.words()) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    fn words(&self) -> impl Iterator<Item = u32> {
        let (steps, projection, is_projection) = match self.source {
            Source::Steps(steps) => (steps, [0.0; 8], 0),
            Source::Projection(projection) => ([0; 6], projection, 1),
        };
        let wide = steps.map(|step| step as u64).into_iter().chain(projection.map(f64::to_bits));
        let changes = self.changes.map(|change| change.map_or((0, 0.0), numbered));
        wide.flat_map(|wide| [wide as u32, (wide >> 32) as u32])
            .chain([is_projection, u32::from(self.is_gray)])
            .chain(self.erased.map(|edge| edge as u32))
            .chain(changes.map(|(number, _)| number))
            .chain(changes.map(|(_, amount)| amount.to_bits()))
    }
}

/// The number of a change of color, and its amount.
fn numbered(jitter: Jitter) -> (u32, f32) {
    match jitter {
        Jitter::Brightness(factor) => (1, factor),
        Jitter::Contrast(factor) => (2, factor),
        Jitter::Saturation(factor) => (3, factor),
        Jitter::Hue(shift) => (4, shift),
    }
}

impl Source {
    fn new(sampling: &Sampling, crop: usize) -> Source {
        let Sampling { center, step: [right, down], perspective } = sampling;
        let half = crop as f64 / 2.0;
        // Where a position of 0, 0 in the view comes from.
        let origin = [0, 1].map(|axis| center[axis] - 0.5 - half * right[axis] - half * down[axis]);
        let first = [0, 1].map(|axis| origin[axis] + 0.5 * right[axis] + 0.5 * down[axis]);
        let reach =
            |axis: usize| first[axis].abs() + crop as f64 * (right[axis].abs() + down[axis].abs());
        if perspective.is_none() && reach(0) < FAR && reach(1) < FAR {
            let numbers = [first[0], first[1], right[0], right[1], down[0], down[1]];
            return Source::Steps(numbers.map(|number| (number * ONE).round() as i64));
        }
        let [a, b, c, d, e, f, g, h] = perspective.unwrap_or(Homography::IDENTITY).coefficients();
        let row = |axis: usize| {
            let (origin, right, down) = (origin[axis], right[axis], down[axis]);
            [
                origin * g + a * right + d * down,
                origin * h + b * right + e * down,
                origin + c * right + f * down,
            ]
        };
        let ([a, b, c], [d, e, f]) = (row(0), row(1));
        Source::Projection([a, b, c, d, e, f, g, h])
    }
}

impl AugmentationPolicy {
    /// Whether each view is a [`Recipe`]. The others are made by [`AugmentationPolicy::apply`] only.
    pub fn on_gpu(&self) -> bool {
        self.gaussian_blur.is_none() && self.rand_augment.is_none() && !self.trivial_augment
    }

    /// Whether recipes change colors.
    pub fn changes_colors(&self) -> bool {
        self.color_jitter.is_some() || self.random_grayscale > 0.0
    }

    /// Whether recipes change the contrast, for which the mean of each view is needed.
    pub fn needs_means(&self) -> bool {
        self.color_jitter.as_ref().is_some_and(|jitter| jitter.contrast > 0.0)
    }

    /// What [`AugmentationPolicy::apply`] does with the same frame and stream. Only of a policy
    /// that is [`AugmentationPolicy::on_gpu`]: anything else is left out.
    pub fn recipe(&self, frame: &Frame, stream: Stream) -> Recipe {
        let drawn = self.draw(frame, stream);
        let mut changes = [None; CHANGES];
        for (change, jitter) in changes.iter_mut().zip(drawn.jitter) {
            *change = Some(jitter);
        }
        Recipe {
            source: Source::new(&drawn.sampling, frame.crop),
            is_gray: drawn.is_gray,
            erased: drawn.erased.unwrap_or_default(),
            changes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ColorJitter, RandomAffine, RandomErasing, RandomPerspective};

    fn frame(size: usize, crop: usize) -> Frame {
        Frame { size, crop, offset: (size - crop) / 2, mean: [120.0; 3] }
    }

    /// Where a pixel comes from, by the words.
    fn position(words: &[u32], column: usize, row: usize) -> [f64; 2] {
        let wide = |at: usize| u64::from(words[2 * at]) | u64::from(words[2 * at + 1]) << 32;
        let (column, row) = (column as f64, row as f64);
        if words[28] == 0 {
            let pixels = |at: usize| wide(at) as i64 as f64 / ONE;
            return [0, 1]
                .map(|axis| pixels(axis) + column * pixels(2 + axis) + row * pixels(4 + axis));
        }
        let [a, b, c, d, e, f, g, h] = std::array::from_fn(|at| f64::from_bits(wide(6 + at)));
        let (x, y) = (column + 0.5, row + 0.5);
        let depth = g * x + h * y + 1.0;
        [(a * x + b * y + c) / depth, (d * x + e * y + f) / depth]
    }

    fn words(recipe: &Recipe) -> Vec<u32> {
        let mut bytes = [7; Recipe::BYTES];
        recipe.write(&mut bytes);
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn the_center_crop_has_whole_pixels() {
        let found = words(&Recipe::center_crop(&frame(12, 7)));
        let mut expected = vec![0; Recipe::WORDS];
        // From pixel (2, 2), by 1 to the right and 1 down, in units of the upper word.
        for (at, value) in [(1, 2), (3, 2), (5, 1), (11, 1)] {
            expected[at] = value;
        }
        assert_eq!(found, expected);
        let policy = AugmentationPolicy::default();
        assert_eq!(found, words(&policy.recipe(&frame(12, 7), Stream::new(1, "test", &[]))));
    }

    #[test]
    fn positions_are_those_of_the_sampling() {
        // The smallest scale leaves the range of the integers.
        for (scale, p) in [(0.9, 0.0), (0.9, 1.0), (1e-9, 0.0), (1e-9, 1.0)] {
            let affine =
                RandomAffine { degrees: 40.0, translate: [0.2; 2], scale: [scale; 2], shear: 10.0 };
            let policy = AugmentationPolicy {
                horizontal_flip: true,
                random_affine: Some(affine),
                random_perspective: Some(RandomPerspective { distortion_scale: 0.5, p }),
                ..AugmentationPolicy::default()
            };
            for seed in 0..20 {
                let stream = Stream::new(seed, "test", &[]);
                let frame = frame(40, 31);
                let words = words(&policy.recipe(&frame, stream.clone()));
                assert_eq!(words[28] == 1, p == 1.0 || scale < 1e-3);
                let sampling = policy.draw(&frame, stream).sampling;
                for (column, row) in [(0, 0), (30, 0), (0, 30), (30, 30), (15, 15), (3, 17)] {
                    let expected = sampling.position(frame.crop, column, row);
                    let found = position(&words, column, row);
                    let near = |axis: usize| {
                        let size = expected[axis].abs().max(1.0 / scale);
                        (found[axis] - expected[axis]).abs() < 1e-7 * size
                    };
                    assert!(near(0) && near(1), "{found:?} for {expected:?}");
                }
            }
        }
    }

    #[test]
    fn colors_and_the_rectangle_are_those_that_were_drawn() {
        let jitter = ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 };
        let policy = AugmentationPolicy {
            color_jitter: Some(jitter),
            random_grayscale: 0.5,
            random_erasing: Some(RandomErasing { p: 0.5, scale: [0.1, 0.3], ratio: [0.3, 3.3] }),
            ..AugmentationPolicy::default()
        };
        assert!(policy.on_gpu() && policy.changes_colors() && policy.needs_means());
        for seed in 0..20 {
            let stream = Stream::new(seed, "test", &[]);
            let drawn = policy.draw(&frame(9, 9), stream.clone());
            let words = words(&policy.recipe(&frame(9, 9), stream));
            assert_eq!(words[29] == 1, drawn.is_gray);
            assert_eq!(words[30..34], drawn.erased.unwrap_or_default().map(|edge| edge as u32));
            let changes: Vec<(u32, f32)> = drawn.jitter.into_iter().map(numbered).collect();
            let found = (34..38).map(|at| (words[at], f32::from_bits(words[at + 4])));
            assert_eq!(found.collect::<Vec<_>>(), changes);
        }
    }
}
