//! The pipeline files of this repository and `doc/reference.md`: both must match the program.

use crate::support::Desk;
use pipe::config::Keys;
use pipe::config::{KeyDecl, reference};
use pipe::engine::Common;
use pipe::stages::KINDS;
use std::path::{Path, PathBuf};

const INTRODUCTION: &str = "\
<!-- Generated from the declared keys: `UPDATE=1 cargo test --test cli reference` writes it. -->

# Every key of a pipeline file

`pipe schema` prints the same as a JSON Schema, for completion and checks in an editor. The README explains how a file is
built; `pipelines/quickstart.toml` has a comment on every line.
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn every_pipeline_file_is_valid() {
    let desk = Desk::empty();
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        desk.ok(&["graph", path.to_str().unwrap()]);
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn the_quickstart_plans() {
    let desk = Desk::empty();
    let file = root().join("pipelines/quickstart.toml");
    let plan = desk.ok(&["run", file.to_str().unwrap(), "--dry-run", "--json"]).json();
    assert_eq!(plan["stages"].as_array().unwrap().len(), 5);
    assert_eq!(plan["stages"][0]["state"], "dirty");
}

/// `doc/reference.md` as it should be.
fn made() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## `[dataset]`\n\nRead by the stages that need it.\n\n");
    let mut dataset: Vec<KeyDecl> = Vec::new();
    for parameter in KINDS.iter().flat_map(|kind| kind.dataset()) {
        if !dataset.iter().any(|known| known.name == parameter.name) {
            dataset.push(*parameter);
        }
    }
    text.push_str(&reference(&dataset));
    text.push_str("\n## Every stage\n\n");
    text.push_str("`kind` is the stage's name unless it says otherwise; `needs = { role = \"stage\" }` feeds it.\n\n");
    text.push_str(&reference(Common::KEYS));
    for kind in KINDS {
        text.push_str(&format!("\n## `{}`\n\n{}\n\n", kind.name(), kind.about()));
        for input in kind.inputs() {
            let kinds =
                input.kinds.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(" or ");
            let optional = if input.required { "" } else { ", optional" };
            text.push_str(&format!(
                "- needs `{}` (from {kinds}{optional}): {}\n",
                input.role, input.doc
            ));
        }
        if let Some(input) = kind.any_input() {
            text.push_str(&format!("- needs any input (from any kind, optional): {}\n", input.doc));
        }
        if !kind.inputs().is_empty() || kind.any_input().is_some() {
            text.push('\n');
        }
        match kind.keys() {
            [] => text.push_str("No keys of its own.\n"),
            parameters => text.push_str(&reference(parameters)),
        }
    }
    text
}

#[test]
fn the_reference_is_current() {
    let path = root().join("doc/reference.md");
    let made = made();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, made).unwrap();
        return;
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == made,
        "doc/reference.md is out of date: run `UPDATE=1 cargo test --test cli reference`"
    );
}
