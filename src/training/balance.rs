//! Class imbalance: class weights in the loss, and balanced sampling. Both count the training split
//! only. Depends on no network.

use super::TrainingError;
use super::options::ClassWeights;
use crate::random::Stream;

/// The weight of each class; `counts` are their training images. None without class weights.
///
/// # Errors
/// If a weight is given for an unknown class.
pub(super) fn class_weights(
    config: &ClassWeights,
    names: &[String],
    counts: &[usize],
) -> Result<Option<Vec<f64>>, TrainingError> {
    match config {
        ClassWeights::None => Ok(None),
        ClassWeights::Balanced => Ok(Some(balanced(counts))),
        ClassWeights::Given(given) => {
            if let Some(unknown) = given.keys().find(|name| !names.contains(name)) {
                return Err(TrainingError::Incompatible {
                    message: format!("`class_weights` names `{unknown}`, which is not a class"),
                    help: format!("the classes are {}", names.join(", ")),
                });
            }
            Ok(Some(names.iter().map(|name| given.get(name).copied().unwrap_or(1.0)).collect()))
        }
    }
}

/// scikit-learn's "balanced": n / (classes * n of the class), over classes with images; 1 for
/// others.
fn balanced(counts: &[usize]) -> Vec<f64> {
    let all: usize = counts.iter().sum();
    let classes = counts.iter().filter(|&&count| count > 0).count();
    let weight =
        |&count: &usize| if count == 0 { 1.0 } else { all as f64 / (classes * count) as f64 };
    counts.iter().map(weight).collect()
}

fn weight(weights: Option<&[f64]>, label: usize) -> f64 {
    weights.and_then(|weights| weights.get(label)).copied().unwrap_or(1.0)
}

/// The weight of each row of a batch's targets. The means over the rows of each batch, summed over
/// the batches of a step, are then the weighted mean over all images of the step. `total` is the
/// step's [`total_weight`].
pub(super) fn row_weights(weights: Option<&[f64]>, labels: &[usize], total: f64) -> Vec<f32> {
    let count = labels.len() as f64;
    labels.iter().map(|&label| (weight(weights, label) * count / total) as f32).collect()
}

pub(super) fn total_weight(weights: Option<&[f64]>, labels: impl Iterator<Item = usize>) -> f64 {
    labels.map(|label| weight(weights, label)).sum()
}

/// As many samples as `classes` have together, equally many of each class (to within one), not
/// shuffled across classes. The samples of a class are visited in rounds, each in a new random
/// order, so within an epoch their counts differ by at most one.
pub(super) fn balanced_samples(classes: &[Vec<usize>], seed: u64, epoch: u64) -> Vec<usize> {
    let all: usize = classes.iter().map(Vec::len).sum();
    let present: Vec<&Vec<usize>> = classes.iter().filter(|samples| !samples.is_empty()).collect();
    let mut order = Vec::with_capacity(all);
    // The classes that get one more sample rotate with the epoch.
    let extra = |class: usize| {
        (class as u64 + epoch) % (present.len() as u64) < (all % present.len()) as u64
    };
    for (class, samples) in present.iter().enumerate() {
        let mut left = all / present.len() + usize::from(extra(class));
        for round in 0.. {
            if left == 0 {
                break;
            }
            let mut drawn = (*samples).clone();
            Stream::new(seed, "sampling", &[epoch, class as u64, round]).shuffle(&mut drawn);
            drawn.truncate(left);
            left -= drawn.len();
            order.extend(drawn);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// scikit-learn 1.9:
    /// `compute_class_weight("balanced", classes=[0, 1, 2], y=[0]*6 + [1]*3 + [2])`.
    #[test]
    fn balanced_weights_equal_scikit_learn() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let found = class_weights(&ClassWeights::Balanced, &names, &[6, 3, 1]).unwrap().unwrap();
        let expected = [0.555_555_555_6, 1.111_111_111_1, 3.333_333_333_3];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
        assert_eq!(
            class_weights(&ClassWeights::Balanced, &names, &[5, 0, 5]).unwrap().unwrap(),
            [1.0, 1.0, 1.0]
        );
        assert_eq!(class_weights(&ClassWeights::None, &names, &[6, 3, 1]).unwrap(), None);
    }

    #[test]
    fn weights_are_assigned_by_class_name() {
        let names = ["shirt", "hat"].map(str::to_owned);
        let given = |name: &str| ClassWeights::Given(BTreeMap::from([(name.to_owned(), 2.5)]));
        assert_eq!(class_weights(&given("hat"), &names, &[1, 1]).unwrap().unwrap(), [1.0, 2.5]);
        let error = class_weights(&given("hats"), &names, &[1, 1]).unwrap_err();
        assert_eq!(error.to_string(), "`class_weights` names `hats`, which is not a class");
        assert_eq!(error.help().as_deref(), Some("the classes are shirt, hat"));
    }

    #[test]
    fn row_weights_yield_the_weighted_mean_over_a_step() {
        let weights = [1.0, 3.0];
        let (first, second) = ([0, 1, 1], [0]);
        let total = total_weight(Some(&weights), first.into_iter().chain(second));
        assert_eq!(total, 8.0);
        assert_eq!(row_weights(Some(&weights), &first, total), [3.0 / 8.0, 9.0 / 8.0, 9.0 / 8.0]);
        assert_eq!(row_weights(Some(&weights), &second, total), [1.0 / 8.0]);
        assert_eq!(row_weights(None, &[0, 1], 2.0), [1.0, 1.0]);
    }

    proptest! {
        #[test]
        fn every_class_is_drawn_equally_often(sizes in proptest::collection::vec(0usize..40, 1..6), seed in 0u64..9, epoch in 1u64..5) {
            let mut next = 0;
            let classes: Vec<Vec<usize>> = sizes.iter().map(|&size| {
                next += size;
                (next - size..next).collect()
            }).collect();
            prop_assume!(next > 0);
            let order = balanced_samples(&classes, seed, epoch);
            prop_assert_eq!(order.len(), next);
            let present = sizes.iter().filter(|&&size| size > 0).count();
            for class in classes.iter().filter(|class| !class.is_empty()) {
                let count = |sample: &usize| order.iter().filter(|other| *other == sample).count();
                let counts: Vec<usize> = class.iter().map(count).collect();
                let sum: usize = counts.iter().sum();
                prop_assert!(sum == next / present || sum == next / present + 1);
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            }
            prop_assert_eq!(&order, &balanced_samples(&classes, seed, epoch));
        }
    }
}
