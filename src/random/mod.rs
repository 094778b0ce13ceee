//! Random numbers. Every stream is named by the run's one seed, a purpose and a position (such as
//! an epoch, a step or a sample), so generators have no state worth saving and nothing depends on
//! how work is spread over threads.
//!
//! The generator is `rand_xoshiro`'s. The distributions are written here, since `rand` may change
//! the values of its own between releases: these values enter artifacts, and changing them changes
//! the output of every kind that draws random numbers. Golden tests would fail.

use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rand_xoshiro::{SplitMix64, Xoshiro256PlusPlus};

/// A stream of pseudo-random numbers (xoshiro256++). Streams with different names are independent
/// for every practical purpose.
#[derive(Clone, Debug)]
pub struct Stream(Xoshiro256PlusPlus);

/// A bijection of 64-bit words that mixes every bit.
fn mix(word: u64) -> u64 {
    SplitMix64::seed_from_u64(word).next_u64()
}

/// 64-bit FNV-1a.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Stream {
    /// The stream of `purpose` ("order", "dropout", …) at `position`, such as `[epoch, sample]`.
    pub fn new(seed: u64, purpose: &str, position: &[u64]) -> Stream {
        let root = mix(mix(seed) ^ name_hash(purpose));
        let start = position.iter().fold(root, |hash, &part| mix(hash ^ mix(part)));
        let mut words = SplitMix64::seed_from_u64(start);
        // The first word is `mix(start)`, the start of a stream at a longer position: not used.
        words.next_u64();
        Stream(Xoshiro256PlusPlus::from_rng(&mut words))
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform in 0..bound; 0 for an empty range. Unbiased (Lemire, 2019).
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.bits()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// Standard normal (Box and Muller, 1958), one value from two uniforms.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_a_purpose_and_a_position_name_one_stream() {
        let draw = |seed, purpose, position: &[u64]| Stream::new(seed, purpose, position).bits();
        assert_eq!(draw(42, "order", &[3]), draw(42, "order", &[3]));
        let others = [
            draw(43, "order", &[3]),
            draw(42, "dropout", &[3]),
            draw(42, "order", &[4]),
            draw(42, "order", &[3, 0]),
        ];
        assert!(others.iter().all(|&other| other != draw(42, "order", &[3])));
    }

    #[test]
    fn golden_numbers() {
        // These enter artifacts: see the header of the file.
        let mut stream = Stream::new(42, "order", &[3, 1]);
        let found: [u64; 3] = std::array::from_fn(|_| stream.bits());
        let expected =
            [6_606_173_060_336_421_556, 2_285_269_039_655_568_687, 9_507_822_169_484_133_440];
        assert_eq!(found, expected);
        assert_eq!((stream.uniform(), stream.below(1000)), (0.712_380_839_107_020_8, 92));
        assert!((stream.normal() - 1.213_930_121_489_197).abs() < 1e-14);
        let mut items = [0, 1, 2, 3, 4, 5, 6, 7];
        stream.shuffle(&mut items);
        assert_eq!(items, [6, 5, 3, 1, 4, 7, 2, 0]);
    }

    #[test]
    fn mean_and_variance_are_those_of_the_distributions() {
        let mut stream = Stream::new(1, "moments", &[]);
        let count = 100_000;
        let uniform: f64 = (0..count).map(|_| stream.uniform()).sum::<f64>() / f64::from(count);
        assert!((uniform - 0.5).abs() < 0.005, "{uniform}");
        let normals: Vec<f64> = (0..count).map(|_| stream.normal()).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(count);
        let variance = normals.iter().map(|x| x * x).sum::<f64>() / f64::from(count);
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut stream = Stream::new(1, "below", &[]);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[stream.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (9_500..10_500).contains(&count)), "{counts:?}");
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.below(1), 0);
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut items: Vec<u32> = (0..1000).collect();
        Stream::new(1, "shuffle", &[]).shuffle(&mut items);
        assert_ne!(items, (0..1000).collect::<Vec<u32>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<u32>>());
    }
}
