//! The forms of output: JSON lines for programs, plain lines for people, color where it is wanted.

use crate::support::{Desk, STAGES, TINY};

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
            "stage-finished" => {
                &["stage", "outcome", "key", "digest", "seconds", "peak_memory", "error"]
            }
            "run-finished" => &["run", "outcome", "seconds", "metrics"],
            other => panic!("{other}"),
        };
        let mut found: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = [fields, &["event", "time", "run_id"]].concat();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
    events.snapshot("json_lines");
    let id = desk.ok(&["runs", "--json"]).json()[0]["run"].clone();
    assert_eq!(events.end()["run"], id);
    assert!(events.all.iter().all(|event| event["run_id"] == id));
    assert_eq!(events.end()["metrics"]["evaluate"]["test"]["images"], 6.0);
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

/// Names of files, classes and pipelines never act on the terminal or on the text around them.
#[test]
fn names_can_not_control_the_terminal() {
    let desk = Desk::empty();
    let file = "ti\x1b[2Jny.toml";
    desk.write(file, TINY.replace("labels", "# labels"));
    desk.images("plain", &["disc", "bar", "frame"], 8);
    for (index, image) in (0..24).map(|index| (index, ["disc", "bar", "frame"][index % 3])) {
        let class = ["a\x1b]0;t\x07", "b\u{202e}gnp", "c\u{9b}31m"][index % 3];
        let bytes = std::fs::read(desk.path(&format!("plain/{index}_{image}.png"))).unwrap();
        desk.write(&format!("images/{class}/{index}\x1b[31m\u{202e}.png"), bytes);
    }
    let hidden = |text: &str| {
        let is_hidden = |c: char| {
            (c.is_control() && !matches!(c, '\n' | '\t')) || ('\u{202a}'..='\u{202e}').contains(&c)
        };
        text.chars().any(is_hidden)
    };
    for arguments in [
        &["run", file][..],
        &["status", file],
        &["why", file, "train"],
        &["runs"],
        &["show", "@0"],
        &["log", "@0", "preprocess"],
        &["predict", "@0", "images"],
        &["export", "@0", "--format", "safetensors,onnx", "--out", "out"],
        &["diff", "@0", "@0"],
        &["report", "@0"],
        &["run", file, "--until", "n\x1b[1mo"],
    ] {
        let ran = desk.pipe(arguments);
        assert!(!hidden(&ran.stdout) && !hidden(&ran.stderr), "{arguments:?}: {ran:?}");
    }
    let folder = desk.ok(&["show", "@0", "--json"]).json()["folder"].as_str().unwrap().to_owned();
    let page = desk.read(&format!("{folder}/report.html"));
    assert!(!hidden(&page));
    assert!(!hidden(&desk.read("out/MODEL.md")));
    desk.ok(&["show", "@0"]).snapshot("show_of_hostile_names");
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
