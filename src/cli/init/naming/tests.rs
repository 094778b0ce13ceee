//! How classes, unlabelled folders and splits are inferred from paths and tables.

use super::*;

fn paths(names: &[&str], each: usize) -> Vec<String> {
    let numbered = |path: &&str| {
        let count = if path.contains('#') { each } else { 1 };
        (0..count).map(|at| path.replace('#', &at.to_string())).collect::<Vec<_>>()
    };
    let mut paths: Vec<String> = names.iter().flat_map(numbered).collect();
    paths.sort();
    paths
}

fn naming(names: &[&str], each: usize) -> Option<Naming> {
    Naming::infer(&paths(names, each), &[])
}

const FOLDER: &str = "{ from = \"folder\" }";

#[test]
fn folders_name_classes() {
    for (names, classes, unlabelled, strays) in [
        (&["cat/#.jpg", "dog/#.jpg"][..], 2, &[][..], 0),
        (&["cat/in/#.jpg", "cat/out/#.jpg", "dog/in/#.jpg"], 2, &[], 0),
        (&["pets/cat/#.jpg", "pets/dog/#.jpg"], 2, &[], 0),
        (&["cat/#.jpg", "dog/#.jpg", "logo.png", "readme.png"], 2, &[], 2),
        (&["cat/#.jpg", "dog/#.jpg", "test/#.jpg"], 2, &["test"], 0),
        (&["train/cat/#.png", "train/dog/#.png", "test/#.png"], 2, &["test"], 0),
        (&["d/train/cat/#.png", "d/train/dog/#.png", "d/test/#.png"], 2, &["d/test"], 0),
        (
            &[
                "train/n1/images/#.JPEG",
                "train/n2/images/#.JPEG",
                "val/images/#.JPEG",
                "test/images/#.JPEG",
            ],
            2,
            &["test", "val"],
            0,
        ),
    ] {
        let found = naming(names, 4).unwrap();
        assert_eq!((found.labels.as_str(), found.classes), (FOLDER, classes), "{names:?}");
        assert_eq!(found.unlabelled, unlabelled, "{names:?}");
        assert_eq!((found.strays, found.split), (strays, None), "{names:?}");
    }
}

/// tiny-imagenet: classes of the validation images are in a table.
#[test]
fn a_table_says_the_classes_of_a_part() {
    let images = paths(
        &[
            "t/train/n1/images/#.JPEG",
            "t/train/n2/images/#.JPEG",
            "t/val/images/v#.JPEG",
            "t/test/images/t#.JPEG",
        ],
        4,
    );
    let annotations = |classes: [&str; 2]| {
        let row = |at: usize| format!("v{at}.JPEG\t{}\t0\t0\t62\t62\n", classes[at % 2]);
        let bytes = (0..4).map(row).collect::<String>().into_bytes();
        [TableFile { path: "t/val/val_annotations.txt".into(), bytes }]
    };
    let found = Naming::infer(&images, &annotations(["n1", "n2"])).unwrap();
    assert_eq!(
        found.labels,
        r#"{ from = "folder", file = "t/val/val_annotations.txt", image = "1", class = "2" }"#
    );
    assert_eq!((found.classes, found.unlabelled), (2, vec!["t/test".to_owned()]));
    assert!(found.split.is_some_and(|split| split.has_validation && !split.has_test));
    let found = Naming::infer(&images, &annotations(["x", "y"])).unwrap();
    assert_eq!((found.labels.as_str(), found.unlabelled.len()), (FOLDER, 2));
}

#[test]
fn a_comment_stays_on_one_line() {
    let root = "t\n[stages.x]";
    let names = ["train/n1/#.png", "train/n2/#.png", "val/images/v#.png"];
    let names = names.map(|name| format!("{root}/{name}"));
    let images = paths(&names.each_ref().map(String::as_str), 4);
    let row = |at: usize| format!("v{at}.png\t{}\t0\t0\t62\t62\n", ["n1", "n2"][at % 2]);
    let bytes = (0..4).map(row).collect::<String>().into_bytes();
    let table = TableFile { path: format!("{root}/val/val_annotations.txt"), bytes };
    let found = Naming::infer(&images, &[table]).unwrap();
    assert!(found.comment.contains("in a table"), "{}", found.comment);
    assert_eq!(found.comment.lines().count(), 1, "{}", found.comment);
}

#[test]
fn an_authors_split_is_found() {
    let split = |names: &[&str]| {
        let split = naming(names, 4).unwrap().split?;
        Some((split.folders.join(" "), split.has_validation, split.has_test))
    };
    assert_eq!(
        split(&[
            "train/cat/#.jpg",
            "train/dog/#.jpg",
            "val/cat/#.jpg",
            "val/dog/#.jpg",
            "test/#.jpg"
        ]),
        Some(("train val".into(), true, false))
    );
    assert_eq!(
        split(&[
            "training_set/training_set/cat/#.jpg",
            "training_set/training_set/dog/#.jpg",
            "test_set/test_set/cat/#.jpg",
            "test_set/test_set/dog/#.jpg"
        ]),
        Some(("test_set training_set".into(), false, true))
    );
    assert_eq!(
        split(&["train/#_0.jpg", "train/#_1.jpg", "test/#_0.jpg", "test/#_1.jpg"]),
        Some(("test train".into(), false, true))
    );
}

#[test]
fn folders_without_matching_names_are_unlabelled() {
    let found = naming(&["train/#_0.jpg", "train/#_1.jpg", "test/#.jpg"], 4).unwrap();
    assert_eq!(
        found.labels,
        r"{ from = 'file_name', pattern = '^(?<index>\d+)_(?<class>[^_]+)$' }"
            .replace("'file_name'", "\"file_name\"")
    );
    assert_eq!((found.classes, found.unlabelled), (2, vec!["test".to_owned()]));
    assert_eq!(found.split, None);
}

#[test]
fn a_table_that_names_the_images_is_taken() {
    let table = |text: &str| TableFile { path: "train.csv".into(), bytes: text.into() };
    let images = paths(&["train/#.jpg", "test/1#.jpg"], 6);
    let rows: String =
        (0..6).map(|at| format!("{at},{}\n", if at % 2 == 0 { "cat" } else { "dog" })).collect();
    let found = Naming::infer(&images, &[table("a,b\nx,y\n"), table(&format!("id,label\n{rows}"))]);
    let found = found.unwrap();
    assert_eq!(
        found.labels,
        r#"{ from = "csv", file = "train.csv", image = "id", class = "label" }"#
    );
    assert_eq!((found.classes, found.unlabelled), (2, vec!["test".to_owned()]));
}

#[test]
fn file_names_name_classes() {
    for names in [
        ["cat#.jpg", "dog#.jpg"],
        ["big cat (#).jpg", "dog (#).jpg"],
        ["cat.#.png", "dog.#.png"],
        ["cat_a#.jpg", "dog_b#.jpg"],
    ] {
        assert_eq!(naming(&names, 5).map(|found| found.classes), Some(2), "{names:?}");
    }
}

#[test]
fn names_without_classes_yield_none() {
    for names in [
        &["IMG_#.jpg"][..],
        &["#.jpg"],
        &["train/#.jpg", "test/#.jpg"],
        &["pictures/#.jpg", "images/#.jpg"],
        &["holiday.jpg", "house.jpg"],
    ] {
        assert_eq!(naming(names, 6), None, "{names:?}");
    }
}
