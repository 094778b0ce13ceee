//! Tests of splits: shares, groups, equal pixels and published splits.

use super::*;
use proptest::prelude::*;

fn rule(train: f64, validation: f64, test: f64, method: Method) -> Rule {
    Rule {
        from: None,
        train,
        validation,
        test,
        method,
        column: "split".into(),
        file: None,
        group: None,
        pattern: None,
        seed: 0,
    }
}

fn set(count: usize, classes: u32) -> Vec<Labelled<'static>> {
    (0..count as u32)
        .map(|index| Labelled {
            digest: Digest::of(&index.to_le_bytes()),
            pixels: None,
            class: index % classes,
            given: None,
            group: None,
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
        let counts = apportion(count, fractions, &[0.0; 3]);
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
    assert_eq!(message(&set(3, 2), 2, rule(0.8, 0.1, 0.1, hash)), "there is only one image of `1`");
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

fn count(splits: &[Split], wanted: Split) -> usize {
    splits.iter().filter(|split| **split == wanted).count()
}

const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

#[test]
fn remainders_carry_over_classes() {
    let images = set(200, 20);
    let splits = split(&images, &names(20), &rule(0.7, 0.15, 0.15, Method::Exact)).unwrap();
    assert_eq!(ALL.map(|one| count(&splits, one)), [140, 30, 30]);
    let images = set(77, 11);
    let splits = split(&images, &names(11), &rule(0.8, 0.2, 0.0, Method::Exact)).unwrap();
    assert_eq!(ALL.map(|one| count(&splits, one)), [62, 15, 0]);
}

#[test]
fn equal_pixels_and_groups_are_on_one_side() {
    let pixels: Vec<Digest> = (0..20).map(|number| Digest::of(&[number])).collect();
    let patients: Vec<String> = (0..20).map(|number| format!("patient {number}")).collect();
    for method in [Method::Exact, Method::Hash] {
        let mut images = set(240, 2);
        for (at, image) in images.iter_mut().enumerate() {
            if at < 80 {
                image.pixels = Some(&pixels[at / 4]);
            } else if at < 160 {
                image.group = Some(&patients[at / 8]);
            }
        }
        let splits = split(&images, &names(2), &rule(0.6, 0.2, 0.2, method)).unwrap();
        for at in 0..80 {
            assert_eq!(splits[at], splits[at / 4 * 4]);
        }
        for at in 80..160 {
            assert_eq!(splits[at], splits[at / 8 * 8]);
        }
        if method == Method::Exact {
            for (one, wanted) in ALL.iter().zip([144, 48, 48]) {
                assert!(count(&splits, *one).abs_diff(wanted) <= 8, "{one}");
            }
        }
    }
}

#[test]
fn an_authors_split_is_kept_and_completed_only_where_it_lacks_one() {
    let mut images = set(100, 2);
    for (at, image) in images.iter_mut().enumerate() {
        image.given = Some(if at < 60 { Split::Train } else { Split::Test });
    }
    let given = Rule { from: Some(SplitFrom::Folder), ..rule(1.0, 0.0, 0.0, Method::Exact) };
    let splits = split(&images, &names(2), &given).unwrap();
    assert_eq!(ALL.map(|one| count(&splits, one)), [60, 0, 40]);
    let more = Rule { train: 0.7, validation: 0.1, test: 0.2, ..given };
    let splits = split(&images, &names(2), &more).unwrap();
    assert_eq!(ALL.map(|one| count(&splits, one)), [54, 6, 40]);
    assert_eq!(count(&splits[60..], Split::Test), 40);
    images.iter_mut().for_each(|image| image.given = Some(Split::Test));
    assert!(split(&images, &names(2), &more).is_ok());
}

#[test]
fn a_quick_try_takes_the_same_images_when_others_are_added() {
    let of = |count: u32| -> Vec<_> {
        let image = |at: u32| (Digest::of(&at.to_le_bytes()), Some(at % 2), None);
        (0..count).map(image).collect()
    };
    let (fewer, more) = (chosen(&of(40), Some(5), 1.0), chosen(&of(44), Some(5), 1.0));
    assert_eq!(fewer.iter().filter(|one| **one).count(), 10);
    let moved = fewer.iter().zip(&more).filter(|(a, b)| a != b).count();
    assert!(moved <= 4, "{moved}");
    assert_eq!(chosen(&of(40), None, 0.25).iter().filter(|one| **one).count(), 10);
    assert_eq!(chosen(&of(8), None, 0.01).iter().filter(|one| **one).count(), 6);
    assert_eq!(chosen(&of(8), None, 1.0), [true; 8]);
}
