//! Tests of how labels are read from folders, paths, file names and tables.

use super::*;
use crate::data::images::{self, LISTING, SKIPPED, Skipped, listing, skipped_table};
use crate::data::rejected::{EMPTY, OTHER};
use crate::store::Digest;

fn set_with(paths: &[&str], skipped: &[(&str, &str)]) -> ImageSet {
    let one = |path: &&str| Image {
        path: (*path).into(),
        length: 1,
        digest: Digest::of(path.as_bytes()),
    };
    let folder = tempfile::tempdir().unwrap();
    let skip =
        |(path, reason): &(&str, &str)| Skipped { path: (*path).into(), reason: (*reason).into() };
    std::fs::write(folder.path().join(LISTING), listing(paths.iter().map(one).collect())).unwrap();
    let skipped = skipped_table(skipped.iter().map(skip).collect());
    std::fs::write(folder.path().join(SKIPPED), skipped).unwrap();
    images::open(folder.path(), None).unwrap()
}

fn set(paths: &[&str]) -> ImageSet {
    set_with(paths, &[])
}

fn rule(from: LabelFrom, pattern: Option<&str>) -> Rule {
    Rule {
        from,
        pattern: pattern.map(str::to_owned),
        depth: None,
        file: None,
        image: None,
        class: None,
        prefix: None,
    }
}

fn by_name(pattern: &str) -> Rule {
    rule(LabelFrom::FileName, Some(pattern))
}

fn by_folder() -> Rule {
    rule(LabelFrom::Folder, None)
}

/// Labels with names of classes and unlabelled folders.
fn labelled(
    set: &ImageSet,
    rule: &Rule,
    unlabelled: &[&str],
    names: &[(&str, &str)],
) -> Result<Labels, DataError> {
    let unlabelled: Vec<String> = unlabelled.iter().map(|one| (*one).to_owned()).collect();
    let names = names.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    label(set, &Labelling { rule, unlabelled: &unlabelled, names: &names, table: None })
}

const PATTERN: &str = r"^(?<index>\d+)_(?<class>\d+)$";

#[test]
fn number_classes_are_sorted_by_value_and_renamed() {
    let names = [("2", "skirt"), ("77", "hat")];
    let images = set(&["test/9.jpg", "train/0_10.jpg", "train/1_2.jpg", "train/2_10.jpg"]);
    let labels = labelled(&images, &by_name(PATTERN), &["test"], &names).unwrap();
    assert_eq!(labels.classes, ["skirt", "10"]);
    assert_eq!(labels.by_image, [None, Some(1), Some(0), Some(1)]);
    assert_eq!(labels.warnings, ["no image has the class 77, which is named in class_names"]);
    let decimals = set(&["10/a.png", "0.5/b.png", "-2/c.png", "9.25/d.png"]);
    let labels = labelled(&decimals, &by_folder(), &[], &[]).unwrap();
    assert_eq!(labels.classes, ["-2", "0.5", "9.25", "10"]);
    let mixed = set(&["10/a.png", "9/b.png", "x/c.png"]);
    assert_eq!(labelled(&mixed, &by_folder(), &[], &[]).unwrap().classes, ["10", "9", "x"]);
}

#[test]
fn the_first_folder_names_the_class_and_depth_another() {
    let images = set(&[
        "coat/a/1.jpg",
        "coat/b/1.jpg",
        "hat/2.jpg",
        "loose.jpg",
        "new/x/3.jpg",
        "newer/4.jpg",
    ]);
    let labels = labelled(&images, &by_folder(), &["new/"], &[]).unwrap();
    assert_eq!(labels.classes, ["coat", "hat", "newer"]);
    assert_eq!(labels.by_image, [Some(0), Some(0), Some(1), None, None, Some(2)]);
    assert_eq!(
        labels.warnings,
        [
            "1 image without a class (not in a folder that names it), to be predicted, never trained on: `loose.jpg`"
        ]
    );
    let deeper = Rule { depth: Some(2), ..by_folder() };
    let images = set(&["x/coat/1.jpg", "x/hat/1.jpg", "y/coat/1.jpg", "y/hat/q/2.jpg"]);
    let labels = labelled(&images, &deeper, &[], &[]).unwrap();
    assert_eq!(labels.classes, ["coat", "hat"]);
    let split = set(&["train/coat/1.jpg", "train/hat/1.jpg", "val/coat/1.jpg", "test/9.jpg"]);
    let labels = labelled(&split, &by_folder(), &[], &[]).unwrap();
    assert_eq!(labels.classes, ["coat", "hat"]);
    assert_eq!(labels.by_image, [None, Some(0), Some(1), Some(0)]);
}

