//! Commands that only read: graph, backbones, schema, completions, help.

use crate::support::Desk;

#[test]
fn the_graph_in_every_format() {
    let desk = Desk::tiny();
    desk.ok(&["graph", "tiny.toml"]).snapshot("graph");
    for format in ["mermaid", "dot"] {
        let ran = desk.ok(&["graph", "tiny.toml", "--format", format]);
        ran.snapshot(&format!("graph_as_{format}"));
    }
    let json = desk.ok(&["graph", "tiny.toml", "--json"]);
    assert_eq!(json.json()["stages"][4]["needs"]["model"], "train");
    json.snapshot("graph_as_json");
    assert!(!desk.path("cache").exists(), "looking at a graph needs no store");
}

#[test]
fn backbones_are_listed() {
    let desk = Desk::empty();
    let json = desk.ok(&["backbones", "--json"]).json();
    let names: Vec<&str> =
        json.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"resnet18") && names.contains(&"resnet50"), "{names:?}");
    desk.ok(&["backbones"]).snapshot("backbones");
}

#[test]
fn the_schema_describes_every_key() {
    let desk = Desk::empty();
    let schema = desk.ok(&["schema"]);
    assert!(schema.json().is_object());
    schema.snapshot("schema");
}

#[test]
fn completions_for_every_shell() {
    let desk = Desk::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = desk.ok(&["completions", shell]).stdout;
        assert!(script.contains("predict"), "{shell} completes the command `predict`");
    }
    desk.pipe(&["completions", "tcsh"]).snapshot("completions_of_an_unknown_shell");
}

/// The commands in the list of `pipe --help`.
fn commands(help: &str) -> Vec<&str> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = list.map_while(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

#[test]
fn every_command_has_its_help() {
    let desk = Desk::empty();
    let help = |arguments: &[&str], name: &str| {
        let ran = desk.ok(arguments);
        assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{ran}");
        ran.snapshot(name);
    };
    help(&["--help"], "help");
    let all = desk.ok(&["--help"]).stdout;
    assert!(commands(&all).len() > 10, "{all}");
    for command in commands(&all) {
        help(&[command, "--help"], &format!("help_{command}"));
    }
    for command in ["tag", "name", "note", "rm"] {
        help(&["runs", command, "--help"], &format!("help_runs_{command}"));
    }
    for command in ["du", "gc", "verify"] {
        help(&["cache", command, "--help"], &format!("help_cache_{command}"));
    }
    help(&["--version"], "version");
    assert_eq!(desk.ok(&["help"]).stdout, desk.ok(&["--help"]).stdout);
}
