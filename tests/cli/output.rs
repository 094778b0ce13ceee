//! The forms of output: JSON lines for programs, sentences for people, color where it is wanted.

use crate::support::{Desk, STAGES, steady};

#[test]
fn json_lines_have_the_documented_shape() {
    let desk = Desk::tiny();
    let events = desk.events(&["tiny.toml"]);
    let first = &events.0[0];
    assert_eq!((&first["event"], &first["pipeline"]), (&"run-started".into(), &"tiny".into()));
    assert_eq!(first["stages"], serde_json::json!(STAGES));
    for event in &events.0 {
        let name = event["event"].as_str().unwrap();
        let fields: &[&str] = match name {
            "run-started" => &["pipeline", "stages"],
            "stage-started" => &["stage", "kind", "key", "reasons", "reason_details"],
            "progress" => &["stage", "task", "done", "total", "unit"],
            "scalar" => &["stage", "name", "step", "value"],
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
    let id = desk.ok(&["runs", "--json"]).json()[0]["run"].clone();
    assert_eq!((&events.end()["run"], &events.end()["outcome"]), (&id, &"ok".into()));
    // Nothing to do: the same shape, and the run that it equals.
    let again = desk.events(&["tiny.toml"]);
    assert_eq!(again.0.iter().filter(|event| event["outcome"] == "fresh").count(), STAGES.len());
    assert_eq!(again.end()["run"], id);
}

#[test]
fn a_pipe_gets_plain_lines() {
    let desk = Desk::tiny();
    let ran = desk.ok(&["run", "tiny.toml", "--jobs", "1"]);
    assert!(!ran.stdout.contains('\x1b') && !ran.stderr.contains('\x1b'), "{ran}");
    let text = steady(&ran.stderr, &desk);
    for stage in STAGES {
        let began = text
            .find(&format!("▸ {stage:<10}  starts: never ran before"))
            .unwrap_or_else(|| panic!("{ran}"));
        let ended = text.find(&format!("✓ {stage:<10}  ")).unwrap_or_else(|| panic!("{ran}"));
        assert!(began < ended, "{ran}");
    }
    assert!(text.contains("  train       epoch 1: ") && text.contains(", train loss "), "{ran}");
}

#[test]
fn color_is_for_those_who_want_it() {
    let desk = Desk::tiny();
    let run = |variables: &[(&str, &str)]| {
        let mut command = desk.command(&["status", "tiny.toml"]);
        command.envs(variables.iter().copied());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(!run(&[]).contains('\x1b'));
    assert!(run(&[("CLICOLOR_FORCE", "1")]).contains('\x1b'));
    assert!(!run(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\x1b'));
}

#[test]
fn a_reader_who_leaves_is_no_error() {
    let desk = Desk::tiny();
    desk.ok(&["status", "tiny.toml"]);
    let program = env!("CARGO_BIN_EXE_pipe");
    let line = format!("'{program}' schema | head -1; exit ${{PIPESTATUS[0]:-0}}");
    let output = std::process::Command::new("sh")
        .args(["-c", &line.replace("; exit ${PIPESTATUS[0]:-0}", "")])
        .output();
    let output = output.unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
