//! `pipe evaluate`: a trained model on folders of labelled images.

use crate::support::{Desk, Ran};
use serde_json::Value;

/// Values of a model after so short a training, which depend on the processor, beside the percentages:
/// the rows of confusions, and the loss.
const NUMBERS: [(&str, &str); 2] = [
    (r"(?m)^(bar|disc|frame) +(bar|disc|frame) +\d.*$", "[confusion]"),
    (r"\b\d+\.\d{2,}\b", "[number]"),
];

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

/// Masks what a processor decides: each row of confusions is one, however many there are.
fn masked(ran: Ran) -> Ran {
    let mut ran = ran.masking(&NUMBERS);
    let lines = ran.stdout.lines().filter(|line| *line != "[confusion]");
    ran.stdout = lines.map(|line| format!("{line}\n")).collect();
    ran
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
    masked(desk.ok(&["evaluate", "@0", "new", "--out", "scores"])).snapshot("text");
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
