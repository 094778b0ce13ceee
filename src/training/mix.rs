//! Mixup and cutmix: each image of a batch is mixed with the one before it, and its target alike
//! (torchvision's `MixUp` and `CutMix`). A pure function of the seed and the batch's number.

use crate::data::AugmentationPolicy;
use crate::random::Stream;

/// How the images of one batch are mixed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mix {
    /// The share that an image keeps.
    share: f64,
    /// The center of the rectangle, as shares of width and height; none for mixup.
    center: Option<[f64; 2]>,
}

impl Mix {
    /// Draws for batch number `position` since the start of training.
    pub(crate) fn draw(policy: &AugmentationPolicy, seed: u64, position: u64) -> Mix {
        let mut stream = Stream::new(seed, "mix", &[position]);
        let is_cut = match (policy.mixup > 0.0, policy.cutmix > 0.0) {
            (true, true) => stream.chance(0.5),
            (_, is_cut) => is_cut,
        };
        let center = [stream.uniform(), stream.uniform()];
        let share = beta(if is_cut { policy.cutmix } else { policy.mixup }, &mut stream);
        Mix { share, center: is_cut.then_some(center) }
    }

    /// Mixes `count` square images (count, side, side, 3) and their targets (count, classes).
    pub(crate) fn apply(&self, images: &mut [f32], targets: &mut [f32], count: usize) {
        if count < 2 {
            return;
        }
        let length = images.len() / count;
        let side = ((length / 3) as f64).sqrt().round() as usize;
        let area = self.center.map(|center| self.area(center, side));
        let keep = match area {
            None => self.share,
            Some([left, top, right, bottom]) => {
                1.0 - ((right - left) * (bottom - top)) as f64 / (side * side) as f64
            }
        };
        let blend = |row: &mut [f32], other: &[f32]| {
            let pairs = row.iter_mut().zip(other);
            pairs.for_each(|(value, other)| {
                *value = *value * keep as f32 + other * (1.0 - keep) as f32;
            });
        };
        with_previous(images, count, |image, other| match area {
            None => blend(image, other),
            Some([left, top, right, bottom]) => {
                for row in top..bottom {
                    let line = (row * side + left) * 3..(row * side + right) * 3;
                    image[line.clone()].copy_from_slice(&other[line]);
                }
            }
        });
        with_previous(targets, count, blend);
    }

    /// Left, top, right and bottom of the rectangle, cut off at the border as in torchvision.
    fn area(&self, center: [f64; 2], side: usize) -> [usize; 4] {
        let half = (0.5 * (1.0 - self.share).sqrt() * side as f64) as usize;
        let [x, y] = center.map(|share| ((share * side as f64) as usize).min(side));
        let [left, top] = [x, y].map(|at| at.saturating_sub(half));
        let [right, bottom] = [x, y].map(|at| (at + half).min(side));
        [left, top, right, bottom]
    }
}

/// Calls `mix` with each of `count` rows and the one before it as it was; before the first comes
/// the last.
fn with_previous(rows: &mut [f32], count: usize, mix: impl Fn(&mut [f32], &[f32])) {
    let length = rows.len() / count;
    let last = rows[(count - 1) * length..].to_vec();
    for index in (1..count).rev() {
        let (before, rest) = rows.split_at_mut(index * length);
        mix(&mut rest[..length], &before[(index - 1) * length..]);
    }
    mix(&mut rows[..length], &last);
}

/// Beta(a, a), by two gamma variates.
fn beta(a: f64, stream: &mut Stream) -> f64 {
    let (one, other) = (gamma(a, stream), gamma(a, stream));
    // Both can underflow for a tiny `a`, where the distribution is a coin.
    if one + other > 0.0 { one / (one + other) } else { f64::from(u8::from(stream.chance(0.5))) }
}

/// Gamma(a, 1) (Marsaglia and Tsang, 2000).
fn gamma(a: f64, stream: &mut Stream) -> f64 {
    if a < 1.0 {
        let power = (1.0 - stream.uniform()).powf(1.0 / a);
        return gamma(a + 1.0, stream) * power;
    }
    let d = a - 1.0 / 3.0;
    loop {
        let normal = stream.normal();
        let cube = (1.0 + normal / (9.0 * d).sqrt()).powi(3);
        let bound = 0.5 * normal * normal + d - d * cube + d * cube.max(f64::MIN_POSITIVE).ln();
        if cube > 0.0 && (1.0 - stream.uniform()).ln() < bound {
            return d * cube;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mixup: f64, cutmix: f64) -> AugmentationPolicy {
        AugmentationPolicy { mixup, cutmix, ..AugmentationPolicy::default() }
    }

    /// Three images of 4 x 4 pixels, of the values 0, 100 and 200, and their targets.
    fn batch() -> (Vec<f32>, Vec<f32>) {
        let images = [0.0, 100.0, 200.0].iter().flat_map(|&value| [value; 48]).collect();
        (images, vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    }

    #[test]
    fn targets_are_mixed_as_the_images_are() {
        for (mixup, cutmix) in [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)] {
            for position in 0..50 {
                let (mut images, mut targets) = batch();
                let mix = Mix::draw(&policy(mixup, cutmix), 7, position);
                assert_eq!(mix, Mix::draw(&policy(mixup, cutmix), 7, position));
                mix.apply(&mut images, &mut targets, 3);
                for (image, target) in images.chunks_exact(48).zip(targets.chunks_exact(3)) {
                    // The mean of an image says which shares it has, and so does its target.
                    let mean = image.iter().sum::<f32>() / 48.0;
                    assert!((mean - target[1] * 100.0 - target[2] * 200.0).abs() < 1e-2);
                    assert!((target.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn one_image_stays_as_it_is() {
        let (mut image, mut target) = (vec![5.0; 48], vec![0.0, 1.0]);
        Mix::draw(&policy(1.0, 1.0), 7, 0).apply(&mut image, &mut target, 1);
        assert_eq!((image, target), (vec![5.0; 48], vec![0.0, 1.0]));
    }

    #[test]
    fn beta_has_its_mean_and_variance() {
        for a in [0.2, 1.0, 4.0] {
            let mut stream = Stream::new(3, "test", &[]);
            let drawn: Vec<f64> = (0..20_000).map(|_| beta(a, &mut stream)).collect();
            let mean = drawn.iter().sum::<f64>() / 20_000.0;
            let variance = drawn.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 20_000.0;
            let expected = 1.0 / (4.0 * (2.0 * a + 1.0));
            assert!((mean - 0.5).abs() < 0.01, "{a}: {mean}");
            assert!((variance - expected).abs() < 0.05 * expected + 0.001, "{a}: {variance}");
        }
        assert!(beta(1e-9, &mut Stream::new(3, "test", &[])).is_finite());
    }
}
