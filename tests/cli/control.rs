//! How stages share the machine and what happens after a failure: resources, retries, vouching for
//! an output, and outputs that differ although nothing changed.

use crate::interruption::signal;
use crate::support::{Desk, Events, containing, wait_for};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A `command` stage with a shell script as its last argument: `$0` is its output `a`.
fn stage(name: &str, script: &str, keys: &str) -> String {
    format!(
        "[stages.{name}]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", {script:?}, \"{{output}}/a\"]\n\
         outputs = [\"a\"]\npin_program = false\n{keys}\n\n"
    )
}

/// A pipeline `p.toml` of these stages.
fn desk(stages: &[String]) -> Desk {
    let desk = Desk::empty();
    desk.write("p.toml", stages.concat());
    desk
}

const WRITE: &str = "echo 1 > $0";
const SLOW: &str = "sleep 0.3; echo 1 > $0";

/// The starts and ends of stages in their order, such as `+a +b -a -b`.
fn course(events: &Events) -> String {
    let mut course = String::new();
    for event in &events.all {
        let sign = match event["event"].as_str().unwrap() {
            "stage-started" => '+',
            "stage-finished" => '-',
            _ => continue,
        };
        write!(course, " {sign}{}", event["stage"].as_str().unwrap()).unwrap();
    }
    course.trim_start().to_owned()
}

/// The stages that run at a time after each event of a course.
fn at_a_time(course: &str) -> Vec<Vec<&str>> {
    let mut running = Vec::new();
    let step = |event| {
        match str::split_at(event, 1) {
            ("+", name) => running.push(name),
            (_, name) => running.retain(|other| *other != name),
        }
        running.clone()
    };
    course.split(' ').map(step).collect()
}

#[test]
fn what_stages_ask_for_is_checked_before_anything_runs() {
    let asking = "resources = { threads = 3, memory = \"5 GB\", gpu = 1 }";
    let desk = desk(&[stage("a", WRITE, asking), stage("b", WRITE, "resources = { threads = 2 }")]);
    let run = ["run", "p.toml", "--threads", "2", "--memory", "4GB"];
    let with_gpus = |gpus: &str, name: &str| {
        let mut command = desk.command(&run);
        command.env("CUDA_VISIBLE_DEVICES", gpus);
        let ran = desk.output(command);
        assert_eq!(ran.code, 2, "{ran}");
        ran.snapshot(name);
    };
    with_gpus("", "more_than_there_is");
    desk.edit("p.toml", "gpu = 1", "gpu = 3");
    with_gpus("0,1", "more_gpus_than_there_are");
    assert!(!desk.path("cache/v1/runs").exists());
    desk.pipe(&["run", "p.toml", "--device", "cpu", "--memory", "much"]).snapshot("no_size");
    desk.edit("p.toml", "\"5 GB\"", "\"much\"");
    desk.edit("p.toml", "threads = 2", "threads = 0, cores = 2, memory = 4");
    desk.pipe(&["run", "p.toml"]).snapshot("wrong_resources");
}

#[test]
fn stages_start_as_long_as_they_fit() {
    let asking = |name: &str, asked: &str| stage(name, SLOW, &format!("resources = {{ {asked} }}"));
    let desk = desk(&[
        asking("a", "threads = 2, memory = \"1 GB\""),
        asking("b", "threads = 2, memory = \"3 GB\""),
        asking("c", "memory = \"4 GB\""),
        asking("d", "memory = \"1 GB\""),
        asking("e", "threads = 4"),
        stage("f", SLOW, ""),
    ]);
    let course =
        course(&desk.events(&["p.toml", "--jobs", "9", "--threads", "4", "--memory", "4GB"]));
    // `c` waits for the memory of `a` and `b`, and `d`, which would fit beside `a`, waits behind it.
    assert!(course.starts_with("+a +b +f "), "{course}");
    let position = |event: &str| course.split(' ').position(|other| other == event).unwrap();
    assert!(position("+c") > position("-a").max(position("-b")), "{course}");
    assert!(position("+d") > position("-c"), "{course}");
    for running in at_a_time(&course) {
        let sum = |of: &[(&str, u32)]| -> u32 {
            of.iter().filter(|(name, _)| running.contains(name)).map(|(_, amount)| amount).sum()
        };
        assert!(sum(&[("a", 2), ("b", 2), ("e", 4)]) <= 4, "{running:?}");
        assert!(sum(&[("a", 1), ("b", 3), ("c", 4), ("d", 1)]) <= 4, "{running:?}");
    }
}

