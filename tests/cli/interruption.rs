//! Ctrl-C, a second one, a killed parent and a killed stage: no process is left over and the next
//! run continues.

use crate::support::{Desk, wait_for};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(200);

pub(crate) const RUN: [&str; 4] = ["run", "tiny.toml", "--jobs", "1"];

pub(crate) fn signal(name: &str, pid: u32) {
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
pub(crate) fn training(desk: &Desk) -> Child {
    desk.edit("tiny.toml", "epochs = 1", "epochs = 9000");
    let child = desk.start(&RUN);
    await_training(desk);
    child
}

/// Waits until the training of a desk's run has begun.
fn await_training(desk: &Desk) {
    wait_for("training to begin", SOON, || {
        let runs = std::fs::read_dir(desk.path("cache/v1/runs")).into_iter().flatten().flatten();
        let events =
            runs.filter_map(|run| std::fs::read_to_string(run.path().join("events.jsonl")).ok());
        events.collect::<String>().lines().any(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            event["event"] == "message" && event["stage"] == "train"
        })
    });
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
    desk.ok(&["status", "tiny.toml"]).snapshot("status_with_a_checkpoint");
    assert_eq!(desk.ok(&["runs", "--json"]).json()[0]["status"], "cancelled");
    assert!(stages(&desk).is_empty());
    let next = desk.events(&["tiny.toml", "--set", "stages.train.epochs=1"]);
    assert_eq!(next.with_outcome("fresh"), ["explore", "fetch", "preprocess"]);
}

/// Two runs of one pipeline: the second one waits for the first one's training and says so.
#[test]
fn a_run_that_waits_says_for_whom_and_since_when() {
    let desk = Desk::tiny();
    let first = training(&desk);
    let output = desk.path("second.log");
    let log = std::fs::File::create(&output).unwrap();
    let second = desk.command(&RUN).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let lines = || {
        let text = std::fs::read_to_string(&output).unwrap();
        text.lines().filter(|line| line.starts_with("  train ")).collect::<Vec<_>>().join("\n")
    };
    wait_for("the second run to wait", SOON, || !lines().is_empty());
    let mut waiting = lines();
    for (pattern, name) in [
        (r"process \d+ on \S+", "process [pid] on [host]"),
        (r"\d{4}-\d\d-\d\d \d+:\d+:\d+ UTC", "[date]"),
    ] {
        waiting = regex::Regex::new(pattern).unwrap().replace_all(&waiting, name).into_owned();
    }
    desk.snapshot("a_run_that_waits", &waiting);
    for run in [second, first] {
        signal("INT", run.id());
        assert_eq!(desk.wait(&RUN, run).code, 130);
    }
}

/// The width of the terminal: no closing line is longer.
const COLUMNS: usize = 120;

/// On a terminal, which echoes `^C`, nothing of the live lines is left.
#[test]
fn ctrl_c_on_a_terminal_leaves_a_clean_screen() {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", "epochs = 1", "epochs = 9000");
    let program = env!("CARGO_BIN_EXE_pipe");
    let line = format!("stty cols {COLUMNS} rows 40; '{program}' run tiny.toml --jobs 1");
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
    desk.isolate(&mut command);
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    await_training(&desk);
    std::thread::sleep(Duration::from_millis(500));
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let screen = screen(&String::from_utf8(output.stdout).unwrap());
    // How far it came, with the ends of its longer lines, depends on the machine.
    let is_steady = |line: &&str| !line.starts_with("  train ") && !line.starts_with("     ");
    let lines = screen.lines().filter(is_steady);
    desk.snapshot("ctrl_c_on_a_terminal", &lines.collect::<Vec<_>>().join("\n"));
}

/// What a terminal shows after this output, as far as progress bars use it.
fn screen(output: &str) -> String {
    let (mut lines, mut row, mut column) = (vec![Vec::<char>::new()], 0_usize, 0_usize);
    let mut rest = output.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' => column = 0,
            '\n' => row += 1,
            '\x1b' => {
                rest.next_if_eq(&'[');
                let mut number = String::new();
                while let Some(digit) = rest.next_if(|c| !c.is_ascii_alphabetic()) {
                    number.push(digit);
                }
                let count = number.parse::<usize>().unwrap_or(1);
                match rest.next() {
                    Some('A') => row = row.saturating_sub(count),
                    Some('B') => row += count,
                    Some('C') => column += count,
                    Some('D') => column = column.saturating_sub(count),
                    Some('K') => lines[row].clear(),
                    _ => {}
                }
            }
            _ => {
                // A character after the last column is on the next line.
                if column == COLUMNS {
                    (row, column) = (row + 1, 0);
                }
                lines.resize(lines.len().max(row + 1), Vec::new());
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    let shown = lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned());
    shown.collect::<Vec<_>>().join("\n")
}

/// An upgrade while a run is going on: all its stages run the program that began.
#[test]
fn a_replaced_program_does_not_disturb_the_run() {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", "epochs = 1", "epochs = 3");
    let program = desk.path("pipe");
    std::fs::copy(env!("CARGO_BIN_EXE_pipe"), &program).unwrap();
    let mut command = Command::new(&program);
    desk.isolate(command.args(RUN));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    await_training(&desk);
    std::fs::remove_file(&program).unwrap();
    desk.write("pipe", "another program");
    let ran = desk.wait(&RUN, child);
    assert_eq!(ran.code, 0, "{ran}");
    let stages = desk.ok(&["show", "@0", "--json"]).json()["run"]["stages"].clone();
    let outcomes: Vec<_> = stages.as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["ran"; 5]);
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
fn a_stopped_stage_ends_with_its_parent() {
    let desk = Desk::tiny();
    let mut child = training(&desk);
    signal("STOP", stages(&desk)[0]);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the stage to end", SOON, || stages(&desk).is_empty());
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
