//! Which images are learned from, looked at and scored. A image's split follows from its content, so it keeps it when
//! images are added, renamed or relabelled, and equal images are never on both sides. Knows nothing of pixels.

use super::{DataError, Split};
use crate::common::words::shortened_list;
use crate::store::Digest;
use serde::Deserialize;
use std::collections::BTreeMap;

/// How images are split.
#[derive(Deserialize, Clone, Debug, PartialEq)]
pub struct Rule {
    /// Part to learn from.
    pub train: f64,
    /// Part to look at while learning.
    pub validation: f64,
    /// Part to score at the end.
    pub test: f64,
    /// How the parts are kept to.
    pub method: Method,
    /// Another seed, another split.
    pub seed: u64,
}

/// How the parts are kept to.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Each image by itself: stable, parts as near as chance has it.
    Hash,
    /// Each class by exact counts: new images may move others.
    Exact,
}

/// A labelled image as a split sees it.
#[derive(Clone, Copy, Debug)]
pub struct Labelled {
    /// Digest of its content.
    pub digest: Digest,
    /// Index of its class.
    pub class: u32,
}

/// Whether the parts are such that they can be kept to; the sentence says what is wrong.
pub fn check(rule: &Rule) -> Result<(), String> {
    let parts = [rule.train, rule.validation, rule.test];
    let sum: f64 = parts.iter().sum();
    if parts.iter().any(|part| !(0.0..=1.0).contains(part)) {
        return Err("the parts of a split lie between 0 and 1".into());
    }
    if (sum - 1.0).abs() > 1e-6 {
        return Err(format!("the parts of the split sum to {}, not 1", (sum * 1e6).round() / 1e6));
    }
    if rule.train == 0.0 { Err("nothing is left to train on".into()) } else { Ok(()) }
}

/// The split of each image.
///
/// # Errors
/// Where a split that was asked for, or a class's part of the training images, would be empty.
pub fn split(
    images: &[Labelled],
    classes: &[String],
    rule: &Rule,
) -> Result<Vec<Split>, DataError> {
    check(rule).map_err(|what| DataError::invalid(what, HELP))?;
    let different = different(images);
    check_classes(&different, classes)?;
    let by_source = match rule.method {
        Method::Hash => different.keys().map(|source| (*source, by_hash(source, rule))).collect(),
        Method::Exact => exactly(&different, classes.len(), rule),
    };
    let splits: Vec<Split> = images
        .iter()
        .map(|one| by_source.get(&one.digest).copied().unwrap_or(Split::Train))
        .collect();
    check_empty(images, &splits, classes, rule)?;
    Ok(splits)
}

const HELP: &str = "write [dataset] split = { train = 0.8, validation = 0.1, test = 0.1 }";

/// Each different image with its class; equal ones under different labels count for the first.
fn different(images: &[Labelled]) -> BTreeMap<Digest, u32> {
    let mut different = BTreeMap::new();
    for one in images {
        different.entry(one.digest).or_insert(one.class);
    }
    different
}

/// A number in [0, 1) that follows from seed and content.
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