#[test]
fn the_longest_chain_goes_first_where_stages_ask() {
    let desk = desk(&[
        stage("short", WRITE, "resources = { threads = 1 }"),
        stage("head", WRITE, "resources = { threads = 1 }"),
        stage("tail", WRITE, "needs = { x = \"head\" }"),
    ]);
    let run = ["p.toml", "--jobs", "1", "--threads", "1"];
    assert_eq!(course(&desk.events(&run)), "+head -head +short -short +tail -tail");
    let text = desk.read("p.toml").replace("resources = { threads = 1 }", "");
    desk.write("p.toml", text);
    // Nothing of that is part of a key.
    assert_eq!(desk.events(&run).with_outcome("fresh"), ["head", "short", "tail"]);
    let forced = desk.events(&[&run[..], &["--force"]].concat());
    assert_eq!(course(&forced), "+short -short +head -head +tail -tail");
}

#[test]
fn a_program_knows_its_threads_and_gpus() {
    let tell = "echo $0 threads=$1 gpus=$CUDA_VISIBLE_DEVICES; sleep 0.3; echo 1 > $2";
    let telling = |name: &str, keys: &str| {
        stage(name, tell, keys)
            .replace("\"{output}/a\"", &format!("\"{name}\", \"{{threads}}\", \"{{output}}/a\""))
    };
    let desk = desk(&[
        telling("a", "resources = { threads = 2, gpu = 1 }"),
        telling("b", "resources = { gpu = 1 }"),
        telling("c", ""),
    ]);
    let mut command = desk.command(&["run", "p.toml", "--threads", "5", "--json"]);
    command.env("CUDA_VISIBLE_DEVICES", "2,7");
    let events = desk.output(command).events();
    let messages = events.all.iter().filter(|event| event["event"] == "message");
    let mut lines: Vec<&str> = messages
        .filter_map(|event| event["text"].as_str())
        .filter(|text| text.starts_with(['a', 'b', 'c']))
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a threads=2 gpus=2", "b threads=5 gpus=7", "c threads=5 gpus="]);
}

/// `tail` keeps a line until its end, which is two seconds away.
#[cfg(target_os = "linux")]
const HUNGRY: &str = "(head -c 400000000 /dev/zero; sleep 2) | tail -n 1 | wc -c > $0";

