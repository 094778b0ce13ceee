//! The worker process `pipe stage JOB`: executes one job and writes its events to stdout as JSON
//! lines. It stops on SIGTERM or SIGINT, or when its parent dies.

mod build;

pub(super) use build::build;

use super::Kinds;
use super::job::{Job, JobOutcome, WorkerMessage};
use super::panics::without_threads;
use crate::events::{CancellationToken, EventSink};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a stage may take to stop after cancellation was requested.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// The exit code of a cancelled job.
const INTERRUPTED: u8 = 130;

/// Executes the job in the file `job`. The outcome is the last line on stdout, and the exit code:
/// 0, 1 or 130.
pub fn run_job(job: &Path, kinds: &'static Kinds) -> ExitCode {
    let cancel = CancellationToken::new();
    cancel_on_signals(&cancel);
    wake_when_parent_dies();
    let orphaned = Arc::new(AtomicBool::new(false));
    cancel_when_parent_dies(&cancel, &orphaned);
    std::panic::set_hook(Box::new(report_panic));
    let outcome = match Job::read(job) {
        Ok(job) => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(job.threads).build_global();
            let events = EventSink::new(|event| write(&WorkerMessage::Event(event)));
            match pool {
                Ok(()) => with_peak_memory(build(&job, kinds, &cancel, &events)),
                Err(_) => without_threads(job.threads).into(),
            }
        }
        Err(error) => error.into(),
    };
    let code = match &outcome {
        JobOutcome::Committed { .. } => ExitCode::SUCCESS,
        JobOutcome::Failed { .. } | JobOutcome::InputsDamaged { .. } => ExitCode::FAILURE,
        JobOutcome::Cancelled => ExitCode::from(INTERRUPTED),
    };
    write(&WorkerMessage::Outcome(outcome));
    if orphaned.load(Ordering::SeqCst) {
        end_with_group();
    }
    code
}

/// Adds what this process used: in a thread of a larger process it would be that of all of it.
fn with_peak_memory(outcome: JobOutcome) -> JobOutcome {
    match outcome {
        JobOutcome::Committed { digest, hit, .. } => {
            JobOutcome::Committed { digest, hit, peak_memory: peak_memory() }
        }
        other => other,
    }
}

/// The most memory that this process used, in bytes, as Linux reports it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Writes a line to stdout. A closed pipe is no reason to fail: the parent is gone.
fn write(message: &WorkerMessage) {
    let mut text = message.write();
    text.push('\n');
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn cancel_on_signals(cancel: &CancellationToken) {
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // Without the handler the signal kills at once, which loses nothing that was committed.
        let _ = signal_hook::flag::register(signal, cancel.flag());
    }
}

/// Requests cancellation when the pipe that the parent holds open on stdin is closed. With the
/// parent gone, nothing would kill a stage that doesn't check its token, so the process ends after
/// [`GRACE`], or at once if cancellation had been requested before.
fn cancel_when_parent_dies(cancel: &CancellationToken, orphaned: &Arc<AtomicBool>) {
    let Some(mut stdin) = stdin_pipe() else { return };
    let (cancel, orphaned) = (cancel.clone(), Arc::clone(orphaned));
    let watch = move || {
        let mut byte = [0];
        while stdin.read(&mut byte).is_ok_and(|count| count > 0) {}
        orphaned.store(true, Ordering::SeqCst);
        if !cancel.is_cancelled() {
            cancel.cancel();
            std::thread::sleep(GRACE);
        }
        end_with_group();
    };
    // Where no thread can be started the stage fails anyway.
    let _ = std::thread::Builder::new().spawn(watch);
}

/// Ends this process, whose parent is gone, and where it leads a process group, all that it started.
fn end_with_group() {
    if rustix::process::getpgrp() == rustix::process::getpid() {
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::KILL);
    }
    std::process::exit(i32::from(INTERRUPTED));
}

/// A worker that was stopped (SIGSTOP) when its parent dies would hold its lock for ever: it is
/// continued, and then finds its stdin closed.
#[cfg(target_os = "linux")]
fn wake_when_parent_dies() {
    // Fails on no kernel that Rust's standard library supports.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::CONT));
}

/// Other systems have no such signal.
#[cfg(not(target_os = "linux"))]
fn wake_when_parent_dies() {}

/// Stdin if it is a pipe. A terminal or `/dev/null` is not tied to the parent's life.
fn stdin_pipe() -> Option<File> {
    let stdin = File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    stdin.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()).then_some(stdin)
}

/// Writes the location of a panic to stderr, which the parent appends to the error message.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let mut text =
        panic.location().map_or(String::new(), |location| format!("panicked at {location}\n"));
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        text.push_str(&backtrace.to_string());
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}
