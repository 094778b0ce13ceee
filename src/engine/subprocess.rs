//! Runs jobs as child processes, `pipe stage JOB`. Each has its own process group, so that signals
//! reach everything it started, and so that Ctrl-C on a terminal reaches only the parent. The
//! parent holds the child's stdin open; if the parent dies, the child sees EOF and exits. What a
//! child leaves running in its group is killed.

use super::StageError;
use super::job::{JobOutcome, WorkerMessage};
use super::launcher::{Launcher, RunningJob};
use super::resources::memory_of_group;
use crate::events::EventSink;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many bytes of a job's stderr are kept, from its end.
const STDERR_KEPT: usize = 16 << 10;

/// How long the pipes of an exited child are read: a grandchild may hold them open.
const LINGER: Duration = Duration::from_millis(500);

/// The environment variable that replaces the current executable, for tests and benchmarks.
const PROGRAM_VARIABLE: &str = "PIPE_EXE";

/// The running program's own image, which stays what it is when its file is replaced.
const OWN_IMAGE: &str = "/proc/self/exe";

/// Launches jobs as child processes.
pub struct SubprocessLauncher {
    program: PathBuf,
    /// The name by which the child is listed.
    name: Option<OsString>,
}

impl SubprocessLauncher {
    /// Starts `program` as the worker.
    pub fn of(program: PathBuf) -> SubprocessLauncher {
        SubprocessLauncher { program, name: None }
    }

    /// Starts the current executable, or the one in `PIPE_EXE`, as the worker. On Linux it is the
    /// image that this process runs, so that an upgrade during a run changes nothing for it.
    pub fn new() -> io::Result<SubprocessLauncher> {
        if let Some(program) = std::env::var_os(PROGRAM_VARIABLE) {
            return Ok(SubprocessLauncher::of(program.into()));
        }
        if cfg!(target_os = "linux") && Path::new(OWN_IMAGE).exists() {
            let (program, name) = (PathBuf::from(OWN_IMAGE), std::env::args_os().next());
            return Ok(SubprocessLauncher { program, name });
        }
        std::env::current_exe().map(SubprocessLauncher::of)
    }
}

struct Subprocess {
    child: Child,
    _stdin: Option<ChildStdin>,
    status: Option<(ExitStatus, Instant)>,
    readers: [JoinHandle<()>; 2],
    outcome: Arc<Mutex<Option<JobOutcome>>>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    events: EventSink,
    /// Whether `stop` or `kill` was called.
    stop_requested: bool,
}

impl Launcher for SubprocessLauncher {
    fn launch(&self, job: &Path, events: EventSink) -> io::Result<Box<dyn RunningJob>> {
        let mut command = Command::new(&self.program);
        if let Some(name) = &self.name {
            command.arg0(name);
        }
        command.arg("stage").arg(job).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let outcome = Arc::default();
        let stderr = Arc::default();
        let lines = read_lines(child.stdout.take(), events.clone(), Arc::clone(&outcome));
        let tail = keep_tail(child.stderr.take(), Arc::clone(&stderr));
        let readers = thread(lines).and_then(|lines| Ok([lines, thread(tail)?]));
        let readers = readers.inspect_err(|_| {
            let _ = child.kill().and_then(|()| child.wait());
        })?;
        let _stdin = child.stdin.take();
        Ok(Box::new(Subprocess {
            child,
            _stdin,
            status: None,
            readers,
            outcome,
            stderr,
            events,
            stop_requested: false,
        }))
    }
}

/// Starts a thread, which fails where the system allows no more.
fn thread(work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().spawn(work)
}

/// Forwards the child's events and stores its outcome. Any other line, such as one that a library
/// prints, is emitted as a message.
fn read_lines(
    pipe: Option<impl Read>,
    events: EventSink,
    outcome: Arc<Mutex<Option<JobOutcome>>>,
) -> impl FnOnce() {
    move || {
        let Some(pipe) = pipe else { return };
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line);
            match WorkerMessage::read(&text) {
                Some(WorkerMessage::Event(event)) => events.emit(event),
                Some(WorkerMessage::Outcome(last)) => {
                    *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(last)
                }
                None if text.trim().is_empty() => {}
                None => events.info(text),
            }
        }
    }
}

