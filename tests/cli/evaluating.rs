//! `pipe evaluate`: a trained model on folders of labelled images.

use crate::support::{Desk, Ran};
use serde_json::Value;
use std::cmp::Reverse;

/// The loss of a model after so short a training, which depends on the processor as the percentages do.
const NUMBERS: [(&str, &str); 1] = [(r"\b\d+\.\d{2,}\b", "[number]")];

/// How the table of confusions begins, which is there only if the model makes mistakes.
const CONFUSIONS: &str = "most often confused";

/// [`Desk::trained`] with the test images of its run in `new/CLASS/`.
fn desk() -> Desk {
    let desk = Desk::trained();
    for line in desk.result("evaluate/predictions.csv").lines() {
        let cells: Vec<&str> = line.split(',').collect();
        if let [path, "test", label, ..] = cells[..] {
            let bytes = std::fs::read(desk.path(&format!("images/{path}"))).unwrap();
            desk.write(&format!("new/{label}/{path}"), bytes);
        }
    }
    desk
}

fn refused(desk: &Desk, arguments: &[&str], code: i32, name: &str) {
    let ran = desk.pipe(&[&["evaluate"], arguments].concat());
    assert_eq!(ran.code, code, "{ran}");
    ran.snapshot(name);
}

/// Masks what a processor decides, and leaves out the table of confusions, which
/// [`confusions_in`] compares with the metrics.
fn masked(ran: Ran) -> Ran {
    let mut ran = ran.masking(&NUMBERS);
    let paragraphs = ran.stdout.split("\n\n").filter(|one| !one.starts_with(CONFUSIONS));
    ran.stdout = paragraphs.collect::<Vec<_>>().join("\n\n");
    ran
}

/// The words of each row of the table of confusions.
fn confusions_in(text: &str) -> Vec<String> {
    let table = text.split("\n\n").find(|one| one.starts_with(CONFUSIONS)).unwrap_or_default();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    table.lines().map(words).collect()
}

/// That table by the metrics of a split, the most frequent confusion first.
fn confusions_of(split: &Value) -> Vec<String> {
    const CLASSES: [&str; 3] = ["bar", "disc", "frame"];
    let mut found = Vec::new();
    for (truth, name) in CLASSES.iter().enumerate() {
        let count = |class: usize| split["confusion"][truth][class].as_u64().unwrap();
        let all = (0..CLASSES.len()).map(count).sum::<u64>() as f64;
        for class in (0..CLASSES.len()).filter(|class| *class != truth && count(*class) > 0) {
            let share = 100.0 * count(class) as f64 / all;
            let row = format!("{name} {} {} {share:.1} %", CLASSES[class], count(class));
            found.push((count(class), row));
        }
    }
    found.sort_by_key(|(count, _)| Reverse(*count));
    let heading =
        (!found.is_empty()).then(|| format!("{CONFUSIONS} taken for images of the class"));
    heading.into_iter().chain(found.into_iter().map(|(_, row)| row)).collect()
}

#[test]
fn a_folder_of_the_test_images_gets_the_scores_of_the_stage() {
    let desk = desk();
    let stage: Value = serde_json::from_str(&desk.result("evaluate/metrics.json")).unwrap();
    let ran = desk.ok(&["evaluate", "@0", "new", "--json", "--out", "scores"]);
    let found = ran.json();
    assert_eq!(found["out"], "scores");
    let written: Value = serde_json::from_str(&desk.read("scores/metrics.json")).unwrap();
    assert_eq!(found["metrics"], written);
    let [mine, its] = [&written, &stage].map(|metrics| &metrics["splits"]["test"]);
    for field in ["count", "accuracy", "accuracy_interval", "confusion", "per_class"] {
        assert_eq!(mine[field], its[field], "{field}");
    }
    let [mine, its] = [mine, its].map(|split| split["loss"].as_f64().unwrap());
    assert!((mine - its).abs() < 1e-6, "{mine} {its}");
    let rows = |text: &str| {
        let rows = text.lines().skip(1).filter(|line| line.contains(",test,"));
        let mut rows: Vec<String> =
            rows.map(|line| line.rsplit('/').next().unwrap().to_owned()).collect();
        rows.sort();
        rows
    };
    let predictions = desk.read("scores/predictions.csv");
    assert_eq!(rows(&predictions), rows(&desk.result("evaluate/predictions.csv")));
    let text = desk.ok(&["evaluate", "@0", "new", "--out", "scores"]);
    assert_eq!(confusions_in(&text.stdout), confusions_of(&written["splits"]["test"]));
    masked(text).snapshot("text");
}

