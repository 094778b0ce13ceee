//! Tests of damage in the store that a run comes upon.

use super::*;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

/// Changes a byte of a file of the artifact of stage `of`, so that only its content shows it.
fn flip(run: &Run, of: &str, name: &str) {
    let stage = run.report.stages.iter().find(|stage| stage.stage == of).unwrap();
    let path = stage.artifact.as_ref().unwrap().file(name);
    let time: SystemTime = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
}

#[test]
fn damaged_inputs_are_noticed_before_they_are_read_and_rebuilt() {
    let home = Home::new();
    let first = home.run(CHAIN);
    flip(&first, "a", "text");
    let changed = CHAIN.replace("\"b\"", "\"B\"").replace("above = \"B\"", "above = \"b\"");
    let run = home.run(&changed);
    assert_eq!(run.outcomes(), "a ran, b ran, c ran");
    assert_eq!(run.text("c"), "plainBc");
    assert!(run.reasons("a")[0].to_string().contains("was damaged"), "{:?}", run.reasons("a"));
    assert_eq!(run.messages().iter().filter(|text| text.contains("was damaged")).count(), 1);
    let starts = run.events.iter().filter_map(|event| match event {
        Event::StageStarted { stage, reasons, .. } if stage == "b" => Some(reasons.clone()),
        _ => None,
    });
    let starts: Vec<Vec<String>> = starts.collect();
    assert_eq!(starts.len(), 2);
    assert_eq!(starts[0], starts[1], "its input was rebuilt, its reason is the same");
    assert_eq!(home.run(&changed).outcomes(), "a fresh, b fresh, c fresh");
    assert_eq!(home.leftovers(), 0);
}

#[test]
fn damage_is_followed_up_to_where_it_began() {
    let home = Home::new();
    let first = home.run(CHAIN);
    flip(&first, "a", "text");
    flip(&first, "b", "text");
    let run = home.run(&CHAIN.replace("\"c\"\n    needs", "\"C\"\n    needs"));
    assert_eq!(run.outcomes(), "a ran, b ran, c ran");
    assert_eq!(run.text("c"), "plainbC");
}

#[test]
fn files_that_are_not_read_are_looked_at_only_after_a_failure() {
    let home = Home::new();
    let text = CHAIN.replace("text = \"b\"", "text = \"b\"\nact = \"ACT\"");
    let first = home.run(&text.replace("kind = \"write\"", "kind = \"write\"\naside = \"x\""));
    assert_eq!(first.outcomes(), "a ran, b ran, c ran");
    flip(&first, "a", "aside");
    let text = text.replace("kind = \"write\"", "kind = \"write\"\naside = \"x\"");
    let text = text.replace("\"b\"\nact", "\"B\"\nact");
    let run = home.run(&text.replace("ACT", "fail"));
    assert_eq!(run.outcomes(), "a ran, b failed, c skipped");
    assert_eq!(run.error("b"), "it failed\ndo better");
    assert_eq!(home.run(&text.replace("ACT", "")).outcomes(), "a fresh, b ran, c ran");
}

#[test]
fn an_artifact_that_disappears_during_a_run_is_made_again() {
    let home = Home::new();
    let first = home.run(CHAIN);
    let artifact = first.report.stages[1].artifact.clone().unwrap();
    let cancel = CancellationToken::new();
    let text = CHAIN.replace("\"c\"\n    needs", "\"C\"\n    needs");
    let (graph, store) = (home.graph(&text).unwrap(), home.store());
    let plan = plan(&graph, &store, &Options::default(), &home, &cancel).unwrap();
    std::fs::remove_dir_all(&artifact.path).unwrap();
    let launcher = InProcessLauncher(KINDS);
    let mut handler = |_: &Event| {};
    let options = Options::default();
    let report =
        execute_with(&launcher, &graph, plan, &store, &options, &cancel, &mut handler).unwrap();
    let run = Run { report, events: Vec::new() };
    assert_eq!(run.outcomes(), "a fresh, b ran, c ran");
    assert_eq!(run.text("c"), "plainbC");
}
