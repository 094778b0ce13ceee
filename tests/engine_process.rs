//! Jobs as child processes of this very program, as `pipe` runs them. Without a test harness, since
//! a harness would take the arguments `stage JOB` for names of tests.

#![allow(clippy::print_stdout, reason = "prints as a test harness does")]

use pipe::config::{KeyType, NoKeys, load};
use pipe::engine::*;
use pipe::events::{CancellationToken, Event, RunOutcome, StageOutcome};
use pipe::store::Store;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// A kind that succeeds or fails in one way.
struct Act;

pipe::config::keys! {
    struct ActOptions / ActKeys {
        what: String = "write";
        /// A file for the number of the process.
        pid: Option<PathBuf> = none affects Execution;
    }
}

impl Kind for Act {
    type Keys = ActOptions;
    type Dataset = NoKeys;
    type Resolved = ActOptions;

    fn name(&self) -> &'static str {
        "act"
    }
    fn about(&self) -> &'static str {
        "acts"
    }
    fn version(&self) -> u32 {
        1
    }
    fn resolve(
        &self,
        keys: ActKeys,
        _dataset: NoKeys,
        _resolver: &mut Resolver,
    ) -> Option<ActOptions> {
        Some(ActOptions::resolved(keys))
    }
    fn run(&self, options: &ActOptions, context: &Context) -> Result<(), StageError> {
        let pid = std::process::id().to_string();
        if let Some(path) = &options.pid {
            std::fs::write(path, &pid).or_fail("writing the number of the process")?;
        }
        context.events.info(format!("{} threads", rayon::current_num_threads()));
        match options.what.as_str() {
            "wait" => loop {
                StageError::check(&context.cancel)?;
                std::thread::sleep(Duration::from_millis(1));
            },
            "die" => {
                let _ = Command::new("kill").args(["-KILL", &pid]).status();
                std::thread::sleep(Duration::from_secs(10));
            }
            "panic" => panic!("at the disco"),
            "print" => println!("a library prints"),
            _ => {}
        }
        std::fs::write(context.slot.join("done"), "done").or_fail("writing")
    }
}

static KINDS: &Kinds = &[KindRef::new(&Act)];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["stage", job] => return run_job(Path::new(job), KINDS),
        ["run", folder, what] => {
            run(Path::new(folder), what, &CancellationToken::new());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    type Test = (&'static str, fn(&Path));
    let tests: &[Test] = &[
        ("a_child_runs_and_a_hit_needs_none", a_child_runs_and_a_hit_needs_none),
        ("a_dead_child_is_explained", a_dead_child_is_explained),
        ("a_panic_is_a_failure_with_its_location", a_panic_is_a_failure_with_its_location),
        ("a_cancellation_reaches_the_child", a_cancellation_reaches_the_child),
        ("a_child_ends_with_its_parent", a_child_ends_with_its_parent),
        ("a_job_runs_without_a_parent", a_job_runs_without_a_parent),
    ];
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    for (name, test) in
        tests.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter.as_str())))
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // A failure panics, and ends the program with a code that is not 0.
        test(folder.path());
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

fn run(folder: &Path, what: &str, cancel: &CancellationToken) -> (Report, Vec<Event>) {
    let file = folder.join("p.toml");
    std::fs::write(&file, format!("[stages.act]\nwhat = \"{what}\"\npid = \"pid\"")).unwrap();
    let graph = graph(&load(&file, &[]).unwrap(), KINDS).unwrap();
    let store = Store::open(&folder.join("cache")).unwrap();
    let options = Options { threads: 3, ..Options::default() };
    let plan = plan(&graph, &store, &options, &NoHistory, cancel).unwrap();
    let mut events = Vec::new();
    let report =
        execute(&graph, plan, &store, &options, cancel, &mut |event| events.push(event.clone()))
            .unwrap();
    (report, events)
}

fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots/engine_process");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn error(report: &Report) -> &str {
    report.stages[0].error.as_deref().unwrap_or_default()
}

fn pid(folder: &Path) -> Option<String> {
    std::fs::read_to_string(folder.join("pid")).ok().filter(|pid| !pid.is_empty())
}

fn lives(pid: &str) -> bool {
    let answer = Command::new("kill").args(["-0", pid]).stderr(Stdio::null()).status();
    // A zombie still accepts signals.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    answer.is_ok_and(|status| status.success()) && !state.contains(") Z ")
}

fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        match what() {
            Some(found) => return found,
            None if start.elapsed() > Duration::from_secs(30) => panic!("waited for too long"),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn a_child_runs_and_a_hit_needs_none(folder: &Path) {
    let (report, events) = run(folder, "print", &CancellationToken::new());
    assert_eq!(report.outcome, RunOutcome::Ok);
    let reported = |wanted: &str| {
        events.iter().any(|event| matches!(event, Event::Message { text, .. } if text == wanted))
    };
    assert!(reported("3 threads") && reported("a library prints"), "{events:?}");
    assert_ne!(pid(folder).unwrap(), std::process::id().to_string());
    std::fs::remove_file(folder.join("pid")).unwrap();
    let (report, _) = run(folder, "print", &CancellationToken::new());
    assert_eq!(report.stages[0].outcome, StageOutcome::Fresh);
    assert_eq!(pid(folder), None);
}

fn a_dead_child_is_explained(folder: &Path) {
    let (report, _) = run(folder, "die", &CancellationToken::new());
    assert_eq!(report.outcome, RunOutcome::Failed);
    assert_snapshot("killed", error(&report));
    let (report, _) = run(folder, "write", &CancellationToken::new());
    assert_eq!(report.outcome, RunOutcome::Ok);
}

fn a_panic_is_a_failure_with_its_location(folder: &Path) {
    let (report, _) = run(folder, "panic", &CancellationToken::new());
    let line = regex::Regex::new(r"engine_process\.rs:\d+(:\d+)?").unwrap();
    let text = line.replace(error(&report), "engine_process.rs:[line]");
    // A backtrace follows where `RUST_BACKTRACE` is set.
    let without_backtrace: Vec<&str> = text.lines().take(2).collect();
    assert_snapshot("panicked", &without_backtrace.join("\n"));
}

fn a_cancellation_reaches_the_child(folder: &Path) {
    let cancel = CancellationToken::new();
    let cancelling = {
        let (cancel, folder) = (cancel.clone(), PathBuf::from(folder));
        std::thread::spawn(move || {
            wait_for(|| pid(&folder));
            cancel.cancel();
            Instant::now()
        })
    };
    let (report, _) = run(folder, "wait", &cancel);
    let cancelled = cancelling.join().unwrap();
    assert!(cancelled.elapsed() < Duration::from_secs(2), "{:?}", cancelled.elapsed());
    assert_eq!(report.outcome, RunOutcome::Cancelled);
    assert_eq!(report.stages[0].outcome, StageOutcome::Cancelled);
    assert!(!lives(&pid(folder).unwrap()));
    assert_eq!(std::fs::read_dir(folder.join("cache/v1/slots")).unwrap().count(), 0);
}

fn a_child_ends_with_its_parent(folder: &Path) {
    let mut parent = Command::new(std::env::current_exe().unwrap());
    let mut parent = parent.arg("run").arg(folder).arg("wait").spawn().unwrap();
    let child = wait_for(|| pid(folder));
    assert!(lives(&child));
    parent.kill().unwrap();
    parent.wait().unwrap();
    let start = Instant::now();
    wait_for(|| (!lives(&child)).then_some(()));
    assert!(start.elapsed() < Duration::from_secs(5), "the child ends when its parent is gone");
    let (report, _) = run(folder, "write", &CancellationToken::new());
    assert_eq!(report.outcome, RunOutcome::Ok, "nothing has to be unlocked");
}

/// As a cluster would run it: stdin is no pipe.
fn a_job_runs_without_a_parent(folder: &Path) {
    let mut parent = Command::new(std::env::current_exe().unwrap());
    let mut parent = parent.arg("run").arg(folder).arg("wait").spawn().unwrap();
    wait_for(|| pid(folder));
    let jobs =
        std::fs::read_dir(folder.join("cache/v1/jobs")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(jobs.join("0.json")).unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    let job = folder.join("job.json");
    // In the values alone: the fingerprint has to remain that of the key.
    let (before, after) = text.rsplit_once("\"wait\"").unwrap();
    std::fs::write(&job, format!("{before}\"write\"{after}")).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("stage").arg(&job).stdin(Stdio::null()).stdout(Stdio::piped());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.lines().last().unwrap().contains("\"committed\""),
        "{text}"
    );
}
