//! The key of a `command` stage: a golden fingerprint, and what changes it.

use crate::config::load;
use crate::engine::{Fingerprint, NoHistory, Options, graph, plan};
use crate::events::CancellationToken;
use crate::stages::KINDS;
use crate::store::Store;
use serde_json::json;

const STAGE: &str = r#"[vars]
size = 64
[stages.make]
kind = "command"
command = ["sh", "make.sh", "--size=${size}", "${size}", "{output}"]
outputs = ["a.txt"]
scripts = ["make.sh"]
pin_program = false
env = { LEVEL = 0.5 }
pass_env = ["TOKEN"]
"#;

/// A folder with a script and a pipeline file.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new(script: &str) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("make.sh"), script).unwrap();
        Bench(folder)
    }

    /// The fingerprint of the one stage.
    fn fingerprint(&self, text: &str) -> Fingerprint {
        let file = self.0.path().join("make.toml");
        std::fs::write(&file, text).unwrap();
        let graph = graph(&load(&file, &[]).unwrap(), KINDS).unwrap();
        let store = Store::open(&self.0.path().join("store")).unwrap();
        let cancel = CancellationToken::new();
        let plan = plan(&graph, &store, &Options::default(), &NoHistory, &cancel).unwrap();
        plan.stages[0].state.key().unwrap().1.clone()
    }
}

#[test]
fn a_fingerprint_is_pinned() {
    let found = Bench::new("exit 0\n").fingerprint(STAGE);
    let expected = json!({
        "format": 1,
        "kind": "command",
        "version": 2,
        "parameters": {
            "command": ["sh", "make.sh", "--size=64", "64", "{output}"],
            "env": { "LEVEL": "0.5" },
            "outputs": ["a.txt"],
            "pin_program": false,
            "scripts": ["make.sh"],
        },
        "inputs": {},
        "facts": {
            "script make.sh": "28d3b9e880a77975493dc7e359144c0295a4f694cfe0af4f928c22307bc5c320",
        },
    });
    assert_eq!(serde_json::to_value(&found).unwrap(), expected);
    assert_eq!(found.key().short(), "3f8e88b7981a");
}

#[test]
fn what_affects_the_output_changes_the_key_and_nothing_else_does() {
    let key = Bench::new("exit 0\n").fingerprint(STAGE).key();
    let of = |script: &str, from: &str, to: &str| {
        assert!(STAGE.contains(from), "{from}");
        Bench::new(script).fingerprint(&STAGE.replace(from, to)).key()
    };
    // Another folder, name of the stage, or list of variables that are passed.
    assert_eq!(of("exit 0\n", "stages.make", "stages.other"), key);
    assert_eq!(of("exit 0\n", "pass_env = [\"TOKEN\"]", "timeout = 3"), key);
    assert_eq!(of("exit 0\n", "size = 64", "size = \"64\""), key);
    let others = [
        of("exit 1\n", "size", "size"),
        of("exit 0\n", "size = 64", "size = 65"),
        of("exit 0\n", "LEVEL = 0.5", "LEVEL = 1"),
        of("exit 0\n", "a.txt", "b.txt"),
        of("exit 0\n", "pin_program = false\n", ""),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_ne!(*other, key, "{index}");
    }
}

#[test]
fn the_program_is_part_of_the_key() {
    let fingerprint = Bench::new("").fingerprint(&STAGE.replace("pin_program = false\n", ""));
    let names: Vec<&str> = fingerprint.facts.keys().map(String::as_str).collect();
    assert_eq!(names, ["program", "script make.sh"]);
}
