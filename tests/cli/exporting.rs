//! `pipe export`: the model of a run for other programs, each file run before the command succeeds.

use crate::support::{Desk, Ran, resnet18, starting_from};
use pipe::nn::read_safetensors;
use std::os::unix::fs::PermissionsExt;

/// Numbers that depend on the processor after so short a training.
const MEASURED: [(&str, &str); 4] = [
    (
        r"difference [\d.e-]+ \(largest logit [\d.e-]+\)",
        "difference [number] (largest logit [number])",
    ),
    (r#"("largest_(?:difference|logit)": )[-\d.e]+"#, "${1}[number]"),
    (r#"("accuracy_of_model": )[-\d.e]+"#, "${1}[number]"),
    (r#"("bytes": )\d+"#, "${1}[number]"),
];

/// Rows of the tables of metrics in a model card.
const METRICS: [(&str, &str); 2] = [
    (r"(?m)^\| (test|validation) \| (\d+) \| .*$", "| $1 | $2 | [metrics] |"),
    (r"(?m)^\| (\w+) \|(?: (?:[\d.]+ %|-) \|){3} (\d+) \|$", "| $1 | [metrics] | $2 |"),
];

fn refused(ran: Ran, code: i32, name: &str) {
    assert_eq!(ran.code, code, "{ran}");
    ran.snapshot(name);
}

/// The files in a folder, sorted.
fn files(desk: &Desk, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(desk.path(folder)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn model(desk: &Desk) -> std::path::PathBuf {
    let why = desk.ok(&["why", "tiny.toml", "train", "--json"]).json();
    desk.path(why["artifact"].as_str().unwrap()).join("model.safetensors")
}

#[test]
fn both_formats_in_one_folder() {
    let desk = Desk::trained();
    let ran = desk.ok(&["export", "@0", "--format", "safetensors,onnx", "--out", "both"]);
    ran.masking(&MEASURED).snapshot("both");
    let expected = ["MODEL.md", "config.json", "export.json", "model.onnx", "model.safetensors"];
    assert_eq!(files(&desk, "both"), expected);
    let [own, exported] = [model(&desk), desk.path("both/model.safetensors")]
        .map(|path| read_safetensors::<f32>(&path).unwrap());
    assert_eq!(exported, own, "weights, class names and preprocessing");
    desk.snapshot("config", &desk.read("both/config.json"));
    let masked = |name: &str| {
        let mut text = desk.read(name);
        crate::steady::replace(&mut text, &MEASURED);
        crate::steady::replace(&mut text, &METRICS);
        text
    };
    desk.snapshot("model_card", &masked("both/MODEL.md"));
    desk.snapshot("export_json", &masked("both/export.json"));
}

#[test]
fn a_normalization_inside_the_model() {
    let desk = Desk::trained();
    let ran = desk.ok(&["export", "@0", "--format", "onnx", "--input", "pixels", "--json"]);
    let json = ran.json();
    let check = &json["export"]["checks"][0];
    assert_eq!((check["flipped"].as_u64(), check["images"].as_u64()), (Some(0), Some(6)), "{json}");
    assert_eq!(json["export"]["onnx_input"], "pixels");
    let folder = json["folder"].as_str().unwrap();
    assert_eq!(files(&desk, folder), ["MODEL.md", "export.json", "model.onnx"]);
    // The command on record makes the same file again.
    let bytes = std::fs::read(desk.path(folder).join("model.onnx")).unwrap();
    let command = json["export"]["command"].as_str().unwrap();
    let words: Vec<&str> = command.split(' ').skip(1).chain(["--force"]).collect();
    desk.ok(&words);
    assert_eq!(std::fs::read(desk.path(folder).join("model.onnx")).unwrap(), bytes);
}

#[test]
fn some_images_or_none_are_run() {
    let desk = Desk::trained();
    let export = ["export", "@0", "--format", "onnx", "--force", "--out", "out", "--verify"];
    desk.ok(&[&export[..], &["4"]].concat()).masking(&MEASURED).snapshot("some_images");
    desk.ok(&[&export[..], &["0"]].concat()).snapshot("no_images");
    assert_eq!(desk.read("out/export.json").matches("\"checks\": []").count(), 1);
    // Without the images, they can't be run.
    let why = desk.ok(&["why", "tiny.toml", "preprocess", "--json"]).json();
    let artifact = desk.path(why["artifact"].as_str().unwrap());
    std::fs::set_permissions(&artifact, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&artifact, desk.path("elsewhere")).unwrap();
    refused(desk.pipe(&[&export[..], &["4"]].concat()), 1, "images_that_are_gone");
    assert_eq!(desk.read("out/export.json").matches("\"checks\": []").count(), 1, "it was kept");
    desk.ok(&[&export[..], &["0"]].concat());
}

#[test]
fn only_an_export_is_replaced() {
    let desk = Desk::trained();
    let export = |more: &[&str]| {
        desk.pipe(&[&["export", "@0", "--format", "safetensors", "--verify", "0"], more].concat())
    };
    refused(export(&["--out", "images"]), 2, "folder_that_is_there");
    refused(export(&["--out", "images", "--force"]), 2, "folder_with_other_files");
    refused(export(&["--out", "tiny.toml", "--force"]), 2, "file_that_is_there");
    assert_eq!(files(&desk, "images").len(), 24);
    assert_eq!(export(&["--out", "new/out"]).code, 0);
    desk.write("new/out/MODEL.md", "edited");
    assert_eq!(export(&["--out", "new/out"]).code, 2);
    assert_eq!(desk.read("new/out/MODEL.md"), "edited");
    assert_eq!(export(&["--out", "new/out", "--force"]).code, 0);
    assert_ne!(desk.read("new/out/MODEL.md"), "edited");
    assert_eq!(files(&desk, "new"), ["out"], "nothing is left beside it");
}

#[test]
fn requests_that_cannot_be_honored_are_refused() {
    let desk = Desk::trained();
    for (name, arguments) in [
        ("input_of_weights", &["@0", "--format", "safetensors", "--input", "pixels"][..]),
        ("unknown_format", &["@0", "--format", "tflite"]),
        ("without_a_format", &["@0"]),
        ("unknown_run", &["zzzzzz", "--format", "onnx"]),
        ("unknown_stage", &["@0", "--format", "onnx", "--stage", "trian"]),
    ] {
        refused(desk.pipe(&[&["export"], arguments].concat()), 2, name);
    }
    refused(
        desk.pipe(&["export", "@0", "--format", "onnx", "--stage", "evaluate"]),
        1,
        "stage_without_a_model",
    );
    assert!(!desk.path("export.json").exists());
}

#[test]
fn a_flipped_byte_is_never_exported() {
    let desk = Desk::trained();
    let path = model(&desk);
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let ran = desk.pipe(&["export", "@0", "--format", "onnx", "--out", "out"]);
    refused(ran, 1, "damaged_model");
    assert!(!desk.path("out").exists());
}

#[test]
fn weights_and_hidden_layers_are_on_the_card() {
    let desk = Desk::tiny();
    let pipeline = starting_from(&format!("path:{}", resnet18().display()));
    desk.write("tiny.toml", pipeline.replace("epochs = 1", "epochs = 1\nhead = { hidden = [4] }"));
    desk.ok(&["run", "tiny.toml", "--until", "train"]);
    let ran = desk.ok(&["export", "@0", "--format", "safetensors", "--out", "out"]);
    ran.masking(&MEASURED).snapshot("hidden_layers");
    let mut card = desk.read("out/MODEL.md");
    crate::steady::replace(&mut card, &MEASURED);
    desk.snapshot("card_without_metrics", &card);
}
