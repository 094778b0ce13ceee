//! The forms of output: JSON lines for programs, plain lines for people, color where it is wanted.

use crate::support::{Desk, STAGES};

#[test]
fn json_lines_have_the_documented_shape() {
    let desk = Desk::tiny();
    let events = desk.events(&["tiny.toml", "--jobs", "1"]);
    for event in &events.all {
        let name = event["event"].as_str().unwrap();
        let fields: &[&str] = match name {
            "run-started" => &["pipeline", "stages"],
            "stage-started" => &["stage", "kind", "key", "reasons", "reason_details"],
            "progress" => &["stage", "task", "done", "total", "unit"],
            "scalar" => &["stage", "name", "step", "value"],
            "count" => &["stage", "name", "value"],
            "message" => &["stage", "level", "text"],
            "stage-finished" => &["stage", "outcome", "key", "digest", "seconds", "error"],
            "run-finished" => &["run", "outcome", "seconds"],
            other => panic!("{other}"),
        };
        let mut found: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = [fields, &["event"]].concat();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
    events.snapshot("json_lines");
    let id = desk.ok(&["runs", "--json"]).json()[0]["run"].clone();
    assert_eq!(events.end()["run"], id);
    // Nothing to do: the same shape, and the run that it equals.
    let again = desk.events(&["tiny.toml", "--jobs", "1"]);
    assert_eq!(again.all.iter().filter(|event| event["outcome"] == "fresh").count(), STAGES.len());
    assert_eq!(again.end()["run"], id);
    again.snapshot("json_lines_of_nothing_to_do");
}

#[test]
fn without_a_terminal_lines_are_plain() {
    let desk = Desk::tiny();
    let ran = desk.ok(&["run", "tiny.toml", "--jobs", "1"]);
    assert!(!ran.stdout.contains('\x1b') && !ran.stderr.contains('\x1b'), "{ran}");
    ran.snapshot("plain_lines");
    // The paths that the closing lines name exist.
    let paths: Vec<&str> =
        ran.stdout.split_whitespace().filter(|word| word.contains('/')).collect();
    assert_eq!(paths.len(), 3, "report, model and predictions: {ran}");
    for path in paths {
        assert!(desk.path(path).exists(), "{path}");
    }
}

#[test]
fn color_is_opt_in_where_there_is_no_terminal() {
    let desk = Desk::tiny();
    let status = |variables: &[(&str, &str)]| {
        let mut command = desk.command(&["status", "tiny.toml"]);
        command.envs(variables.iter().copied());
        desk.output(command)
    };
    assert!(!status(&[]).stdout.contains('\x1b'));
    assert!(!status(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).stdout.contains('\x1b'));
    let colored = status(&[("CLICOLOR_FORCE", "1")]);
    assert!(colored.stdout.contains('\x1b'));
    desk.snapshot("status_in_color", &colored.stdout.replace('\x1b', "␛"));
}

#[test]
fn a_reader_that_closes_its_end_is_no_error() {
    let program = env!("CARGO_BIN_EXE_pipe");
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("'{program}' schema | head -1")])
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
