//! `pipe stage JOB`: one job in this process. What it tells goes to stdout, a line of JSON each. It stops when it is asked
//! to by a signal, or when whoever started it is gone.

use super::Kinds;
use super::job::{Ending, Job, Line};
use super::perform::{Say, perform};
use crate::events::{CancellationToken, Told};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long a stage may take to hear that it should stop.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// The exit code of a job that was cancelled.
const INTERRUPTED: u8 = 130;

/// Runs the job in the file `job`. The last line on stdout says how it ended; so does the exit code: 0, 1, or 130.
pub fn run_job(job: &Path, kinds: &'static Kinds) -> ExitCode {
    let cancel = CancellationToken::new();
    listen(&cancel);
    std::panic::set_hook(Box::new(tell_panic));
    let ending = match Job::read(job) {
        Ok(job) => {
            // Fails only where a pool was built before; then that one is used.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(job.threads.max(1)).build_global();
            let say: Say = Arc::new(|told: Told| write(&Line::Told(told)));
            perform(&job, kinds, &cancel, say)
        }
        Err(error) => error.into(),
    };
    let code = match &ending {
        Ending::Committed { .. } => ExitCode::SUCCESS,
        Ending::Failed { .. } => ExitCode::FAILURE,
        Ending::Cancelled => ExitCode::from(INTERRUPTED),
    };
    write(&Line::Ending(ending));
    code
}

/// Nobody may be left to read: that is no reason to fail.
fn write(line: &Line) {
    let mut text = line.write();
    text.push('\n');
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Raises `cancel` on SIGTERM and SIGINT, and when the pipe that holds stdin open is closed: by the death of whoever
/// started this. Then nobody is left to kill a stage that doesn't hear, so this process ends by itself, at once if it
/// had been asked to stop before.
fn listen(cancel: &CancellationToken) {
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // Without the handler the signal kills at once, which loses nothing that was committed.
        let _ = signal_hook::flag::register(signal, cancel.flag());
    }
    let Some(mut stdin) = held_open() else { return };
    let cancel = cancel.clone();
    std::thread::spawn(move || {
        let mut byte = [0];
        while stdin.read(&mut byte).is_ok_and(|count| count > 0) {}
        if !cancel.is_cancelled() {
            cancel.cancel();
            std::thread::sleep(GRACE);
        }
        std::process::exit(i32::from(INTERRUPTED));
    });
}

/// Stdin, if it is a pipe. A terminal or `/dev/null` says nothing about who started this.
fn held_open() -> Option<File> {
    let stdin = File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    stdin.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()).then_some(stdin)
}

/// The place of a panic, for the failure's message: whoever started this shows what was written to stderr.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let mut text = panic.location().map_or(String::new(), |place| format!("panicked at {place}\n"));
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        text.push_str(&backtrace.to_string());
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}
