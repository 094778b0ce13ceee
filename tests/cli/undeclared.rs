//! Writes of a `command` stage's program beside its output: reported, or, to its inputs, refused.

use crate::support::Desk;
use std::fs;

/// A stage that runs `NAME.sh`, which is written, too.
fn stage(desk: &Desk, name: &str, script: &str, keys: &str) -> String {
    desk.write(&format!("{name}.sh"), script);
    let inputs = if keys.contains("needs") { ", \"{inputs.x}\"" } else { "" };
    format!(
        "[stages.{name}]\nkind = \"command\"\ncommand = [\"sh\", \"{name}.sh\", \"{{output}}\"{inputs}]\n\
         scripts = [\"{name}.sh\"]\npin_program = false\n{keys}\n"
    )
}

#[test]
fn files_that_a_program_changes_beside_its_output_are_reported() {
    let desk = Desk::empty();
    let script = "echo 1 > \"$1/a\"\necho 2 >> notes\nrm old\nmkdir -p logs/deep\necho 3 > logs/deep/x\n\
                  for n in 1 2 3 4 5; do echo $n > out$n; done\n";
    desk.write("notes", "1\n");
    desk.write("old", "1\n");
    desk.write("kept", "1\n");
    desk.write("make.toml", stage(&desk, "make", script, "outputs = [\"a\"]"));
    desk.ok(&["run", "make.toml"]).snapshot("writes");
    desk.ok(&["show", "@0"]).snapshot("show");
    desk.ok(&["log", "@0", "make"]).snapshot("log");
    let record =
        &desk.ok(&["show", "@0", "--json"]).json()["run"]["stages"][0]["undeclared_writes"];
    desk.snapshot("record", &serde_json::to_string_pretty(record).unwrap());
    // Its log says it again where its output is taken from the store.
    let again = desk.events(&["make.toml"]);
    assert_eq!(again.with_outcome("fresh"), ["make"]);
    again.snapshot("events_of_a_run_with_nothing_to_do");
    desk.ok(&["run", "make.toml", "--replay", "errors"]).snapshot("replayed_errors");
}

#[test]
fn a_failed_program_is_reported_too() {
    let desk = Desk::empty();
    let script = "echo 1 > left\nexit 3\n";
    desk.write("make.toml", stage(&desk, "make", script, "outputs = [\"a\"]"));
    let ran = desk.pipe(&["run", "make.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("writes_of_a_failure");
}

#[test]
fn a_programs_own_folders_are_no_writes() {
    let desk = Desk::empty();
    let script = "echo 1 > \"$1/a\"\necho 1 > \"$1/undeclared\"\necho 1 > \"$TMPDIR/b\"\necho 1 > \"$HOME/c\"\n\
                  mkdir -p __pycache__ .git\necho 1 > __pycache__/d\necho 1 > .git/index\n\
                  echo 1 > other/v1/keys\n";
    fs::create_dir(desk.path("temporary")).unwrap();
    fs::create_dir(desk.path("home")).unwrap();
    desk.write("other/v1/format", "pipe store 1\n");
    desk.write("make.toml", stage(&desk, "make", script, "outputs = [\"a\"]"));
    let mut command = desk.command(&["run", "make.toml", "--json"]);
    command.env("TMPDIR", desk.path("temporary")).env("HOME", desk.path("home"));
    let events = desk.output(command).events();
    assert_eq!(events.with_outcome("ran"), ["make"]);
    assert!(events.all.iter().all(|event| event["event"] != "undeclared-writes"));
}

#[test]
fn another_stage_that_ran_at_the_same_time_is_mentioned() {
    let desk = Desk::empty();
    let writing = "sleep 2\necho 1 > left\necho 1 > \"$1/a\"\n";
    let writing = stage(&desk, "writing", writing, "outputs = [\"a\"]");
    let other = stage(&desk, "other", "sleep 1\necho 1 > \"$1/a\"\n", "outputs = [\"a\"]");
    desk.write("two.toml", format!("{writing}{other}"));
    let events = desk.events(&["two.toml", "--jobs", "2"]);
    let is_of_it = |event: &&serde_json::Value| {
        event["event"] == "undeclared-writes" && event["stage"] == "writing"
    };
    let found = events.all.iter().find(is_of_it).unwrap();
    assert_eq!(found["beside"], true);
    desk.ok(&["show", "@0"]).snapshot("show_of_stages_at_the_same_time");
}

#[test]
fn a_program_that_changes_an_input_fails() {
    let desk = Desk::empty();
    let first = stage(&desk, "first", "echo 1 > \"$1/a\"\n", "outputs = [\"a\"]");
    let script = "cp \"$2/a\" \"$1/b\"\nchmod u+w \"$2\" \"$2/a\"\necho 2 >> \"$2/a\"\n";
    let second = stage(&desk, "second", script, "outputs = [\"b\"]\nneeds = { x = \"first\" }");
    desk.write("two.toml", format!("{first}{second}"));
    let ran = desk.pipe(&["run", "two.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("a_changed_artifact");
    // The damaged one is gone, and the next run makes another.
    desk.write("second.sh", "cp \"$2/a\" \"$1/b\"\n");
    assert_eq!(desk.events(&["two.toml"]).with_outcome("ran"), ["first", "second"]);
    desk.ok(&["cache", "verify"]);
}

#[test]
fn a_program_that_changes_images_in_place_fails() {
    let desk = Desk::tiny();
    let script = "mkdir \"$1/images\"\ncp \"$2\"/*.png \"$1/images\"\nrm \"$2/0_disc.png\"\necho 1 > \"$2/new\"\n";
    let keys = "outputs = [\"images\"]\nneeds = { x = \"fetch/images\" }";
    let text =
        format!("[stages.fetch]\nsource = \"path:images\"\n{}", stage(&desk, "thin", script, keys));
    desk.write("thin.toml", text);
    let ran = desk.pipe(&["run", "thin.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("changed_images");
}
