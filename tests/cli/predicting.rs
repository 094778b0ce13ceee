//! `pipe predict`: a trained model on images that it hasn't seen.

use crate::support::Desk;

fn trained() -> Desk {
    let desk = Desk::trained();
    desk.images("new", &["x", "y"], 2);
    desk
}

/// Classes and their probabilities, which depend on the processor after so short a training.
const ANSWERS: [(&str, &str); 2] =
    [(r"\b(bar|disc|frame)\b", "[class]"), (r"\b0\.\d+", "[probability]")];

#[test]
fn images_and_folders_in_every_format() {
    let desk = trained();
    let ran = desk.ok(&["predict", "@0", "new", "--json"]);
    let json = ran.json();
    let rows = json["rows"].as_array().unwrap();
    let paths: Vec<&str> = rows.iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["new/0_x.png", "new/1_y.png", "new/2_x.png", "new/3_y.png"]);
    assert!(
        rows.iter().all(|row| ["disc", "bar", "frame"].contains(&row["class"].as_str().unwrap()))
    );
    ran.masking(&ANSWERS).snapshot("as_json");

    let table = desk.ok(&["predict", "@0", "new/0_x.png", "new/1_y.png"]);
    table.masking(&ANSWERS).snapshot("as_a_table");

    let csv = desk.ok(&["predict", "@0", "new/0_x.png", "--format", "csv", "--top", "3"]);
    let probabilities: f64 = csv
        .stdout
        .lines()
        .skip(1)
        .map(|line| line.rsplit(',').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!((probabilities - 1.0).abs() < 1e-3, "{csv}");
    csv.masking(&ANSWERS).snapshot("as_csv");
}

#[test]
fn a_prediction_equals_that_of_evaluate_in_any_batch() {
    let desk = trained();
    let alone = desk.ok(&["predict", "@0", "images/0_disc.png", "--json"]).json();
    let among = desk.ok(&["predict", "@0", "images", "--json"]).json();
    let rows = among["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["path"] == "images/0_disc.png").unwrap();
    assert_eq!(&alone["rows"][0], row);
    let folder = desk.ok(&["show", "@0", "--json"]).json()["folder"].as_str().unwrap().to_owned();
    let path = desk.path(&folder).join("results/evaluate/predictions.csv");
    let predictions = std::fs::read_to_string(path).unwrap();
    let heading: Vec<&str> = predictions.lines().next().unwrap().split(',').collect();
    let column = heading.iter().position(|name| *name == "prediction").unwrap();
    let scored = predictions
        .lines()
        .find(|line| line.starts_with("0_disc.png,"))
        .unwrap_or_else(|| panic!("{predictions}"));
    assert_eq!(scored.split(',').nth(column).unwrap(), row["class"].as_str().unwrap());
}

#[test]
fn unreadable_images_are_listed_and_the_others_predicted() {
    let desk = trained();
    desk.write("new/broken.jpg", "no image");
    desk.ok(&["predict", "@0", "new"]).masking(&ANSWERS).snapshot("one_of_them_unreadable");
    let ran = desk.pipe(&["predict", "@0", "new/broken.jpg"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("none_of_them_readable");
    let ran = desk.pipe(&["predict", "@0", "missing.jpg"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("missing_file");
}

#[test]
fn a_model_needs_neither_its_images_nor_its_pipeline_file() {
    let desk = trained();
    // The model carries classes and preprocessing.
    std::fs::remove_dir_all(desk.path("images")).unwrap();
    std::fs::remove_file(desk.path("tiny.toml")).unwrap();
    desk.ok(&["predict", "@0", "new"]);
    let ran = desk.pipe(&["predict", "zzzzzz", "new"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("unknown_run");
    let ran = desk.pipe(&["predict", "@0", "new", "--stage", "evaluate"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("stage_without_a_model");
}
