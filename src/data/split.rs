//! Assigns images to the train, validation and test splits. An image's split follows from its
//! content, so it stays the same when images are added, renamed or relabelled, and identical images
//! are always in the same split.

use super::{DataError, Split};
use crate::common::words::shortened_list;
use crate::config::{choices, keys};
use crate::store::Digest;
use std::collections::BTreeMap;

keys! {
    /// How images are split.
    pub struct Rule / GivenRule {
        /// Fraction to train on. 0.8 if no fraction is given.
        train: f64 = computed in 0..=1;
        /// Fraction for validation while training. 0.1 if no fraction is given, else 0.
        validation: f64 = computed in 0..=1;
        /// Fraction to score once, at the end. 0.1 if no fraction is given, else 0.
        test: f64 = computed in 0..=1;
        /// `hash`: by the image's content, so that an image stays in its split when others are
        /// added; `exact`: exact fractions of each class.
        method: Method = "hash";
        /// Another seed makes another split. It isn't the pipeline's, so that runs with different
        /// seeds are scored on the same images.
        seed: u64 = 0;
    }
}

choices! {
    /// How the fractions are met.
    pub enum Method {
        /// Each image by itself: stable, fractions as near as chance has it.
        Hash = "hash",
        /// Each class by exact counts: new images may move others.
        Exact = "exact",
    }
}

/// A labelled image.
#[derive(Clone, Copy, Debug)]
pub struct Labelled {
    pub digest: Digest,
    pub class: u32,
}

/// Checks the fractions of a rule. The error is a sentence.
pub fn check(rule: &Rule) -> Result<(), String> {
    let fractions = [rule.train, rule.validation, rule.test];
    let sum: f64 = fractions.iter().sum();
    if fractions.iter().any(|fraction| !(0.0..=1.0).contains(fraction)) {
        return Err("the fractions of the split must be between 0 and 1".into());
    }
    if (sum - 1.0).abs() > 1e-6 {
        return Err(format!(
            "the fractions of the split sum to {}, not 1",
            (sum * 1e6).round() / 1e6
        ));
    }
    if rule.train == 0.0 { Err("the split `train` is empty".into()) } else { Ok(()) }
}

/// The split of each image.
///
/// # Errors
/// If a split with a fraction above 0 is empty, or a class has no training images.
pub fn split(
    images: &[Labelled],
    classes: &[String],
    rule: &Rule,
) -> Result<Vec<Split>, DataError> {
    check(rule).map_err(|message| DataError::invalid(message, HELP))?;
    let distinct = distinct(images);
    check_classes(&distinct, classes)?;
    let by_source = match rule.method {
        Method::Hash => distinct.keys().map(|source| (*source, by_hash(source, rule))).collect(),
        Method::Exact => by_exact_counts(&distinct, classes.len(), rule),
    };
    let splits: Vec<Split> = images
        .iter()
        .map(|one| by_source.get(&one.digest).copied().unwrap_or(Split::Train))
        .collect();
    check_empty(images, &splits, classes, rule)?;
    Ok(splits)
}

const HELP: &str = "write [dataset] split = { train = 0.8, validation = 0.1, test = 0.1 }";

/// Each distinct image with its class. For identical images with different labels, the first label
/// counts.
fn distinct(images: &[Labelled]) -> BTreeMap<Digest, u32> {
    let mut distinct = BTreeMap::new();
    for one in images {
        distinct.entry(one.digest).or_insert(one.class);
    }
    distinct
}

/// A number in [0, 1) derived from seed and content.
fn position(source: &Digest, seed: u64) -> f64 {
    let mut bytes = seed.to_le_bytes().to_vec();
    bytes.extend_from_slice(source.as_bytes());
    let digest = Digest::of(&bytes);
    let word =
        digest.as_bytes().iter().take(8).fold(0u64, |word, &byte| word << 8 | u64::from(byte));
    (word >> 11) as f64 / (1u64 << 53) as f64
}