/// Each class in the order of its images' positions, cut by the largest remainders.
fn exactly(
    different: &BTreeMap<Digest, u32>,
    classes: usize,
    rule: &Rule,
) -> BTreeMap<Digest, Split> {
    let mut members: Vec<Vec<(f64, Digest)>> = vec![Vec::new(); classes];
    for (source, class) in different {
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

/// `count` in whole parts that sum to it, by the largest remainders; of equal ones the later part gets more.
fn apportion(count: usize, parts: [f64; 3]) -> [usize; 3] {
    // A ten-billionth more, so that 0.1 of 30 isn't floored to 2.
    let exact = parts.map(|part| part * count as f64 + 1e-10);
    let mut counts = exact.map(|part| part.floor() as usize);
    let mut order = [2, 1, 0];
    order.sort_by(|&a, &b| (exact[b] - exact[b].floor()).total_cmp(&(exact[a] - exact[a].floor())));
    for &part in order.iter().cycle().take(count.saturating_sub(counts.iter().sum())) {
        counts[part] += 1;
    }
    counts
}

fn check_classes(different: &BTreeMap<Digest, u32>, classes: &[String]) -> Result<(), DataError> {
    let mut counts = vec![0u64; classes.len()];
    for class in different.values() {
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
        format!("of {} there is only one image", shortened_list(few.iter().copied(), 5)),
        "add images of it, take it away, or give it the name of another class in [dataset] class_names",
    ))
}

fn check_empty(
    images: &[Labelled],
    splits: &[Split],
    classes: &[String],
    rule: &Rule,
) -> Result<(), DataError> {
    let parts = [
        (Split::Train, rule.train),
        (Split::Validation, rule.validation),
        (Split::Test, rule.test),
    ];
    for (split, part) in parts {
        if part > 0.0 && !splits.contains(&split) {
            return Err(DataError::invalid(
                format!(
                    "no image falls into the split `{split}`, which should hold {} %",
                    part * 100.0
                ),
                "add images, or make that part of [dataset] split larger, or 0",
            ));
        }
    }
    let mut learned = vec![false; classes.len()];
    for (one, _) in images.iter().zip(splits).filter(|(_, split)| **split == Split::Train) {
        if let Some(class) = learned.get_mut(one.class as usize) {
            *class = true;
        }
    }
    let missing: Vec<&str> = classes
        .iter()
        .zip(&learned)
        .filter(|(_, learned)| !**learned)
        .map(|(name, _)| name.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(DataError::invalid(
        format!(
            "no image of {} falls into the split `train`",
            shortened_list(missing.iter().copied(), 5)
        ),
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
    fn exact_counts_hold_in_each_class() {
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
    fn a_hash_split_is_near_its_parts_and_stable() {
        let parts = rule(0.8, 0.1, 0.1, Method::Hash);
        let (fewer, more) = (set(4000, 4), set(5000, 4));
        let splits = split(&more, &names(4), &parts).unwrap();
        assert_eq!(split(&fewer, &names(4), &parts).unwrap(), splits[..4000]);
        let tested = splits.iter().filter(|split| **split == Split::Test).count();
        assert!((420..580).contains(&tested), "{tested}");
        let other = split(&more, &names(4), &Rule { seed: 1, ..parts }).unwrap();
        assert_ne!(other, splits);
    }

    proptest! {
        #[test]
        fn equal_images_never_straddle(exact in any::<bool>(), copies in 1usize..5) {
            let one = set(200, 2);
            let images: Vec<Labelled> = (0..copies).flat_map(|_| one.clone()).collect();
            let method = if exact { Method::Exact } else { Method::Hash };
            let splits = split(&images, &names(2), &rule(0.5, 0.2, 0.3, method)).unwrap();
            for (index, split) in splits.iter().enumerate() {
                prop_assert_eq!(*split, splits[index % 200]);
            }
        }

        #[test]
        fn whole_parts_sum_up(count in 0usize..500, a in 0f64..1.0, b in 0f64..1.0) {
            let (low, high) = (a.min(b), a.max(b));
            let parts = [low, high - low, 1.0 - high];
            let counts = apportion(count, parts);
            prop_assert_eq!(counts.iter().sum::<usize>(), count);
            for (part, whole) in parts.iter().zip(counts) {
                prop_assert!((part * count as f64 - whole as f64).abs() < 1.0 + 1e-6);
            }
        }
    }

    #[test]
    fn what_cannot_be_split_is_said() {
        let said = |images: &[Labelled], classes, rule: Rule| {
            split(images, &names(classes), &rule).unwrap_err().to_string()
        };
        let hash = Method::Hash;
        assert_eq!(
            said(&set(10, 2), 2, rule(0.8, 0.1, 0.2, hash)),
            "the parts of the split sum to 1.1, not 1"
        );
        assert_eq!(said(&set(10, 2), 2, rule(0.0, 0.5, 0.5, hash)), "nothing is left to train on");
        assert_eq!(
            said(&set(3, 2), 2, rule(0.8, 0.1, 0.1, hash)),
            "of `1` there is only one image"
        );
        let mut equal = set(10, 2);
        equal.iter_mut().for_each(|one| one.digest = Digest::of(&one.class.to_le_bytes()));
        assert!(said(&equal, 2, rule(0.8, 0.1, 0.1, hash)).contains("only one image"));
        assert!(said(&set(4, 2), 2, rule(0.98, 0.01, 0.01, hash)).contains("split `validation`"));
        assert!(
            said(&set(40, 20), 20, rule(0.2, 0.4, 0.4, hash))
                .contains("falls into the split `train`")
        );
        assert!(split(&set(20, 2), &names(2), &rule(0.8, 0.0, 0.2, Method::Exact)).is_ok());
    }
}
