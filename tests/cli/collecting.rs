//! Garbage collection: what goes is shown in the names of stages and runs, what kept runs need stays,
//! and a limit is kept, also after a kill and beside a run.

use crate::interruption::{RUN, signal, training};
use crate::support::{Desk, STAGES, wait_for};
use serde_json::Value;
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

const ALL: [&str; 6] = ["cache", "gc", "--keep-runs", "0", "--keep-days", "0"];

/// [`Desk::trained`], whose stages were last used on different days, with a second run that shares
/// `fetch` alone.
fn two_runs() -> Desk {
    let desk = Desk::trained();
    let smaller = ["run", "tiny.toml", "--set", "stages.preprocess.size=24"];
    desk.ok(&[&smaller[..], &["--until", "preprocess"]].concat());
    let days = [("explore", 60), ("train", 40), ("preprocess", 30), ("evaluate", 20)];
    for (stage, days) in days {
        last_used(&desk, "@1", stage, days);
    }
    desk
}

/// Sets the time at which the output of a stage was last used.
fn last_used(desk: &Desk, run: &str, stage: &str, days: u64) {
    let show = desk.ok(&["show", run, "--json"]).json();
    let stages = show["run"]["stages"].as_array().unwrap();
    let record = stages.iter().find(|one| one["stage"] == stage).unwrap();
    let [key, digest] = ["key", "digest"].map(|field| record[field].as_str().unwrap());
    let time = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    for file in [
        format!("keys/{}/{key}", &key[..2]),
        format!("artifacts/{}/{digest}/manifest.json", &digest[..2]),
    ] {
        File::open(desk.path("cache/v1").join(file)).unwrap().set_modified(time).unwrap();
    }
}

/// The stages of the artifacts that are listed, in order.
fn stages(collected: &Value) -> Vec<&str> {
    let items = collected["items"].as_array().unwrap().iter();
    let artifacts = items.filter(|item| item["kind"] == "artifact");
    artifacts.map(|item| item["stage"].as_str().unwrap_or("?")).collect()
}