#[test]
fn the_most_frequent_confusions_come_first() {
    let desk = desk();
    // The same images in all three classes, once more in one of them: most are mistakes.
    for (class, copies) in [("bar", 1), ("disc", 2), ("frame", 1)] {
        for image in std::fs::read_dir(desk.path("new/disc")).unwrap() {
            let image = image.unwrap().path();
            let (bytes, name) = (std::fs::read(&image).unwrap(), image.file_name().unwrap());
            for copy in 0..copies {
                desk.write(&format!("mixed/{class}/{copy}{}", name.display()), &bytes);
            }
        }
    }
    let metrics = desk.ok(&["evaluate", "@0", "mixed", "--json"]).json();
    let rows = confusions_in(&desk.ok(&["evaluate", "@0", "mixed"]).stdout);
    assert!(rows.len() > 2, "{rows:?}");
    assert_eq!(rows, confusions_of(&metrics["metrics"]["splits"]["test"]));
}

#[test]
fn what_is_left_out_is_named() {
    let desk = desk();
    std::fs::remove_dir_all(desk.path("new/bar")).unwrap();
    desk.images("new/Disc", &["x"], 2);
    desk.images("new/zebra", &["x"], 1);
    desk.images("new", &["stray"], 1);
    masked(desk.ok(&["evaluate", "@0", "new"])).snapshot("left_out");
    desk.write("new/disc/broken.png", "no image");
    let ran = desk.pipe(&["evaluate", "@0", "new", "--json"]);
    assert_eq!(
        (ran.code, ran.json()["unreadable"][0]["path"].as_str()),
        (1, Some("disc/broken.png"))
    );
    let text = desk.pipe(&["evaluate", "@0", "new"]);
    assert_eq!(text.code, 1, "{text}");
    masked(text).snapshot("unreadable");
}

#[test]
fn folders_of_a_split_are_chosen() {
    let desk = desk();
    std::fs::create_dir(desk.path("pets")).unwrap();
    std::fs::rename(desk.path("new"), desk.path("pets/test")).unwrap();
    desk.images("pets/train/disc", &["x"], 2);
    refused(&desk, &["@0", "pets"], 2, "a_split_to_choose");
    refused(&desk, &["@0", "pets", "--split", "tset"], 2, "a_split_that_is_not_there");
    let chosen = desk.ok(&["evaluate", "@0", "pets", "--split", "test", "--json"]).json();
    let whole = desk.ok(&["evaluate", "@0", "pets/test", "--json"]).json();
    assert_eq!(chosen, whole);
}

#[test]
fn folders_that_cannot_be_scored_are_refused() {
    let desk = desk();
    desk.images("others/zebra", &["x"], 1);
    desk.images("flat", &["x"], 1);
    desk.write("empty/notes.txt", "");
    refused(&desk, &["@0", "others"], 2, "no_class_of_the_model");
    refused(&desk, &["@0", "flat"], 2, "no_folders_of_classes");
    refused(&desk, &["@0", "empty"], 2, "no_images");
    refused(&desk, &["@0", "nowhere"], 2, "no_folder");
    refused(&desk, &["@0", "new", "--split", "test"], 2, "a_split_of_none");
    refused(&desk, &["nowhere.safetensors", "new"], 2, "no_model_file");
    refused(&desk, &["@0"], 2, "without_a_folder");
    refused(&desk, &["@0", "new", "--out", "tiny.toml"], 2, "a_file_in_place_of_out");
}