fn keep_tail(pipe: Option<impl Read>, kept: Arc<Mutex<VecDeque<u8>>>) -> impl FnOnce() {
    move || {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = [0; 4096];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.extend(buffer.iter().take(count));
                    let surplus = kept.len().saturating_sub(STDERR_KEPT);
                    kept.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl RunningJob for Subprocess {
    fn poll(&mut self) -> Option<JobOutcome> {
        let (status, since) = match self.status {
            Some(known) => known,
            None => {
                let status = self.wait()?;
                *self.status.insert((status, Instant::now()))
            }
        };
        if !self.readers.iter().all(JoinHandle::is_finished) && since.elapsed() < LINGER {
            return None;
        }
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let stderr = String::from_utf8_lossy(stderr.make_contiguous()).trim().to_owned();
        Some(match outcome {
            Some(JobOutcome::Failed { message, help, is_temporary }) => {
                let message = with_stderr(message, &stderr);
                JobOutcome::Failed { message, help, is_temporary }
            }
            Some(outcome) => {
                if !stderr.is_empty() {
                    self.events.warn(stderr);
                }
                outcome
            }
            // The signal kills a child that hasn't installed its handler yet.
            None if self.stop_requested => JobOutcome::Cancelled,
            None => explain_exit(status).map_message(|text| with_stderr(text, &stderr)).into(),
        })
    }

    fn memory(&self, limit: u64) -> Option<u64> {
        memory_of_group(self.child.id(), limit)
    }

    fn stop(&mut self) {
        self.stop_requested = true;
        self.signal(libc::SIGTERM);
    }

    fn kill(&mut self) {
        self.stop_requested = true;
        self.signal(libc::SIGKILL);
    }
}

impl Subprocess {
    /// The child's exit status, or None while it runs. If SIGCHLD is ignored the kernel keeps no
    /// status; then closed pipes mean that the child exited, and its last line is the outcome.
    fn wait(&mut self) -> Option<ExitStatus> {
        self.kill_leftovers();
        match self.child.try_wait() {
            Ok(status) => status,
            Err(_) => {
                self.readers.iter().all(JoinHandle::is_finished).then(|| ExitStatus::from_raw(0))
            }
        }
    }

    /// Kills what an exited child left running in its group. It isn't waited for yet, so the group is
    /// still its own.
    fn kill_leftovers(&self) {
        let child = WaitId::Pid(Pid::from_child(&self.child));
        let exited = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if let Ok(Some(_)) = waitid(child, exited) {
            self.signal(libc::SIGKILL);
        }
    }

    /// Signals the child's process group.
    #[expect(unsafe_code, reason = "std sends no signal to a process group")]
    fn signal(&self, signal: libc::c_int) {
        let Ok(group) = libc::pid_t::try_from(self.child.id()) else { return };
        if self.status.is_none() {
            // SAFETY: the call takes only numbers. The child is the leader of this group and hasn't
            // been waited for, so the kernel can't have reused its id.
            unsafe { libc::kill(-group, signal) };
        }
    }
}

impl Drop for Subprocess {
    /// A child doesn't outlive the executor that started it.
    fn drop(&mut self) {
        if self.status.is_none() {
            self.signal(libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn with_stderr(message: impl Into<String>, stderr: &str) -> String {
    let message = message.into();
    if stderr.is_empty() { message } else { format!("{message}\n{stderr}") }
}

/// The failure of a child that exited without an outcome.
fn explain_exit(status: ExitStatus) -> StageError {
    const AGAIN: &str = "no artifact was stored; run again";
    const MEMORY: &str = "lower `batch_size` or the image size, or use fewer `--threads` or `--jobs`; `dmesg` may say more";
    let Some(signal) = status.signal() else {
        let code = status.code().expect("a process that wasn't killed has an exit code");
        let message = format!("its process exited with code {code} without an outcome");
        return StageError::failed(message).with_help(AGAIN);
    };
    let failed = |message: &str, help: &str| StageError::failed(message).with_help(help);
    match signal {
        libc::SIGKILL => failed(
            "its process was killed (SIGKILL), most likely because the system ran out of memory",
            MEMORY,
        )
        .temporary_if(true),
        libc::SIGABRT => {
            failed("its process aborted (SIGABRT): out of memory or stack overflow", MEMORY)
                .temporary_if(true)
        }
        libc::SIGBUS => failed(
            "its process was killed (SIGBUS): a memory-mapped file was truncated, or the disk is full",
            "check for damaged files with `pipe cache verify`, and free disk space",
        ),
        libc::SIGSEGV | libc::SIGILL | libc::SIGFPE => failed(
            &format!("its process crashed (signal {signal})"),
            "this is a bug in pipe; please report it",
        ),
        _ => {
            failed(&format!("its process was killed by signal {signal}"), AGAIN).temporary_if(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Level, StageEvent};

    /// Runs a shell script as the worker.
    fn run(script: &str, meanwhile: impl Fn(&mut dyn RunningJob)) -> (JobOutcome, Vec<StageEvent>) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let emitted = Arc::new(Mutex::new(Vec::new()));
        let events = {
            let emitted = Arc::clone(&emitted);
            EventSink::new(move |event| emitted.lock().unwrap().push(event))
        };
        let launcher = SubprocessLauncher::of(program);
        let mut job = loop {
            // Another test's fork may hold the script open for writing for a moment.
            match launcher.launch(Path::new("job"), events.clone()) {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                other => break other.unwrap(),
            }
        };
        meanwhile(&mut *job);
        let outcome = loop {
            match job.poll() {
                Some(outcome) => break outcome,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        drop(job);
        let emitted = emitted.lock().unwrap().clone();
        (outcome, emitted)
    }

    fn failure(outcome: JobOutcome) -> String {
        match outcome {
            JobOutcome::Failed { message, help, .. } => {
                format!("{message} / {}", help.unwrap_or_default())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn output_becomes_events_and_the_last_line_is_the_outcome() {
        let script = r#"echo '{"event":"message","level":"info","text":"hello"}'
            echo plain
            echo careful >&2
            echo '{"event":"cancelled"}'"#;
        let (outcome, events) = run(script, |_| {});
        assert_eq!(outcome, JobOutcome::Cancelled);
        let message = |level, text: &str| StageEvent::Message { level, text: text.into() };
        let expected =
            [(Level::Info, "hello"), (Level::Info, "plain"), (Level::Warning, "careful")];
        assert_eq!(events, expected.map(|(level, text)| message(level, text)));
    }

    #[test]
    fn an_exit_without_an_outcome_is_explained() {
        let failure_of = |script: &str| failure(run(script, |_| {}).0);
        assert!(failure_of("kill -KILL $$").contains("ran out of memory"));
        assert!(failure_of("kill -BUS $$").contains("truncated"));
        assert!(failure_of("echo why >&2; exit 7").contains("code 7 without an outcome\nwhy"));
        let failed =
            r#"echo place >&2; echo '{"event":"failed","message":"no","help":"do"}'; exit 1"#;
        assert_eq!(failure_of(failed), "no\nplace / do");
    }

    #[test]
    fn what_a_child_leaves_running_is_killed() {
        let start = Instant::now();
        let script = r#"sleep 60 & echo "$!"; echo '{"event":"cancelled"}'"#;
        let (outcome, events) = run(script, |_| {});
        assert_eq!(outcome, JobOutcome::Cancelled);
        let [StageEvent::Message { text: left, .. }] = events.as_slice() else {
            panic!("{events:?}")
        };
        let is_there = || {
            let status = std::fs::read_to_string(format!("/proc/{left}/stat")).unwrap_or_default();
            !status.is_empty() && !status.contains(") Z ")
        };
        while is_there() {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn stop_and_kill_reach_the_whole_process_group() {
        let start = Instant::now();
        let polite = "trap 'echo \"{\\\"event\\\":\\\"cancelled\\\"}\"; exit 130' TERM; echo; sleep 20 & wait";
        let wait_and = |act: fn(&mut dyn RunningJob)| {
            move |job: &mut dyn RunningJob| {
                std::thread::sleep(Duration::from_millis(300));
                act(job);
            }
        };
        assert_eq!(run(polite, wait_and(|job| job.stop())).0, JobOutcome::Cancelled);
        let ignores_term = "trap '' TERM; sleep 20 & wait";
        let kill = |job: &mut dyn RunningJob| {
            job.stop();
            std::thread::sleep(Duration::from_millis(100));
            assert!(job.poll().is_none());
            job.kill();
        };
        assert_eq!(run(ignores_term, wait_and(kill)).0, JobOutcome::Cancelled);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
