//! Commands that only look: graph, backbones, schema, completions.

use crate::support::Desk;

#[test]
fn the_graph_in_three_languages() {
    let desk = Desk::tiny();
    assert_eq!(
        desk.ok(&["graph", "tiny.toml"]).stdout,
        "\
fetch
explore     needs images from fetch
preprocess  needs images from fetch
train       needs data from preprocess
evaluate    needs data from preprocess, model from train
"
    );
    assert_eq!(
        desk.ok(&["graph", "tiny.toml", "--format", "mermaid"]).stdout,
        "\
flowchart LR
    s0[\"fetch\"]
    s1[\"explore\"]
    s2[\"preprocess\"]
    s3[\"train\"]
    s4[\"evaluate\"]
    s0 -->|images| s1
    s0 -->|images| s2
    s2 -->|data| s3
    s2 -->|data| s4
    s3 -->|model| s4
"
    );
    let dot = desk.ok(&["graph", "tiny.toml", "--format", "dot"]).stdout;
    assert!(
        dot.starts_with("digraph \"tiny\" {\n") && dot.contains("    s3 -> s4 [label=\"model\"]\n"),
        "{dot}"
    );
    let json = desk.ok(&["graph", "tiny.toml", "--json"]).json();
    assert_eq!(json["stages"][4]["needs"]["model"], "train");
    assert!(!desk.path("cache").exists(), "looking at a graph needs no store");
}

#[test]
fn backbones_are_listed() {
    let desk = Desk::empty();
    let json = desk.ok(&["backbones", "--json"]).json();
    let names: Vec<&str> =
        json.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"resnet18") && names.contains(&"resnet50"), "{names:?}");
    let table = desk.ok(&["backbones"]).stdout;
    assert!(
        table.contains(
            "\nresnet50      25.6 M   4.09 G    224  V1 76.1 %, V2 80.9 %  conv1 layer1 layer2 layer3 layer4\n"
        ),
        "{table}"
    );
}

#[test]
fn the_schema_knows_every_kind() {
    let desk = Desk::empty();
    let schema = desk.ok(&["schema"]).stdout;
    for word in
        ["fetch", "explore", "preprocess", "train", "evaluate", "epochs", "labels", "timeout"]
    {
        assert!(schema.contains(&format!("\"{word}\"")), "{word}");
    }
}

#[test]
fn completions_for_every_shell() {
    let desk = Desk::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(desk.ok(&["completions", shell]).stdout.contains("predict"), "{shell}");
    }
    assert_eq!(desk.pipe(&["completions", "tcsh"]).code, 2);
}