fn by_hash(source: &Digest, rule: &Rule) -> Split {
    match position(source, rule.seed) {
        at if at < rule.test => Split::Test,
        at if at < rule.test + rule.validation => Split::Validation,
        _ => Split::Train,
    }
}

/// Sorts the images of each class by position and cuts the list by the largest-remainder method.
fn by_exact_counts(
    distinct: &BTreeMap<Digest, u32>,
    classes: usize,
    rule: &Rule,
) -> BTreeMap<Digest, Split> {
    let mut members: Vec<Vec<(f64, Digest)>> = vec![Vec::new(); classes];
    for (source, class) in distinct {
        if let Some(class) = members.get_mut(*class as usize) {
            class.push((position(source, rule.seed), *source));
        }
    }
    let mut splits = BTreeMap::new();
    for class in &mut members {
        class.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let counts = apportion(class.len(), [rule.test, rule.validation, rule.train]);
        let order = [Split::Test, Split::Validation, Split::Train];
        let kinds =
            order.iter().zip(counts).flat_map(|(split, count)| std::iter::repeat_n(*split, count));
        splits.extend(class.iter().map(|(_, source)| *source).zip(kinds));
    }
    splits
}

/// Distributes `count` by the largest-remainder method; of equal remainders, the later entry comes
/// first.
fn apportion(count: usize, fractions: [f64; 3]) -> [usize; 3] {
    // The small addend keeps 0.1 of 30 from being floored to 2.
    let exact = fractions.map(|fraction| fraction * count as f64 + 1e-10);
    let mut counts = exact.map(|fraction| fraction.floor() as usize);
    let mut order = [2, 1, 0];
    order.sort_by(|&a, &b| (exact[b] - exact[b].floor()).total_cmp(&(exact[a] - exact[a].floor())));
    for &fraction in order.iter().cycle().take(count.saturating_sub(counts.iter().sum())) {
        counts[fraction] += 1;
    }
    counts
}

fn check_classes(distinct: &BTreeMap<Digest, u32>, classes: &[String]) -> Result<(), DataError> {
    let mut counts = vec![0u64; classes.len()];
    for class in distinct.values() {
        if let Some(count) = counts.get_mut(*class as usize) {
            *count += 1;
        }
    }
    let few: Vec<&str> = classes
        .iter()
        .zip(&counts)
        .filter(|(_, count)| **count < 2)
        .map(|(name, _)| name.as_str())
        .collect();
    if few.is_empty() {
        return Ok(());
    }
    Err(DataError::invalid(
        format!("there is only one image of {}", shortened_list(few.iter().copied(), 5)),
        "add images of it, remove it, or merge it with another class in [dataset] class_names",
    ))
}

