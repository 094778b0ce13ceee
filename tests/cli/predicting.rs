//! `pipe predict`: a trained model on images that it hasn't seen.

use crate::support::{Desk, Ran, resnet18};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

fn trained() -> Desk {
    let desk = Desk::trained();
    desk.images("new", &["x", "y"], 2);
    desk
}

/// Classes and their probabilities, which depend on the processor after so short a training.
const ANSWERS: [(&str, &str); 2] =
    [(r"\b(bar|disc|frame)\b", "[class]"), (r"\b0\.\d+", "[probability]")];

/// `pipe` with this on standard input.
fn with_input(desk: &Desk, arguments: &[&str], input: &[u8]) -> Ran {
    let mut command = desk.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    desk.wait(arguments, child)
}

/// A copy of the latest run's model, `model.safetensors` in a folder without a store.
fn model_alone() -> Desk {
    let desk = trained();
    let model = desk.ok(&["show", "@0", "--json"]).json()["model"].as_str().unwrap().to_owned();
    let alone = Desk::empty();
    alone.images("new", &["x", "y"], 2);
    alone.write("model.safetensors", std::fs::read(desk.path(&model)).unwrap());
    alone
}

fn fifo(desk: &Desk, name: &str) {
    assert!(Command::new("mkfifo").arg(desk.path(name)).status().unwrap().success());
}

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

    let lines = desk.ok(&["predict", "@0", "new", "--format", "jsonl"]);
    let parsed: Vec<Value> =
        lines.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(&parsed, rows);
    lines.masking(&ANSWERS).snapshot("as_json_lines");

    let table = desk.ok(&["predict", "@0", "new/0_x.png", "new/1_y.png"]);
    table.masking(&ANSWERS).snapshot("as_a_table");
    let top = desk.ok(&["predict", "@0", "new/0_x.png", "--top", "3"]);
    top.masking(&ANSWERS).snapshot("as_a_table_with_all_classes");

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
fn the_output_is_the_same_bytes_with_any_number_of_threads() {
    let desk = trained();
    desk.write("images/9_broken.jpg", "no image");
    for format in ["table", "csv", "json", "jsonl"] {
        let outputs = ["1", "2", "7"].map(|threads| {
            let mut command = desk.command(&["predict", "@0", "images", "new", "--format", format]);
            command.env("RAYON_NUM_THREADS", threads);
            desk.output(command).stdout
        });
        assert!(outputs[0].lines().count() >= 28, "{}", outputs[0]);
        assert!(outputs.iter().all(|output| *output == outputs[0]), "{format}");
    }
}