#[test]
fn a_pattern_is_matched_against_the_whole_path() {
    let images = set(&["2020/cat-in/1.png", "2020/dog-out/1.png", "2021/cat-out/1.png"]);
    let rule = rule(LabelFrom::Path, Some(r"^\d+/(?<class>[a-z]+)-"));
    let labels = labelled(&images, &rule, &[], &[]).unwrap();
    assert_eq!(labels.classes, ["cat", "dog"]);
    assert_eq!(labels.by_image, [Some(0), Some(1), Some(0)]);
}

#[test]
fn classes_with_the_same_name_are_merged() {
    let images = set(&["0_1.jpg", "1_2.jpg", "2_3.jpg"]);
    let names = [("1", "shirt"), ("3", "shirt")];
    let labels = labelled(&images, &by_name(PATTERN), &[], &names).unwrap();
    assert_eq!(labels.classes, ["shirt", "2"]);
    assert_eq!(labels.by_image, [Some(0), Some(1), Some(0)]);
}

#[test]
fn suspicious_classes_and_folders_are_named() {
    let images = set_with(
        &["Cat/1.png", "cat /1.png", "cafe\u{301}/1.png", "caf\u{e9}/1.png", "dog/1.png"],
        &[
            ("heic/1.HEIC", "unsupported format: .heic"),
            ("heic/2.HEIC", "unsupported format: .heic"),
            ("empty/", EMPTY),
            ("dog/notes.txt", OTHER),
            ("notes.txt", OTHER),
            ("new/1.txt", OTHER),
        ],
    );
    let labels = labelled(&images, &by_folder(), &["new", "dgo"], &[]).unwrap();
    assert_eq!(
        labels.warnings,
        [
            "no image is in the folder `new`, which is named in unlabelled",
            "no image is in the folder `dgo`, which is named in unlabelled; did you mean `dog`?",
            "the classes `cafe\\u{301}` and `caf\u{e9}` differ only in case, blanks or Unicode form: if they are one, give them one name in class_names",
            "the classes `Cat` and `cat\\u{20}` differ only in case, blanks or Unicode form: if they are one, give them one name in class_names",
            "no image is in `empty` and `heic`, so no class has this name: `empty` is empty; `heic` has 2 files that can't be used, such as heic/1.HEIC",
        ]
    );
}

#[test]
fn a_table_labels_its_images_and_names_what_is_missing() {
    let rule = Rule { file: Some("t.csv".into()), ..rule(LabelFrom::Csv, None) };
    let images = set(&["a/1.png", "a/2.png", "a/3.png", "a/4.png", "test/5.png"]);
    let labels = |text: &str| {
        let table = Table::parse("t.csv", text.as_bytes()).unwrap();
        let unlabelled = ["test".to_owned()];
        let names = BTreeMap::new();
        let labelling =
            Labelling { rule: &rule, unlabelled: &unlabelled, names: &names, table: Some(&table) };
        label(&images, &labelling)
    };
    let found = labels("id,label\n1,cat\n2,dog\n9,dog\n1,dog\n4,\n").unwrap();
    assert_eq!(found.classes, ["cat", "dog"]);
    assert_eq!(found.by_image, [Some(0), Some(1), None, None, None]);
    assert_eq!(found.missing[0].reason, "no such file: named in t.csv");
    assert_eq!(
        found.warnings,
        [
            "an image is in 1 row of t.csv again with another class, such as `1`: the first row counts",
            "no image for 1 row of t.csv, such as `9`",
            "2 images without a class (not in t.csv), to be predicted, never trained on: `a/3.png` and `a/4.png`",
        ]
    );
    let error = labels("id,label\nx/1,cat\nx/2,cat\n3,dog\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "1 of the 3 rows of t.csv name an image; not, for example:\n  x/1\n  x/2\nwhile images are called\n  a/1.png"
    );
}

#[test]
fn a_pattern_without_matches_shows_five_examples() {
    let paths: Vec<String> = (0..8).map(|index| format!("train/shirt-{index}.jpg")).collect();
    let images = set(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    let error = labelled(&images, &by_name(PATTERN), &[], &[]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("matches 0 of 8 file names"), "{text}");
    assert_eq!(text.matches("train/shirt-").count(), 5, "{text}");
}

#[test]
fn images_that_cannot_be_labelled_are_an_error() {
    let images = set(&["0_1.jpg", "1_1.jpg"]);
    let message = |images: &ImageSet, rule: &Rule, unlabelled: &[&str]| {
        labelled(images, rule, unlabelled, &[])
            .and_then(|labels| labels.check_several())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(message(&set(&[]), &by_name(PATTERN), &[]), "there are no images");
    assert_eq!(message(&images, &by_name(PATTERN), &[]), "there is only one class, `1`");
    assert!(message(&images, &by_name("(?<klass>x)"), &[]).contains("no group named `class`"));
    assert!(
        message(&images, &by_name("(?<class>x"), &[]).contains("is not a valid regular expression")
    );
    let below = set(&["new/0_1.jpg"]);
    assert!(message(&below, &by_name(PATTERN), &["new"]).contains("listed as unlabelled"));
}
