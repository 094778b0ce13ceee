//! The confidence interval of an F1 score.

use super::wilson;

/// The 95 % interval of a class's F1 from the images that have the label, those that were predicted
/// as it, and the `hits` that are both.
///
/// Let `J` be the share of hits among the images that have the label or the prediction. Given their
/// number, the hits are binomial, so [`wilson`] applies to `J`; and F1 = 2 J / (1 + J) rises with it,
/// so the ends carry over. 0 to 1 without such images.
pub fn f1_interval(hits: u64, labelled: u64, predicted: u64) -> [f64; 2] {
    let hits = hits.min(labelled).min(predicted);
    let either = (labelled - hits).saturating_add(predicted);
    wilson(hits, either).map(|share| 2.0 * share / (1.0 + share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use proptest::prelude::*;

    /// Of 2,000 test splits of 80 images each, drawn with known probabilities, nearly 95 % have an
    /// interval that contains the true F1.
    #[test]
    fn nineteen_of_twenty_intervals_contain_the_true_value() {
        for [hit, missed, wrong] in [[0.2, 0.05, 0.1], [0.08, 0.02, 0.02], [0.3, 0.2, 0.2]] {
            let truth = 2.0 * hit / (2.0 * hit + missed + wrong);
            let mut stream = Stream::new(7, "f1", &[]);
            let contains = |stream: &mut Stream| {
                let mut counts = [0; 4];
                for _ in 0..80 {
                    let at = stream.between(0.0, 1.0);
                    let ends = [hit, hit + missed, hit + missed + wrong];
                    counts[ends.iter().filter(|end| at >= **end).count()] += 1;
                }
                let [hits, missed, wrong, _] = counts;
                let [low, high] = f1_interval(hits, hits + missed, hits + wrong);
                low <= truth && truth <= high
            };
            let inside = (0..2000).filter(|_| contains(&mut stream)).count();
            assert!((1860..=1960).contains(&inside), "{inside} of 2000");
        }
    }

    #[test]
    fn the_ends_are_exact() {
        assert_eq!(f1_interval(0, 0, 0), [0.0, 1.0]);
        assert_eq!(f1_interval(5, 5, 5)[1], 1.0);
        assert_eq!(f1_interval(0, 5, 3)[0], 0.0);
    }

    proptest! {
        #[test]
        fn the_score_is_within_its_interval(hits in 0u64..500, missed in 0u64..500, wrong in 0u64..500) {
            let [low, high] = f1_interval(hits, hits + missed, hits + wrong);
            prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high) && low <= high);
            if hits + missed + wrong > 0 {
                let f1 = 2.0 * hits as f64 / (2 * hits + missed + wrong) as f64;
                prop_assert!(low <= f1 + 1e-12 && f1 <= high + 1e-12);
            }
        }

        #[test]
        fn any_counts_have_an_interval(hits: u64, labelled: u64, predicted: u64) {
            prop_assert!(f1_interval(hits, labelled, predicted).iter().all(|end| end.is_finite()));
        }
    }
}