#[test]
fn unreadable_images_are_listed_and_the_others_predicted() {
    let desk = trained();
    desk.write("new/broken.jpg", "no image");
    let ran = desk.pipe(&["predict", "@0", "new"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.masking(&ANSWERS).snapshot("one_of_them_unreadable");
    let ran = desk.pipe(&["predict", "@0", "new/broken.jpg", "new/0_x.png", "--format", "jsonl"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.masking(&ANSWERS).snapshot("unreadable_as_json_lines");
    let ran = desk.pipe(&["predict", "@0", "new", "--json"]);
    assert_eq!((ran.code, ran.json()["rows"].as_array().unwrap().len()), (1, 4), "{ran}");
    assert_eq!(ran.json()["unreadable"][0]["path"], "new/broken.jpg");
    let ran = desk.pipe(&["predict", "@0", "new/broken.jpg"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("none_of_them_readable");
    let ran = desk.pipe(&["predict", "@0", "missing.jpg"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("missing_file");
}

#[test]
fn standard_input_names_images_or_is_one() {
    let desk = trained();
    let named = desk.ok(&["predict", "@0", "new/3_y.png", "new/0_x.png", "--format", "csv"]);
    let from = |arguments: &[&str], input: &[u8]| {
        with_input(&desk, &[&["predict", "@0", "-", "--format", "csv"], arguments].concat(), input)
    };
    assert_eq!(from(&[], b"new/3_y.png\n\nnew/0_x.png").stdout, named.stdout);
    assert_eq!(from(&["-0"], b"new/3_y.png\0new/0_x.png\0").stdout, named.stdout);
    let image = from(&[], &std::fs::read(desk.path("new/3_y.png")).unwrap());
    let second = named.stdout.lines().nth(1).unwrap();
    let expected = second.replace("new/3_y.png", "'-");
    assert_eq!(image.stdout.lines().nth(1), Some(expected.as_str()));
}

#[test]
fn paths_on_standard_input_that_are_no_images_are_named() {
    let desk = trained();
    fifo(&desk, "pipe.png");
    let input = b"new/0_x.png\nmissing.png\npipe.png\nnew\n";
    let ran = with_input(&desk, &["predict", "@0", "-", "--format", "jsonl"], input);
    assert_eq!(ran.code, 1, "{ran}");
    ran.masking(&ANSWERS).snapshot("wrong_paths_on_standard_input");
    let ran = with_input(&desk, &["predict", "@0", "-"], b"");
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("nothing_on_standard_input");
    let ran = desk.pipe(&["predict", "@0", "-", "new"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("standard_input_among_others");
    let ran = desk.pipe(&["predict", "@0", "new", "--null"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("null_without_standard_input");
}

#[test]
fn a_slow_list_does_not_hold_up_its_first_image() {
    use std::io::{BufRead, BufReader};
    let desk = trained();
    let mut command = desk.command(&["predict", "@0", "-", "--format", "csv"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    writeln!(input, "new/0_x.png").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "path,rank,class,probability");
    assert!(lines.next().unwrap().unwrap().starts_with("new/0_x.png"));
    // That row is there before the list goes on.
    writeln!(input, "new/1_y.png").unwrap();
    assert!(lines.next().unwrap().unwrap().starts_with("new/1_y.png"));
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_fifo_is_refused_at_once() {
    let desk = trained();
    fifo(&desk, "pipe.png");
    let ran = desk.pipe(&["predict", "@0", "pipe.png"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("a_fifo_for_an_image");
    let ran = desk.pipe(&["predict", "./pipe.png", "new"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("a_fifo_for_a_model");
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

#[test]
fn a_model_file_needs_no_store() {
    let (desk, alone) = (trained(), model_alone());
    let of_run = desk.ok(&["predict", "@0", "new", "--json"]).stdout;
    assert_eq!(alone.ok(&["predict", "model.safetensors", "new", "--json"]).stdout, of_run);
    assert!(!alone.path("cache").exists());
    std::fs::copy(resnet18(), alone.path("weights.safetensors")).unwrap();
    let whole = std::fs::read(alone.path("model.safetensors")).unwrap();
    alone.write("short.safetensors", &whole[..whole.len() / 2]);
    for (name, code, arguments) in [
        ("weights_for_a_model", 1, &["weights.safetensors", "new"][..]),
        ("a_model_file_cut_short", 1, &["short.safetensors", "new"]),
        ("a_missing_model_file", 2, &["none.safetensors", "new"]),
        ("a_folder_for_a_model", 2, &["./new", "new"]),
        ("a_stage_of_a_model_file", 2, &["model.safetensors", "new", "--stage", "train"]),
    ] {
        let ran = alone.pipe(&[&["predict"], arguments].concat());
        assert_eq!(ran.code, code, "{ran}");
        ran.snapshot(name);
    }
}

/// The gallery of a run's page has every image twice: as it is, and under its heat map.
#[test]
fn the_page_of_a_run_explains_its_gallery() {
    let desk = Desk::trained();
    let count = |html: &str, class: &str| html.matches(&format!("<img class=\"{class}\"")).count();
    desk.ok(&["report", "@0", "--output", "page.html"]);
    let page = desk.read("page.html");
    assert_eq!((count(&page, "plain"), count(&page, "heat")), (6, 6));
    let model = desk.ok(&["why", "tiny.toml", "train", "--json"]).json()["artifact"].clone();
    std::fs::remove_dir_all(desk.path(model.as_str().unwrap())).unwrap();
    desk.ok(&["report", "@0", "--output", "page.html"]);
    let page = desk.read("page.html");
    assert_eq!((count(&page, "plain"), count(&page, "heat")), (0, 0), "without its model");
}

#[test]
fn each_class_is_explained_by_an_overlay() {
    let desk = trained();
    desk.write("new/00_broken.jpg", "no image");
    let plain = desk.pipe(&["predict", "@0", "new", "--json"]).json();
    let ran = desk.pipe(&["predict", "@0", "new", "--explain", "why/it is", "--json"]);
    assert_eq!(ran.code, 1, "{ran}");
    let mut explained = ran.json();
    let rows = explained["rows"].as_array_mut().unwrap();
    let files: Vec<Value> = rows
        .iter_mut()
        .map(|row| row.as_object_mut().unwrap().remove("explanation").unwrap())
        .collect();
    // "new/00_broken.jpg" comes first.
    let expected = ["000002-0_x", "000003-1_y", "000004-2_x", "000005-3_y"];
    assert_eq!(files, expected.map(|name| format!("why/it is/{name}.png")));
    assert_eq!(explained, plain, "explaining changes no prediction");
    for file in files {
        let overlay = image::open(desk.path(file.as_str().unwrap())).unwrap();
        assert_eq!((overlay.width(), overlay.height()), (224, 224));
    }
    desk.ok(&["predict", "@0", "new/2_x.png", "--explain", "alone"]);
    let read = |path: &str| std::fs::read(desk.path(path)).unwrap();
    assert_eq!(read("alone/000001-2_x.png"), read("why/it is/000004-2_x.png"));
    let table = desk.ok(&["predict", "@0", "new/0_x.png", "--explain", "why"]);
    table.masking(&ANSWERS).snapshot("explained");
    desk.write("file", "");
    let ran = desk.pipe(&["predict", "@0", "new/0_x.png", "--explain", "file"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("explained_into_a_file");
}
