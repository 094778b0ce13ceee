//! Ctrl-C, a second one, and a killed parent: nothing is lost, nothing keeps running, the next run goes on.

use crate::support::{Desk, wait_for};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Long enough for a machine that has other things to do.
const SOON: Duration = Duration::from_secs(200);

fn signal(child: &Child, name: &str) {
    let sent =
        Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().unwrap();
    assert!(sent.success());
}

/// Processes that run a stage of this desk.
fn stages(desk: &Desk) -> Vec<String> {
    let here = desk.path("").canonicalize().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let of_desk = processes.filter_map(|process| {
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let stands = std::fs::read_link(process.path().join("cwd")).ok()?;
        (line.contains(" stage ") && (stands == here || line.contains(&*here.to_string_lossy())))
            .then_some(line)
    });
    of_desk.collect()
}

/// A run that trains for ever, once its training has begun.
fn training(desk: &Desk) -> Child {
    desk.edit("tiny.toml", "epochs = 1", "epochs = 9000");
    let child = desk.start(&["run", "tiny.toml"]);
    let begun = || {
        let runs = desk.pipe(&["runs", "--json"]);
        runs.code == 0 && {
            let log = desk.pipe(&["log", "@0", "train"]);
            log.stdout.contains("parameters are trainable")
        }
    };
    wait_for("training to begin", SOON, begun);
    child
}

#[test]
fn ctrl_c_stops_and_the_next_run_goes_on() {
    let desk = Desk::tiny();
    let child = training(&desk);
    let since = Instant::now();
    signal(&child, "INT");
    let ran = crate::support::Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 130, "{ran}");
    assert!(since.elapsed() < Duration::from_secs(11), "took {:?}", since.elapsed());
    assert!(ran.stdout.contains("was interrupted after"), "{ran}");
    assert!(ran.stdout.contains("the next run continues from there"), "{ran}");
    assert_eq!(desk.ok(&["runs", "--json"]).json()[0]["status"], "cancelled");
    assert_eq!(stages(&desk), Vec::<String>::new());
    let next = desk.events(&["tiny.toml", "--set", "stages.train.epochs=1"]);
    assert_eq!(next.with_outcome("fresh"), ["explore", "fetch", "preprocess"]);
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let desk = Desk::tiny();
    let mut child = training(&desk);
    signal(&child, "INT");
    // The two must not be merged into one on the way.
    std::thread::sleep(Duration::from_millis(30));
    if child.try_wait().unwrap().is_none() {
        signal(&child, "INT");
    }
    let ran = crate::support::Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 130, "{ran}");
    wait_for("the stage to go", SOON, || stages(&desk).is_empty());
}

#[test]
fn a_killed_parent_takes_its_stage_along() {
    let desk = Desk::tiny();
    let mut child = training(&desk);
    assert_eq!(stages(&desk).len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the stage to go", SOON, || stages(&desk).is_empty());
    assert_eq!(desk.ok(&["runs", "--json"]).json()[0]["status"], "died");
    // Nothing has to be unlocked by hand.
    let next = desk.events(&["tiny.toml", "--set", "stages.train.epochs=1"]);
    assert_eq!(next.with_outcome("fresh"), ["explore", "fetch", "preprocess"]);
}

#[test]
fn a_killed_stage_is_said() {
    let desk = Desk::tiny();
    let child = training(&desk);
    let here = desk.path("").canonicalize().unwrap();
    let pid = std::fs::read_dir("/proc").unwrap().flatten().find(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let stands = std::fs::read_link(process.path().join("cwd")).unwrap_or_default();
        line.contains(" stage ") && (stands == here || line.contains(&*here.to_string_lossy()))
    });
    let pid = pid.unwrap().file_name().into_string().unwrap();
    assert!(
        Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).status().unwrap().success()
    );
    let ran = crate::support::Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.stderr.contains("killed") || ran.stderr.contains("signal"), "{ran}");
}
