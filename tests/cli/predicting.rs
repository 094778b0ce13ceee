//! `pipe predict`: a trained model on images that it hasn't seen.

use crate::support::Desk;

fn trained() -> Desk {
    let desk = Desk::trained();
    desk.images("new", &["x", "y"], 2);
    desk
}

#[test]
fn images_and_folders_in_every_format() {
    let desk = trained();
    let json = desk.ok(&["predict", "@0", "new", "--json"]).json();
    let rows = json["rows"].as_array().unwrap();
    let paths: Vec<&str> = rows.iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["new/0_x.png", "new/1_y.png", "new/2_x.png", "new/3_y.png"]);
    assert!(
        rows.iter().all(|row| ["disc", "bar", "frame"].contains(&row["class"].as_str().unwrap()))
    );

    let table = desk.ok(&["predict", "@0", "new/0_x.png", "new/1_y.png"]);
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(
        lines[0].starts_with("image      class") && lines[0].ends_with("probability"),
        "{table}"
    );
    assert!(lines[1].starts_with("new/0_x.png  ") && lines[1].ends_with(" %"), "{table}");

    let csv = desk.ok(&["predict", "@0", "new/0_x.png", "--format", "csv", "--top", "3"]);
    let lines: Vec<&str> = csv.stdout.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, "path,rank,class,probability"), "{csv}");
    let probabilities: f64 = lines[1..]
        .iter()
        .map(|line| line.rsplit(',').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!((probabilities - 1.0).abs() < 1e-3, "{csv}");
}

#[test]
fn a_prediction_is_that_of_evaluate_and_the_same_in_any_company() {
    let desk = trained();
    let alone = desk.ok(&["predict", "@0", "images/0_disc.png", "--json"]).json();
    let among = desk.ok(&["predict", "@0", "images", "--json"]).json();
    let rows = among["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["path"] == "images/0_disc.png").unwrap();
    assert_eq!(&alone["rows"][0], row);
    let folder = desk.ok(&["show", "@0", "--json"]).json()["folder"].as_str().unwrap().to_owned();
    let predictions =
        std::fs::read_to_string(desk.path(&folder).join("results/evaluate/predictions.csv"))
            .unwrap();
    let heading: Vec<&str> = predictions.lines().next().unwrap().split(',').collect();
    let column = heading.iter().position(|name| *name == "prediction").unwrap();
    let scored = predictions
        .lines()
        .find(|line| line.starts_with("0_disc.png,"))
        .unwrap_or_else(|| panic!("{predictions}"));
    assert_eq!(scored.split(',').nth(column).unwrap(), row["class"].as_str().unwrap());
}

#[test]
fn unreadable_images_are_listed_and_the_others_answered() {
    let desk = trained();
    desk.write("new/broken.jpg", "no image");
    let ran = desk.ok(&["predict", "@0", "new"]);
    assert_eq!(ran.stdout.lines().count(), 5, "{ran}");
    assert!(ran.stderr.starts_with("warning: skipped `new/broken.jpg`: "), "{ran}");
    let ran = desk.pipe(&["predict", "@0", "new/broken.jpg"]);
    assert_eq!(ran.code, 1, "{ran}");
    let ran = desk.pipe(&["predict", "@0", "missing.jpg"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, "error: there is no file or folder `missing.jpg`\n")
    );
}

#[test]
fn a_model_outlives_nothing_it_needs() {
    let desk = trained();
    // The images and the pipeline file may go: the model carries classes and preprocessing.
    std::fs::remove_dir_all(desk.path("images")).unwrap();
    std::fs::remove_file(desk.path("tiny.toml")).unwrap();
    desk.ok(&["predict", "@0", "new"]);
    let ran = desk.pipe(&["predict", "zzzzzz", "new"]);
    assert_eq!(ran.code, 2, "{ran}");
    assert!(ran.stderr.starts_with("error: no run is called `zzzzzz`"), "{ran}");
    let ran = desk.pipe(&["predict", "@0", "new", "--stage", "evaluate"]);
    assert_eq!(ran.code, 1, "{ran}");
}
