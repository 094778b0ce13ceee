//! Runs the program: a clean environment, its output as the stage's log, cancellation, and how it
//! ended. It runs in the process group of its stage, which ends with the stage.

use crate::engine::{Context, OrFail, StageError};
use crate::events::{CancellationToken, EventSink};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Variables of `pipe`'s own environment that every program gets.
const PASSED: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// The variable by which CUDA, and what is built on it, finds its GPUs.
const GPUS: &str = "CUDA_VISIBLE_DEVICES";

/// The longest line of output in bytes; the rest is the next line.
const LONGEST: u64 = 8 << 10;
/// Lines of output in the log; more are left out, with a warning.
const LOGGED: usize = 10_000;
/// Lines of output in an error.
const TAIL: usize = 12;

/// How often the process is looked at.
const INTERVAL: Duration = Duration::from_millis(10);
/// How long its output is read after it exited: a process that it started may hold it open.
const LINGER: Duration = Duration::from_millis(500);
/// When a program that goes on after cancellation gets SIGTERM, which the executor sends to the
/// whole group before that, and when SIGKILL.
const STOP_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(8)];

/// A program that is about to run.
pub(super) struct Process<'a> {
    pub program: PathBuf,
    /// Its name in messages.
    pub named: &'a str,
    pub arguments: Vec<String>,
    pub env: Vec<(String, String)>,
    pub pass_env: &'a [String],
    /// The GPUs that it may use, by the names that CUDA has for them; none if it asked for none.
    pub gpus: &'a [String],
    pub folder: &'a Path,
}

/// The last lines of output.
#[derive(Clone, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line.to_owned());
        if lines.len() > TAIL {
            lines.pop_front();
        }
    }

    /// A failure with the lines below its message.
    pub(super) fn added_to(&self, error: StageError) -> StageError {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return error;
        }
        let lines: String = lines.iter().map(|line| format!("\n  {line}")).collect();
        error.map_message(|message| format!("{message}; its output ends with{lines}"))
    }
}

impl Process<'_> {
    /// Runs the program to its end. Returns the end of its output.
    ///
    /// # Errors
    /// If it can't be started, fails or is killed, and when the stage is cancelled.
    pub(super) fn run(&self, context: &Context) -> Result<Tail, StageError> {
        let (output, mut child) = self.start().map_err(|error| self.not_started(&error))?;
        let tail = Tail::default();
        let reader = read(output, context.events.clone(), tail.clone());
        let reader = reader.inspect_err(|_| {
            let _ = child.kill().and_then(|()| child.wait());
        });
        let reader = reader.or_fail(format_args!("reading the output of `{}`", self.named))?;
        let status = wait(&mut child, &context.cancel);
        let status = status.or_fail(format_args!("waiting for `{}`", self.named))?;
        let since = Instant::now();
        while !reader.is_finished() && since.elapsed() < LINGER {
            std::thread::sleep(INTERVAL);
        }
        StageError::check(&context.cancel)?;
        match self.failure(status) {
            Some(error) => Err(tail.added_to(error)),
            None => Ok(tail),
        }
    }

    /// Starts it, with one pipe for both of its streams so that lines keep their order.
    fn start(&self) -> io::Result<(PipeReader, Child)> {
        let (output, stdout) = io::pipe()?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(self.folder).env_clear();
        let passed = PASSED.into_iter().chain(self.pass_env.iter().map(String::as_str));
        command.envs(passed.filter_map(|name| Some((name, std::env::var_os(name)?))));
        if !self.gpus.is_empty() {
            command.env(GPUS, self.gpus.join(","));
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stderr(stdout.try_clone()?).stdout(stdout);
        Ok((output, command.spawn()?))
    }

    fn not_started(&self, error: &io::Error) -> StageError {
        let named = self.named;
        match error.kind() {
            // The program was found.
            io::ErrorKind::NotFound => StageError::failed(format!(
                "`{named}` can't be started: its interpreter isn't there"
            ))
            .with_help("look at the line `#!` at its beginning"),
            io::ErrorKind::ArgumentListTooLong => {
                StageError::failed(format!("the arguments of `{named}` are too long"))
                    .with_help("write them to a file, and name that among `scripts`")
            }
            _ => StageError::failed(format!("`{named}` can't be started: {error}")),
        }
    }

    fn failure(&self, status: ExitStatus) -> Option<StageError> {
        let named = self.named;
        let message = match (status.code(), status.signal()) {
            (Some(0), _) => return None,
            (Some(code), _) => format!("`{named}` exited with code {code}"),
            (None, Some(libc::SIGKILL)) => format!(
                "`{named}` was killed (SIGKILL), most likely because the system ran out of memory"
            ),
            (None, signal) => {
                let name = signal.and_then(signal_hook::low_level::signal_name);
                format!("`{named}` was killed ({})", name.unwrap_or("by an unknown signal"))
            }
        };
        let help = "`pipe log RUN STAGE` shows all of its output";
        // Programs rarely tell whether trying again helps: the user does, by the key `retries`.
        Some(StageError::failed(message).with_help(help).temporary_if(true))
    }
}

/// Waits for the end of the program; after cancellation, stops it.
fn wait(child: &mut Child, cancel: &CancellationToken) -> io::Result<ExitStatus> {
    let mut cancelled: Option<Instant> = None;
    let mut signals = STOP_AFTER.into_iter().zip([Signal::TERM, Signal::KILL]).peekable();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if cancel.is_cancelled() {
            let since = cancelled.get_or_insert_with(Instant::now).elapsed();
            if let Some((_, signal)) = signals.next_if(|(after, _)| since > *after) {
                let _ = kill_process(Pid::from_child(child), signal);
            }
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Reads the output line by line into the log.
fn read(output: PipeReader, events: EventSink, tail: Tail) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().spawn(move || {
        let mut output = BufReader::new(output);
        let mut logged = 0;
        let mut line = Vec::new();
        while (&mut output).take(LONGEST).read_until(b'\n', &mut line).is_ok_and(|count| count > 0)
        {
            let text = shown(&line);
            line.clear();
            if text.is_empty() {
                continue;
            }
            tail.push(&text);
            match logged {
                0..LOGGED => events.info(text),
                LOGGED => {
                    events.warn(format!("the log leaves out all but {LOGGED} lines of output"))
                }
                _ => {}
            }
            logged += 1;
        }
    })
}

/// A line as a terminal shows it at its end: programs overwrite lines that show progress.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    text.rsplit('\r').next().unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_ends_with_the_last_lines() {
        let tail = Tail::default();
        let failed = || StageError::failed("no").with_help("do");
        assert_eq!(tail.added_to(failed()), failed());
        (0..20).for_each(|number| tail.push(&number.to_string()));
        let text = tail.added_to(failed()).to_string();
        assert!(text.starts_with("no; its output ends with\n  8\n  9\n"), "{text}");
        assert!(text.ends_with("  19\ndo"), "{text}");
        assert_eq!(tail.added_to(StageError::Cancelled), StageError::Cancelled);
    }

    #[test]
    fn a_line_is_what_remains_of_it() {
        assert_eq!(shown(b"10 %\r50 %\r100 %\r\n"), "100 %");
        assert_eq!(shown(b"  a\xff \n"), "  a\u{fffd}");
        assert_eq!(shown(b"\n"), "");
    }
}