#[test]
fn what_goes_is_shown_in_names_of_stages_and_runs() {
    let desk = two_runs();
    let keeping = ["cache", "gc", "--keep-runs", "1"];
    desk.ok(&[&keeping[..], &["--dry-run"]].concat()).snapshot("plan");
    desk.ok(&[&keeping[..], &["--dry-run", "--json"]].concat())
        .masking(&[(r#"("bytes\w*": )\d+"#, "${1}[number]")])
        .snapshot("plan_as_json");
    // Nothing was removed.
    assert_eq!(desk.events(&["tiny.toml"]).with_outcome("ran"), Vec::<String>::new());
    last_used(&desk, "@0", "preprocess", 30);
    desk.ok(&["runs", "rm", "@0"]);
    desk.ok(&["cache", "du"]).snapshot("du");
}

#[test]
fn what_a_kept_run_needs_stays() {
    let desk = two_runs();
    let nothing = Vec::<&str>::new();
    // Among the latest, or with a name or a tag.
    let plan = |arguments: &[&str]| desk.ok(&[arguments, &["--dry-run", "--json"]].concat()).json();
    assert_eq!(stages(&plan(&["cache", "gc"])), nothing);
    assert_eq!(stages(&plan(&ALL)).len(), 6);
    desk.ok(&["runs", "name", "@1", "base"]);
    assert_eq!(stages(&plan(&ALL)), ["preprocess"]);
    desk.ok(&["runs", "tag", "@0", "paper"]);
    assert_eq!(stages(&plan(&ALL)), nothing);
    desk.ok(&["runs", "tag", "@0", "paper", "--remove"]);
    desk.ok(&ALL).snapshot("gc_beside_a_named_run");
    desk.ok(&ALL).snapshot("a_second_gc");
    let fresh = desk.events(&["tiny.toml"]).with_outcome("fresh");
    assert_eq!(fresh.len(), STAGES.len());
    assert_eq!(desk.ok(&["runs", "--json"]).json().as_array().unwrap().len(), 2);
    // What such a run needs isn't known when its record is damaged.
    let folder = desk.ok(&["show", "base", "--json"]).json()["folder"].as_str().unwrap().to_owned();
    desk.edit(&format!("{folder}/run.json"), "\"seed\": 42", "\"seed\": 43");
    desk.pipe(&ALL).snapshot("a_damaged_run_with_a_name");
    assert_eq!(desk.events(&["tiny.toml"]).with_outcome("fresh").len(), STAGES.len());
}

#[test]
fn a_limit_is_kept_and_the_least_valuable_goes_first() {
    let desk = two_runs();
    let limited = |size: u64, more: &[&str]| {
        let size = size.to_string();
        desk.pipe(&[&["cache", "gc", "--max-size", &size], more].concat())
    };
    let before =
        desk.ok(&["cache", "gc", "--dry-run", "--json"]).json()["bytes_before"].as_u64().unwrap();
    let free = ["--keep-runs", "0", "--json"];
    let unchanged = limited(before, &free).json();
    assert_eq!(unchanged["items"], Value::Array(Vec::new()), "it fits already");
    // What runs need stays, whatever the limit.
    let failed = limited(1000, &[]);
    assert_eq!(failed.code, 1, "{failed}");
    failed.snapshot("a_limit_below_what_runs_need");
    assert_eq!(desk.events(&["tiny.toml"]).with_outcome("fresh").len(), STAGES.len());
    for stage in ["explore", "train", "preprocess", "evaluate"] {
        last_used(&desk, "@1", stage, if stage == "explore" { 60 } else { 20 });
    }
    let now = limited(u64::MAX / 4, &["--json"]).json()["bytes_after"].as_u64().unwrap();
    let first = limited(now - 1, &free).json();
    assert_eq!(stages(&first), ["explore"]);
    let limit = now / 2;
    let second = limited(limit, &free).json();
    assert!(stages(&second).contains(&"train"), "the largest: {second}");
    let after = second["bytes_after"].as_u64().unwrap();
    assert!(after <= limit);
    assert_eq!(limited(limit, &free).json()["bytes_before"], after);
    assert_eq!(limited(limit, &free).json()["items"], Value::Array(Vec::new()));
    let failed = limited(5, &["--keep-runs", "0", "--dry-run"]);
    assert_eq!(failed.code, 1, "{failed}");
    desk.snapshot("a_limit_below_the_records", &failed.stderr);
    assert_eq!(desk.pipe(&["cache", "gc", "--max-size", "20 apples"]).code, 2);
}

#[test]
fn a_run_keeps_the_limit_of_the_store() {
    let desk = two_runs();
    let size = || {
        let plan = desk.ok(&["cache", "gc", "--dry-run", "--json"]).json();
        plan["bytes_before"].as_u64().unwrap()
    };
    // Room for one model.
    let limit = (size() + (size() / 4)).to_string();
    let third = [&RUN[..], &["--set", "pipeline.seed=3", "--cache-limit", &limit]].concat();
    let ran = desk.ok(&third);
    let removed: String =
        ran.stderr.split_inclusive('\n').skip_while(|line| !line.starts_with("to keep")).collect();
    desk.snapshot("a_run_that_keeps_the_limit", &removed);
    assert!(size() <= limit.parse().unwrap(), "{ran}");
    let quiet = desk.ok(&third);
    assert!(quiet.stdout.starts_with("nothing to do"), "its own outputs stay: {quiet}");
    // What it needs itself is more than the limit.
    let fourth = ["run", "tiny.toml", "--set", "pipeline.seed=4", "--jobs", "1"];
    let mut command = desk.command(&fourth);
    let output = command.env("PIPE_CACHE_LIMIT", "1MB").output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    let said: String =
        said.split_inclusive('\n').skip_while(|line| !line.starts_with("to keep")).collect();
    desk.snapshot("a_run_that_is_larger_than_the_limit", &said);
    let output = desk.command(&RUN).env("PIPE_CACHE_LIMIT", "much").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    desk.snapshot("a_limit_that_is_no_size", &String::from_utf8(output.stderr).unwrap());
}

#[test]
fn checkpoints_of_abandoned_trainings_go_and_a_running_run_is_left_alone() {
    let desk = Desk::tiny();
    let child = training(&desk);
    let header = || {
        let memo = walkdir::WalkDir::new(desk.path("cache/v1/memo/checkpoint_"));
        memo.into_iter()
            .flatten()
            .any(|file| file.path().extension().is_some_and(|one| one == "value"))
    };
    desk.pipe(&ALL).snapshot("gc_beside_a_run");
    desk.ok(&[&ALL[..], &["--dry-run"]].concat()).snapshot("plan_beside_a_run");
    signal("INT", child.id());
    assert_eq!(desk.wait(&RUN, child).code, 130);
    wait_for("the checkpoint", Duration::from_secs(1), header);
    // The next run goes on from it.
    let collect = ["cache", "gc", "--keep-days", "0"];
    desk.ok(&collect);
    assert!(header());
    desk.ok(&["run", "tiny.toml", "--set", "stages.train.epochs=1"]);
    desk.ok(&[&collect[..], &["--dry-run"]].concat()).snapshot("an_abandoned_checkpoint");
    desk.ok(&collect);
    assert!(!header());
}

#[test]
fn a_killed_collection_is_ended_by_the_next() {
    let desk = Desk::tiny();
    let until = ["--until", "preprocess"];
    for size in ["24", "32"] {
        let size = format!("stages.preprocess.size={size}");
        desk.ok(&[&["run", "tiny.toml", "--set", &size], &until[..]].concat());
    }
    let first = desk.events(&[&["tiny.toml"], &until[..]].concat()).digests();
    for delay in [0, 1, 2, 3, 5, 8, 13, 21] {
        let mut child = desk.start(&ALL);
        std::thread::sleep(Duration::from_millis(delay));
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!(desk.ok(&["cache", "verify"]).stderr, "", "killed after {delay} ms");
        desk.ok(&ALL);
        assert_eq!(desk.ok(&["cache", "du", "--json"]).json()["artifacts"]["count"], 0);
        let again = desk.events(&[&["tiny.toml"], &until[..]].concat());
        assert_eq!(again.digests(), first);
    }
}

#[test]
fn a_terminal_is_asked_first() {
    let desk = two_runs();
    let program = env!("CARGO_BIN_EXE_pipe");
    let answer = |answer: &str| {
        let line = format!("'{program}' cache gc --keep-runs 1");
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
        desk.isolate(&mut command);
        command.env("TERM", "xterm").env("NO_COLOR", "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let screen = String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n");
        // The terminal may echo the answer before the question or after it.
        screen.replace("[y/N] y\n", "[y/N] ").trim_start_matches("y\n").to_owned()
    };
    let before = desk.ok(&["cache", "du", "--json"]).json()["artifacts"]["count"].clone();
    answer("n\n");
    assert_eq!(desk.ok(&["cache", "du", "--json"]).json()["artifacts"]["count"], before);
    desk.snapshot("asked_on_a_terminal", &answer("y\n"));
    assert_eq!(desk.ok(&["cache", "du", "--json"]).json()["artifacts"]["count"], 2);
}