#[cfg(target_os = "linux")]
#[test]
fn a_stage_that_uses_too_much_memory_is_killed() {
    let desk = desk(&[stage("a", HUNGRY, "resources = { memory = \"150 MB\" }")]);
    let ran = desk.pipe(&["run", "p.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("too_much_memory");
    // Enough, and mapped files don't count.
    let enough = ["run", "p.toml", "--set", "stages.a.resources.memory=2 GB"];
    assert_eq!(desk.pipe(&enough).code, 0);
}

/// Fails until it was started often enough; `$0` is its output.
fn failing(times: u32) -> String {
    format!(
        "echo x >> count; if [ $(wc -l < count) -le {times} ]; then echo busy; exit 7; fi; echo 1 > $0"
    )
}

/// The beginning of the line of the event in `events.jsonl`.
const RETRIED: &str = "{\"event\":\"stage-retried\"";

const QUICK: &str = "retries = { times = 2, wait = 0.05, backoff = 1 }";

#[test]
fn a_failure_that_may_pass_is_tried_again() {
    let desk = desk(&[stage("a", &failing(2), QUICK)]);
    desk.ok(&["run", "p.toml"]).snapshot("third_try_succeeds");
    desk.ok(&["show", "@0"]).snapshot("show_tries");
    let record = desk.ok(&["show", "@0", "--json"]).json();
    assert_eq!(record["run"]["stages"][0]["attempts"].as_array().unwrap().len(), 2);
    desk.ok(&["log", "@0", "a"]).snapshot("log_of_tries");
    desk.write("count", "");
    desk.events(&["p.toml", "--force"]).snapshot("events_of_tries");
    desk.write("count", "");
    let once = ["run", "p.toml", "--force", "--set", "stages.a.retries=1"];
    let ran = desk.pipe(&[&once[..], &["--set", "stages.a.retries.wait=0"]].concat());
    assert_eq!(ran.code, 2, "a number has no keys: {ran}");
    desk.edit("p.toml", "times = 2", "times = 1");
    let ran = desk.pipe(&["run", "p.toml", "--force"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("no_try_is_left");
}

#[test]
fn a_failure_of_data_is_final() {
    let desk = Desk::empty();
    let missing = "echo x >> count";
    desk.write("p.toml", stage("a", missing, QUICK));
    let ran = desk.pipe(&["run", "p.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("a_missing_output_is_final");
    assert_eq!(desk.read("count"), "x\n");
}

#[test]
fn a_timeout_and_a_signal_from_outside_may_pass() {
    let script = "echo x >> count; if [ $(wc -l < count) -le 1 ]; then sleep 600; fi; echo 1 > $0";
    let slow = desk(&[stage("a", script, &format!("timeout = 2\n{QUICK}"))]);
    slow.ok(&["run", "p.toml"]).snapshot("a_timeout_is_tried_again");
    let script = "echo x >> count; if [ $(wc -l < count) -le 1 ]; then kill -TERM $PPID; sleep 9; fi; echo 1 > $0";
    let stopped = desk(&[stage("a", script, QUICK)]);
    stopped.ok(&["run", "p.toml"]).snapshot("a_stopped_stage_is_tried_again");
}

#[test]
fn keep_going_goes_on_beside_a_stage_that_is_tried_again() {
    let desk = desk(&[
        stage("a", "exit 3", &format!("{QUICK}\nresources = {{ threads = 1 }}")),
        stage("b", SLOW, "resources = { threads = 1 }"),
        stage("c", WRITE, "needs = { x = \"a\" }\nresources = { threads = 1 }"),
        stage("d", WRITE, "needs = { x = \"b\" }\nresources = { threads = 1 }"),
    ]);
    let run = ["run", "p.toml", "--threads", "1", "--keep-going"];
    let ran = desk.pipe(&[&run[..], &["--json"]].concat());
    assert_eq!(ran.code, 1, "{ran}");
    let events = ran.events();
    assert_eq!(events.with_outcome("ran"), ["b", "d"]);
    assert_eq!(events.with_outcome("failed"), ["a"]);
    assert_eq!(events.with_outcome("skipped"), ["c"]);
    let tries = events.all.iter().filter(|event| event["event"] == "stage-retried").count();
    assert_eq!(tries, 2);
    // Without it, nothing starts once a stage has failed for good, and a waiting one is given up.
    desk.write(
        "p.toml",
        [
            stage("a", "exit 3", "retries = { times = 3, wait = 600 }"),
            stage("b", "sleep 0.5; exit 4", ""),
            stage("c", WRITE, "needs = { x = \"b\" }"),
        ]
        .concat(),
    );
    let ran = desk.pipe(&["run", "p.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("another_stage_failed_meanwhile");
}

#[test]
fn ctrl_c_ends_a_wait_at_once() {
    let desk = desk(&[stage("a", "exit 3", "retries = { times = 3, wait = 600 }")]);
    let run = ["run", "p.toml"];
    let child = desk.start(&run);
    wait_for("the first try to fail", SOON, || {
        let runs = fs::read_dir(desk.path("cache/v1/runs")).into_iter().flatten().flatten();
        let events = runs.map(|run| fs::read_to_string(run.path().join("events.jsonl")));
        events.flatten().any(|text| text.lines().any(|line| line.starts_with(RETRIED)))
    });
    let since = Instant::now();
    signal("INT", child.id());
    let ran = desk.wait(&run, child);
    assert_eq!(ran.code, 130, "{ran}");
    assert!(since.elapsed() < Duration::from_secs(9), "{:?}", since.elapsed());
    ran.snapshot("ctrl_c_while_waiting");
}

#[cfg(target_os = "linux")]
#[test]
fn memory_grows_with_each_try() {
    let keys =
        "resources = { memory = \"150 MB\" }\nretries = { times = 3, wait = 0, memory = 2.5 }";
    let desk = desk(&[stage("a", HUNGRY, keys)]);
    let ran = desk.ok(&["run", "p.toml", "--memory", "2GB", "--json"]).events();
    let limits: Vec<_> = ran
        .all
        .iter()
        .filter(|event| event["event"] == "stage-retried")
        .map(|event| event["memory"].as_u64().unwrap())
        .collect();
    assert_eq!(limits, [375_000_000, 937_500_000]);
}

/// A chain of which the first stage writes its parameter, and the second copies it.
fn chain(text: &str) -> Desk {
    let first = stage("first", "echo ${text} > $0; echo wrote ${text}", "");
    let second = stage("second", "cat $1 > $0", "needs = { x = \"first/a\" }")
        .replace("\"{output}/a\"]", "\"{output}/a\", \"{inputs.x}\"]");
    desk(&[format!("[vars]\ntext = \"{text}\"\n\n"), first, second])
}

/// The digests and the outcomes of a run.
fn outcomes(desk: &Desk, arguments: &[&str]) -> (BTreeMap<String, String>, Vec<String>) {
    let events = desk.events(&[&["p.toml"], arguments].concat());
    (events.digests(), events.with_outcome("ran"))
}

#[test]
fn an_output_is_accepted_for_a_change() {
    let desk = chain("one");
    let (made, _) = outcomes(&desk, &[]);
    desk.edit("p.toml", "\"one\"", "\"two\"");
    let accept = ["run", "p.toml", "--accept", "first"];
    desk.ok(&[&accept[..], &["--dry-run"]].concat()).snapshot("plan_with_an_accepted_output");
    assert_eq!(desk.ok(&["status", "p.toml", "--json"]).json()["stages"][0]["state"], "dirty");
    desk.ok(&accept).snapshot("accepting");
    assert_eq!(desk.ok(&["runs", "--json"]).json().as_array().unwrap().len(), 2);
    desk.ok(&["runs"]).snapshot("runs_with_an_accepted_output");
    desk.ok(&["show", "@0"]).snapshot("show_an_accepted_output");
    desk.ok(&["diff", "@1", "@0"]).snapshot("diff_with_an_accepted_output");
    // From now on it is up to date, and said to be accepted wherever it is used.
    desk.ok(&["run", "p.toml"]).snapshot("an_accepted_output_is_used_again");
    desk.ok(&["status", "p.toml"]).snapshot("status_of_an_accepted_output");
    desk.ok(&["status", "p.toml", "--json"]).snapshot("status_of_an_accepted_output_as_json");
    desk.ok(&["why", "p.toml", "first"]).snapshot("why_an_accepted_output");
    assert_eq!(outcomes(&desk, &[]), (made.clone(), Vec::new()));
    // Another change on top of it.
    desk.edit("p.toml", "\"two\"", "\"three\"");
    desk.events(&["p.toml", "--accept=first"]).snapshot("accepting_once_more");
    // Collected and verified like any other.
    desk.ok(&["cache", "verify"]);
    desk.ok(&["cache", "gc", "--keep-runs", "1", "--keep-days", "0"]);
    assert_eq!(outcomes(&desk, &[]), (made.clone(), Vec::new()));
    // A forced run takes it back.
    let (own, ran) = outcomes(&desk, &["--force=first"]);
    assert_eq!(ran, ["first", "second"]);
    assert_ne!(own["first"], made["first"]);
    assert_eq!(outcomes(&desk, &[]), (own, Vec::new()));
    desk.ok(&["status", "p.toml"]).snapshot("status_after_it_was_taken_back");
}

#[test]
fn an_output_below_another_one_is_accepted_when_its_key_is_known() {
    let desk = chain("one");
    let (made, _) = outcomes(&desk, &[]);
    desk.edit("p.toml", "\"one\"", "\"two\"");
    let (now, ran) = outcomes(&desk, &["--accept", "second"]);
    assert_eq!(ran, ["first"]);
    assert_eq!(now["second"], made["second"]);
    desk.ok(&["show", "@0"]).snapshot("accepted_below_a_stage_that_ran");
}

#[test]
fn what_cannot_be_accepted_is_refused() {
    let refused = |desk: &Desk, stage: &str, name: &str| {
        let ran = desk.pipe(&["run", "p.toml", "--accept", stage]);
        assert_ne!(ran.code, 0, "{ran}");
        ran.snapshot(name);
    };
    let desk = chain("one");
    refused(&desk, "first", "nothing_to_accept");
    refused(&desk, "frist", "accepting_an_unknown_stage");
    desk.ok(&["run", "p.toml"]);
    desk.pipe(&["run", "p.toml", "--accept=first", "--force"]).snapshot("accepted_and_forced");
    // Nothing has changed, so there is nothing to vouch for.
    assert_eq!(desk.events(&["p.toml", "--accept=first"]).with_outcome("fresh").len(), 2);
    desk.edit("p.toml", "\"one\"", "\"two\"");
    flip(&desk.path("cache/v1/artifacts"), "one\n");
    refused(&desk, "first", "accepting_a_damaged_output");
    refused(&desk, "first", "accepting_an_output_that_is_gone");
    assert_eq!(outcomes(&desk, &[]).1, ["first", "second"]);
    let images = Desk::tiny();
    images.ok(&["run", "tiny.toml", "--until", "fetch"]);
    fs::remove_file(images.path("images/0_disc.png")).unwrap();
    let ran = images.pipe(&["run", "tiny.toml", "--until", "fetch", "--accept", "fetch"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("accepting_images_that_are_read_in_place");
}

/// Changes the first byte of the files with this text, so that only their content shows it.
fn flip(folder: &Path, text: &str) {
    for path in containing(folder, text).iter().filter(|path| path.ends_with("/a")) {
        let time = fs::metadata(path).unwrap().modified().unwrap();
        let mut bytes = fs::read(path).unwrap();
        bytes[0] ^= 1;
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
}

#[test]
fn an_output_that_differs_although_nothing_changed_is_reported() {
    let script = "echo same; echo x >> count; (echo first; wc -l < count) > $0";
    let desk = desk(&[stage("a", script, "")]);
    desk.ok(&["run", "p.toml"]);
    desk.ok(&["run", "p.toml", "--force"]).snapshot("a_forced_run_with_other_bytes");
    desk.ok(&["show", "@0"]).snapshot("show_an_output_that_differs");
    desk.events(&["p.toml", "--force"]).snapshot("events_of_an_output_that_differs");
    // After damage, the earlier bytes aren't what was made.
    flip(&desk.path("cache/v1/artifacts"), "first\n");
    desk.pipe(&["cache", "verify"]);
    desk.ok(&["run", "p.toml"]).snapshot("rebuilt_with_other_bytes");
    // Nobody claimed that an accepted output is that of its key.
    desk.edit("p.toml", "echo same", "echo equal");
    desk.ok(&["run", "p.toml", "--accept", "a"]);
    let forced = desk.events(&["p.toml", "--force"]);
    assert!(forced.all.iter().all(|event| event["event"] != "not-reproducible"));
    let steady = Desk::empty();
    steady.write("p.toml", stage("a", WRITE, ""));
    steady.ok(&["run", "p.toml"]);
    let forced = steady.events(&["p.toml", "--force"]);
    assert!(forced.all.iter().all(|event| event["event"] != "not-reproducible"));
}

#[test]
fn what_is_shown_again_of_stages_in_the_store_can_be_chosen() {
    let script = "echo read; echo 1 > $0; echo 2 > $(dirname $0)/b";
    let desk = desk(&[stage("a", script, ""), stage("b", WRITE, "")]);
    desk.ok(&["run", "p.toml"]);
    for what in ["full", "errors", "none"] {
        let run = ["run", "p.toml", "--force=b", "--jobs", "1", "--replay", what];
        desk.ok(&run).snapshot(&format!("replay_{what}"));
    }
    desk.ok(&["log", "@0", "a"]).snapshot("log_after_no_replay");
    desk.pipe(&["run", "p.toml", "--replay", "some"]).snapshot("replay_of_something_else");
}
