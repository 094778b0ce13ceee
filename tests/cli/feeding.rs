//! Outputs of `command` stages as the weights of a training and the model of an evaluation, and how
//! unfit ones are refused.

use crate::support::{Desk, TINY, resnet18};
use std::fs;
use std::path::Path;

/// A `command` stage `make`, which runs a script.
fn make(outputs: &str) -> String {
    format!(
        "[stages.make]\nkind = \"command\"\ncommand = [\"sh\", \"make.sh\", \"{{output}}\"]\n\
         scripts = [\"make.sh\"]\noutputs = [{outputs}]\npin_program = false\n"
    )
}

/// [`TINY`] with a training that starts from `weights`, a part of the output of `make`.
fn starting_from(weights: &str, outputs: &str) -> String {
    let needs = format!("needs = {{ data = \"preprocess\", weights = \"{weights}\" }}\nbackbone");
    let tiny = TINY.replace("needs = { data = \"preprocess\" }\nbackbone", &needs);
    format!("{tiny}\n{}", make(outputs))
}

/// [`TINY`] with an evaluation of `model`.
fn evaluating(model: &str, outputs: &str) -> String {
    let tiny = TINY.replace("model = \"train\"", &format!("model = \"{model}\""));
    format!("{tiny}\n{}", make(outputs))
}

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nn/weights/golden");
    fs::read(folder.join(name)).unwrap()
}

/// The part of a file that fits before it was written to the end.
fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() / 2);
    bytes
}

#[test]
fn weights_that_a_program_wrote_are_a_start() {
    let desk = Desk::trained();
    desk.write("published.bin", fs::read(resnet18()).unwrap());
    desk.write("make.sh", "mkdir \"$1/w\"\ncp published.bin \"$1/w/resnet.pth\"\n");
    desk.write("start.toml", starting_from("make/w/resnet.pth", "\"w/\""));
    let run = ["run", "start.toml", "--until", "train", "--jobs", "1"];
    desk.ok(&run).snapshot("start_from_a_file");
    let again = desk.events(&["start.toml", "--until", "train"]);
    assert!(again.with_outcome("ran").is_empty());
    // A folder, with what timm says of the weights.
    let script = r#"cp published.bin "$1/model.safetensors"
cat > "$1/config.json" <<END
{ "architecture": "resnet18", "pretrained_cfg": { "tag": "mine", "input_size": [3, 64, 64],
  "mean": [0, 0, 0], "std": [1, 1, 1] } }
END
"#;
    desk.write("make.sh", script);
    desk.write("start.toml", starting_from("make", "\"model.safetensors\", \"config.json\""));
    desk.ok(&run).snapshot("start_from_a_folder");
}

#[test]
fn a_model_that_a_program_wrote_is_evaluated() {
    let desk = Desk::trained();
    desk.ok(&["export", "@0", "--format", "safetensors", "--out", "export"]);
    // As `pipe export` wrote it, and as a file of another name.
    desk.write("make.sh", "cp -r export \"$1/m\"\ncp export/model.safetensors \"$1/best\"\n");
    let file = "\n[stages.file]\nkind = \"evaluate\"\nneeds = { data = \"preprocess\", model = \"make/best\" }\n";
    let trained = file.replace("stages.file", "stages.trained").replace("make/best", "train");
    let text = evaluating("make/m", "\"m\", \"best\"");
    desk.write("score.toml", format!("{text}{file}{trained}"));
    desk.ok(&["graph", "score.toml"]).snapshot("graph_of_an_evaluation");
    let digests = desk.events(&["score.toml"]).digests();
    assert_eq!(digests["evaluate"], digests["trained"]);
    assert_eq!(digests["file"], digests["trained"]);
    // A model that no training made is shown and reported all the same.
    desk.ok(&["show", "@0", "--json"]);
    desk.ok(&["report", "@0", "--output", "page.html"]);
    assert!(desk.events(&["score.toml"]).with_outcome("ran").is_empty());
}

#[test]
fn unfit_weights_are_refused_with_their_name() {
    let desk = Desk::trained();
    desk.write("weights.cut", cut(fs::read(resnet18()).unwrap()));
    desk.write("evil.pth", golden("malicious.pth"));
    for (name, script, part) in [
        ("weights_that_are_text", "echo 1 > \"$1/w\"", "make/w"),
        ("weights_that_are_empty", "true > \"$1/w\"", "make/w"),
        ("weights_that_are_cut", "cp weights.cut \"$1/w\"", "make/w"),
        ("weights_that_execute", "cp evil.pth \"$1/w\"", "make/w"),
        ("weights_in_a_folder", "mkdir \"$1/w\"\necho 1 > \"$1/w/a.pth\"", "make/w"),
        ("weights_that_are_missing", "mkdir \"$1/w\"\necho 1 > \"$1/w/a.pth\"", "make/w/b.pth"),
    ] {
        desk.write("make.sh", format!("{script}\n"));
        desk.write("start.toml", starting_from(part, "\"w\""));
        let ran = desk.pipe(&["run", "start.toml", "--until", "train", "--jobs", "1"]);
        assert_eq!(ran.code, 1, "{name}: {ran}");
        ran.snapshot(name);
    }
    assert!(!desk.path("executed").exists());
}

#[test]
fn an_unfit_model_is_refused_with_its_name() {
    let desk = Desk::trained();
    desk.write("published.bin", fs::read(resnet18()).unwrap());
    desk.write("zip.pth", golden("zip.pth"));
    for (name, script, part) in [
        ("model_that_is_weights", "cp published.bin \"$1/m\"", "make/m"),
        ("model_that_is_a_pth", "cp zip.pth \"$1/m\"", "make/m"),
        ("model_that_is_text", "echo 1 > \"$1/m\"", "make/m"),
        ("model_in_a_folder", "mkdir \"$1/m\"\necho 1 > \"$1/m/model.onnx\"", "make/m"),
        ("model_that_is_missing", "mkdir \"$1/m\"\necho 1 > \"$1/m/a\"", "make/m/b"),
    ] {
        desk.write("make.sh", format!("{script}\n"));
        desk.write("score.toml", evaluating(part, "\"m\""));
        let ran = desk.pipe(&["run", "score.toml", "--until", "evaluate", "--jobs", "1"]);
        assert_eq!(ran.code, 1, "{name}: {ran}");
        ran.snapshot(name);
    }
}

#[test]
fn needs_that_cannot_fit_are_found_before_anything_runs() {
    let desk = Desk::tiny();
    desk.write("make.sh", "exit 1\n");
    for (name, text) in [
        ("weights_that_are_not_declared", starting_from("make", "\"w.pth\"")),
        ("weights_of_an_unknown_path", starting_from("make/v.pth", "\"w.pth\"")),
        ("weights_of_a_part_of_a_fetched_output", starting_from("fetch/a", "\"w.pth\"")),
        ("model_that_is_not_declared", evaluating("make", "\"m\"")),
        ("model_of_an_unknown_path", evaluating("make/n", "\"m\"")),
        ("model_of_a_part_of_a_training", evaluating("train/model.safetensors", "\"m\"")),
        ("model_that_is_a_tensor_cache", evaluating("preprocess", "\"m\"")),
    ] {
        desk.write("wrong.toml", text);
        let ran = desk.pipe(&["run", "wrong.toml"]);
        assert_eq!(ran.code, 2, "{name}: {ran}");
        ran.snapshot(name);
    }
}
