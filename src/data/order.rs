//! The order in which an epoch visits samples, a function of the seed and the epoch alone: there is
//! no state to save, and any step can be the first.

use crate::random::Stream;
use std::collections::HashMap;

/// `samples` in the random order of an epoch.
pub fn shuffled(mut samples: Vec<usize>, seed: u64, epoch: u64) -> Vec<usize> {
    Stream::new(seed, "order", &[epoch]).shuffle(&mut samples);
    samples
}

/// For each position of an order, how often its sample occurs earlier in it.
pub fn repeats(order: &[usize]) -> Vec<u32> {
    let mut seen: HashMap<usize, u32> = HashMap::new();
    let repeat = |&sample| {
        let count = seen.entry(sample).or_default();
        std::mem::replace(count, *count + 1)
    };
    order.iter().map(repeat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_count_earlier_occurrences() {
        assert_eq!(repeats(&[4, 1, 4, 4, 1]), [0, 0, 1, 2, 1]);
        assert!(repeats(&[]).is_empty());
    }
}
