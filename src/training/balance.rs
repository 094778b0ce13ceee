//! Classes of unequal size: how much a image of each counts in the loss, and orders in which each comes equally often.
//! Counts the train split alone. Knows nothing of networks.

use super::TrainingError;
use super::options::ClassWeights;
use crate::random::Stream;

/// The weight of each class, whose names and numbers of training images are given. None where all count the same.
///
/// # Errors
/// When weights are given for a class that isn't there.
pub fn weights(
    wanted: &ClassWeights,
    names: &[String],
    counts: &[usize],
) -> Result<Option<Vec<f64>>, TrainingError> {
    match wanted {
        ClassWeights::None => Ok(None),
        ClassWeights::Balanced => Ok(Some(balanced(counts))),
        ClassWeights::Given(given) => {
            if let Some(unknown) = given.keys().find(|name| !names.contains(name)) {
                return Err(TrainingError::Unfit {
                    message: format!(
                        "`class_weights` names `{unknown}`, and no class is called that"
                    ),
                    help: format!("the classes are {}", names.join(", ")),
                });
            }
            Ok(Some(names.iter().map(|name| given.get(name).copied().unwrap_or(1.0)).collect()))
        }
    }
}

/// n / (classes * n of the class), over classes that have images (scikit-learn's "balanced"); 1 for the others.
fn balanced(counts: &[usize]) -> Vec<f64> {
    let all: usize = counts.iter().sum();
    let classes = counts.iter().filter(|&&count| count > 0).count();
    let weight =
        |&count: &usize| if count == 0 { 1.0 } else { all as f64 / (classes * count) as f64 };
    counts.iter().map(weight).collect()
}

/// The factor of each row of a batch's targets, so that the mean over this batch's rows, added up over the batches of a
/// step, is the weighted mean over all the step's images. `labels` are this batch's, `total` is the sum of the step's
/// weights.
pub fn row_factors(weights: Option<&[f64]>, labels: &[usize], total: f64) -> Vec<f32> {
    let count = labels.len() as f64;
    let weight =
        |&label: &usize| weights.and_then(|weights| weights.get(label)).copied().unwrap_or(1.0);
    labels.iter().map(|label| (weight(label) * count / total) as f32).collect()
}

/// The sum of the weights of some images.
pub fn total(weights: Option<&[f64]>, labels: impl Iterator<Item = usize>) -> f64 {
    labels.map(|label| weights.and_then(|weights| weights.get(label)).copied().unwrap_or(1.0)).sum()
}

/// As many samples as there are in `classes` together, an equal number of each class (give or take one), in an order of no
/// meaning. A class's samples take turns, in a new random order each time around, so that within an epoch none comes
/// twice more often than another.
pub fn sampled(classes: &[Vec<usize>], seed: u64, epoch: u64) -> Vec<usize> {
    let all: usize = classes.iter().map(Vec::len).sum();
    let present: Vec<&Vec<usize>> = classes.iter().filter(|samples| !samples.is_empty()).collect();
    let mut order = Vec::with_capacity(all);
    // Which classes get one more turns with the epoch.
    let extra = |class: usize| {
        (class as u64 + epoch) % (present.len() as u64) < (all % present.len()) as u64
    };
    for (class, samples) in present.iter().enumerate() {
        let mut left = all / present.len() + usize::from(extra(class));
        for round in 0.. {
            if left == 0 {
                break;
            }
            let mut turn = (*samples).clone();
            Stream::new(seed, "sampling", &[epoch, class as u64, round]).shuffle(&mut turn);
            turn.truncate(left);
            left -= turn.len();
            order.extend(turn);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// scikit-learn 1.9: `compute_class_weight("balanced", classes=[0, 1, 2], y=[0]*6 + [1]*3 + [2])`.
    #[test]
    fn balanced_weights_are_scikit_learns() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let found = weights(&ClassWeights::Balanced, &names, &[6, 3, 1]).unwrap().unwrap();
        let expected = [0.555_555_555_6, 1.111_111_111_1, 3.333_333_333_3];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
        assert_eq!(
            weights(&ClassWeights::Balanced, &names, &[5, 0, 5]).unwrap().unwrap(),
            [1.0, 1.0, 1.0]
        );
        assert_eq!(weights(&ClassWeights::None, &names, &[6, 3, 1]).unwrap(), None);
    }

    #[test]
    fn weights_are_given_by_name() {
        let names = ["shirt", "hat"].map(str::to_owned);
        let given = |name: &str| ClassWeights::Given(BTreeMap::from([(name.to_owned(), 2.5)]));
        assert_eq!(weights(&given("hat"), &names, &[1, 1]).unwrap().unwrap(), [1.0, 2.5]);
        let error = weights(&given("hats"), &names, &[1, 1]).unwrap_err();
        assert_eq!(error.to_string(), "`class_weights` names `hats`, and no class is called that");
        assert_eq!(error.help(), Some("the classes are shirt, hat"));
    }

    #[test]
    fn factors_make_the_weighted_mean_of_all_batches_of_a_step() {
        let weights = [1.0, 3.0];
        let (first, second) = ([0, 1, 1], [0]);
        let total = total(Some(&weights), first.into_iter().chain(second));
        assert_eq!(total, 8.0);
        assert_eq!(row_factors(Some(&weights), &first, total), [3.0 / 8.0, 9.0 / 8.0, 9.0 / 8.0]);
        assert_eq!(row_factors(Some(&weights), &second, total), [1.0 / 8.0]);
        assert_eq!(row_factors(None, &[0, 1], 2.0), [1.0, 1.0]);
    }

    proptest! {
        #[test]
        fn every_class_comes_equally_often(sizes in proptest::collection::vec(0usize..40, 1..6), seed in 0u64..9, epoch in 1u64..5) {
            let mut next = 0;
            let classes: Vec<Vec<usize>> = sizes.iter().map(|&size| {
                next += size;
                (next - size..next).collect()
            }).collect();
            prop_assume!(next > 0);
            let order = sampled(&classes, seed, epoch);
            prop_assert_eq!(order.len(), next);
            let present = sizes.iter().filter(|&&size| size > 0).count();
            for class in classes.iter().filter(|class| !class.is_empty()) {
                let count = |sample: &usize| order.iter().filter(|other| *other == sample).count();
                let counts: Vec<usize> = class.iter().map(count).collect();
                let sum: usize = counts.iter().sum();
                prop_assert!(sum == next / present || sum == next / present + 1);
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            }
            prop_assert_eq!(&order, &sampled(&classes, seed, epoch));
        }
    }
}
