//! Ctrl-C, a second one, a killed parent and a killed stage: no process is left over and the next
//! run continues.

use crate::support::{Desk, wait_for};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(200);

const RUN: [&str; 4] = ["run", "tiny.toml", "--jobs", "1"];

fn signal(name: &str, pid: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap();
    assert!(sent.success());
}

/// The ids of the processes that run a stage of this desk.
fn stages(desk: &Desk) -> Vec<u32> {
    let here = desk.path("").canonicalize().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let of_desk = processes.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let folder = std::fs::read_link(process.path().join("cwd")).ok()?;
        (line.contains(" stage ") && (folder == here || line.contains(&*here.to_string_lossy())))
            .then_some(pid)
    });
    of_desk.collect()
}

/// A run that trains for a very long time, once its training has begun.
fn training(desk: &Desk) -> Child {
    desk.edit("tiny.toml", "epochs = 1", "epochs = 9000");
    let child = desk.start(&RUN);
    wait_for("training to begin", SOON, || {
        let runs = std::fs::read_dir(desk.path("cache/v1/runs")).into_iter().flatten().flatten();
        let events =
            runs.filter_map(|run| std::fs::read_to_string(run.path().join("events.jsonl")).ok());
        events.collect::<String>().lines().any(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            event["event"] == "message" && event["stage"] == "train"
        })
    });
    child
}

#[test]
fn ctrl_c_stops_and_the_next_run_goes_on() {
    let desk = Desk::tiny();
    let child = training(&desk);
    let since = Instant::now();
    signal("INT", child.id());
    let ran = desk.wait(&RUN, child);
    assert_eq!(ran.code, 130, "{ran}");
    assert!(since.elapsed() < Duration::from_secs(11), "took {:?}", since.elapsed());
    ran.without("  train ").snapshot("ctrl_c");
    assert_eq!(desk.ok(&["runs", "--json"]).json()[0]["status"], "cancelled");
    assert!(stages(&desk).is_empty());
    let next = desk.events(&["tiny.toml", "--set", "stages.train.epochs=1"]);
    assert_eq!(next.with_outcome("fresh"), ["explore", "fetch", "preprocess"]);
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let desk = Desk::tiny();
    let mut child = training(&desk);
    signal("INT", child.id());
    // The two must not be merged into one on the way.
    std::thread::sleep(Duration::from_millis(30));
    if child.try_wait().unwrap().is_none() {
        signal("INT", child.id());
    }
    let ran = desk.wait(&RUN, child);
    assert_eq!(ran.code, 130, "{ran}");
    wait_for("the stage to end", SOON, || stages(&desk).is_empty());
}

#[test]
fn a_killed_parent_takes_its_stage_along() {
    let desk = Desk::tiny();
    let mut child = training(&desk);
    assert_eq!(stages(&desk).len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the stage to end", SOON, || stages(&desk).is_empty());
    assert_eq!(desk.ok(&["runs", "--json"]).json()[0]["status"], "died");
    // Nothing has to be unlocked by hand.
    let next = desk.events(&["tiny.toml", "--set", "stages.train.epochs=1"]);
    assert_eq!(next.with_outcome("fresh"), ["explore", "fetch", "preprocess"]);
}

#[test]
fn a_killed_stage_is_reported() {
    let desk = Desk::tiny();
    let child = training(&desk);
    signal("KILL", stages(&desk)[0]);
    let ran = desk.wait(&RUN, child);
    assert_eq!(ran.code, 1, "{ran}");
    ran.without("  train ").snapshot("killed_stage");
}