fn check_empty(
    images: &[Labelled],
    splits: &[Split],
    classes: &[String],
    rule: &Rule,
) -> Result<(), DataError> {
    let fractions = [
        (Split::Train, rule.train),
        (Split::Validation, rule.validation),
        (Split::Test, rule.test),
    ];
    for (split, fraction) in fractions {
        if fraction > 0.0 && !splits.contains(&split) {
            return Err(DataError::invalid(
                format!(
                    "the split `{split}` is empty, though its fraction is {} %",
                    fraction * 100.0
                ),
                "add images, or set its fraction in [dataset] split higher, or to 0",
            ));
        }
    }
    let mut trained = vec![false; classes.len()];
    for (one, _) in images.iter().zip(splits).filter(|(_, split)| **split == Split::Train) {
        if let Some(class) = trained.get_mut(one.class as usize) {
            *class = true;
        }
    }
    let missing: Vec<&str> = classes
        .iter()
        .zip(&trained)
        .filter(|(_, trained)| !**trained)
        .map(|(name, _)| name.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(DataError::invalid(
        format!("the split `train` has no image of {}", shortened_list(missing.iter().copied(), 5)),
        "write `method = \"exact\"` in [dataset] split, or add images",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(train: f64, validation: f64, test: f64, method: Method) -> Rule {
        Rule { train, validation, test, method, seed: 0 }
    }

    fn set(count: usize, classes: u32) -> Vec<Labelled> {
        (0..count as u32)
            .map(|index| Labelled {
                digest: Digest::of(&index.to_le_bytes()),
                class: index % classes,
            })
            .collect()
    }

    fn names(count: u32) -> Vec<String> {
        (0..count).map(|class| class.to_string()).collect()
    }

    #[test]
    fn exact_counts_are_met_in_each_class() {
        let images = set(300, 3);
        let splits = split(&images, &names(3), &rule(0.7, 0.1, 0.2, Method::Exact)).unwrap();
        for class in 0..3 {
            let count = |wanted| {
                images
                    .iter()
                    .zip(&splits)
                    .filter(|(one, split)| one.class == class && **split == wanted)
                    .count()
            };
            assert_eq!([Split::Train, Split::Validation, Split::Test].map(count), [70, 10, 20]);
        }
    }

    #[test]
    fn a_hash_split_is_approximate_and_stable() {
        let fractions = rule(0.8, 0.1, 0.1, Method::Hash);
        let (fewer, more) = (set(4000, 4), set(5000, 4));
        let splits = split(&more, &names(4), &fractions).unwrap();
        assert_eq!(split(&fewer, &names(4), &fractions).unwrap(), splits[..4000]);
        let tested = splits.iter().filter(|split| **split == Split::Test).count();
        assert!((420..580).contains(&tested), "{tested}");
        let other = split(&more, &names(4), &Rule { seed: 1, ..fractions }).unwrap();
        assert_ne!(other, splits);
    }

    proptest! {
        #[test]
        fn identical_images_are_in_one_split(exact in any::<bool>(), copies in 1usize..5) {
            let one = set(200, 2);
            let images: Vec<Labelled> = (0..copies).flat_map(|_| one.clone()).collect();
            let method = if exact { Method::Exact } else { Method::Hash };
            let splits = split(&images, &names(2), &rule(0.5, 0.2, 0.3, method)).unwrap();
            for (index, split) in splits.iter().enumerate() {
                prop_assert_eq!(*split, splits[index % 200]);
            }
        }

        #[test]
        fn apportioned_counts_sum_to_the_whole(count in 0usize..500, a in 0f64..1.0, b in 0f64..1.0) {
            let (low, high) = (a.min(b), a.max(b));
            let fractions = [low, high - low, 1.0 - high];
            let counts = apportion(count, fractions);
            prop_assert_eq!(counts.iter().sum::<usize>(), count);
            for (fraction, whole) in fractions.iter().zip(counts) {
                prop_assert!((fraction * count as f64 - whole as f64).abs() < 1.0 + 1e-6);
            }
        }
    }

    #[test]
    fn an_impossible_split_is_an_error() {
        let message = |images: &[Labelled], classes, rule: Rule| {
            split(images, &names(classes), &rule).unwrap_err().to_string()
        };
        let hash = Method::Hash;
        assert_eq!(
            message(&set(10, 2), 2, rule(0.8, 0.1, 0.2, hash)),
            "the fractions of the split sum to 1.1, not 1"
        );
        assert_eq!(
            message(&set(10, 2), 2, rule(0.0, 0.5, 0.5, hash)),
            "the split `train` is empty"
        );
        assert_eq!(
            message(&set(3, 2), 2, rule(0.8, 0.1, 0.1, hash)),
            "there is only one image of `1`"
        );
        let mut equal = set(10, 2);
        equal.iter_mut().for_each(|one| one.digest = Digest::of(&one.class.to_le_bytes()));
        assert!(message(&equal, 2, rule(0.8, 0.1, 0.1, hash)).contains("only one image"));
        assert!(
            message(&set(4, 2), 2, rule(0.98, 0.01, 0.01, hash))
                .contains("the split `validation` is empty")
        );
        assert!(
            message(&set(40, 20), 20, rule(0.2, 0.4, 0.4, hash))
                .contains("the split `train` has no image of")
        );
        assert!(split(&set(20, 2), &names(2), &rule(0.8, 0.0, 0.2, Method::Exact)).is_ok());
    }
}
