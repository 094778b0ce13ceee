//! Jobs as child processes: `pipe stage JOB`, each in a process group of its own, so that it can be stopped and killed
//! with all it started, and so that Ctrl-C on a terminal reaches it only through us. Our end of its stdin is held open as
//! long as we live; when we die it hears that, and ends.

use super::job::{Ending, Line};
use super::launch::{Launcher, Running};
use super::perform::Say;
use crate::events::{Level, Told};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How much of what a job wrote to stderr is kept: its end.
const KEPT: usize = 16 << 10;

/// How long the pipes of a job that has ended are listened to: something that it started may hold them open.
const LINGER: Duration = Duration::from_millis(500);

/// Names another program for the jobs than the one that runs: for tests and benchmarks of the library.
const OTHER_PROGRAM: &str = "PIPE_EXE";

/// Runs jobs as child processes of this program.
pub struct Processes {
    program: PathBuf,
}

impl Processes {
    /// Children of `program`.
    pub fn of(program: PathBuf) -> Processes {
        Processes { program }
    }

    /// Children of the program that runs, or of the one that `PIPE_EXE` names.
    pub fn new() -> io::Result<Processes> {
        match std::env::var_os(OTHER_PROGRAM) {
            Some(program) => Ok(Processes::of(program.into())),
            None => std::env::current_exe().map(Processes::of),
        }
    }
}

struct Process {
    child: Child,
    _stdin: Option<ChildStdin>,
    status: Option<(ExitStatus, Instant)>,
    readers: [JoinHandle<()>; 2],
    ending: Arc<Mutex<Option<Ending>>>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    say: Say,
    /// Whether it was asked to stop.
    was_asked: bool,
}

impl Launcher for Processes {
    fn launch(&self, job: &Path, say: Say) -> io::Result<Box<dyn Running>> {
        let mut command = Command::new(&self.program);
        command.arg("stage").arg(job).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let ending = Arc::default();
        let stderr = Arc::default();
        let readers = [
            std::thread::spawn(read_lines(
                child.stdout.take(),
                Arc::clone(&say),
                Arc::clone(&ending),
            )),
            std::thread::spawn(keep_end(child.stderr.take(), Arc::clone(&stderr))),
        ];
        let _stdin = child.stdin.take();
        Ok(Box::new(Process {
            child,
            _stdin,
            status: None,
            readers,
            ending,
            stderr,
            say,
            was_asked: false,
        }))
    }
}

/// Passes on what a job tells, and keeps how it ended. Lines that are none of ours (a library that prints) are passed on
/// as messages.
fn read_lines(
    pipe: Option<impl Read>,
    say: Say,
    ending: Arc<Mutex<Option<Ending>>>,
) -> impl FnOnce() {
    move || {
        let Some(pipe) = pipe else { return };
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line);
            match Line::read(&text) {
                Some(Line::Told(told)) => say(told),
                Some(Line::Ending(last)) => {
                    *ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(last)
                }
                None if text.trim().is_empty() => {}
                None => say(Told::Message { level: Level::Info, text: text.into_owned() }),
            }
        }
    }
}

fn keep_end(pipe: Option<impl Read>, kept: Arc<Mutex<VecDeque<u8>>>) -> impl FnOnce() {
    move || {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = [0; 4096];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.extend(buffer.iter().take(count));
                    let surplus = kept.len().saturating_sub(KEPT);
                    kept.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl Running for Process {
    fn poll(&mut self) -> Option<Ending> {
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
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let wrote = String::from_utf8_lossy(stderr.make_contiguous()).trim().to_owned();
        Some(match ending {
            Some(Ending::Failed { message, help }) => {
                Ending::Failed { message: with_stderr(message, &wrote), help }
            }
            Some(ending) => {
                if !wrote.is_empty() {
                    (self.say)(Told::Message { level: Level::Warning, text: wrote });
                }
                ending
            }
            // One that was only just started dies of the signal, without a word.
            None if self.was_asked => Ending::Cancelled,
            None => {
                let (message, help) = explain(status);
                Ending::Failed {
                    message: with_stderr(message, &wrote),
                    help: Some(help.to_owned()),
                }
            }
        })
    }

    fn stop(&mut self) {
        self.was_asked = true;
        self.signal(libc::SIGTERM);
    }

    fn kill(&mut self) {
        self.was_asked = true;
        self.signal(libc::SIGKILL);
    }
}

impl Process {
    /// How the child ended, if it did. Where the system keeps no such record (SIGCHLD is ignored in some surroundings),
    /// its closed pipes tell that it did, and its last line how.
    fn wait(&mut self) -> Option<ExitStatus> {
        match self.child.try_wait() {
            Ok(status) => status,
            Err(_) => {
                self.readers.iter().all(JoinHandle::is_finished).then(|| ExitStatus::from_raw(0))
            }
        }
    }

    /// Sends a signal to the job and all that it started.
    fn signal(&self, signal: libc::c_int) {
        let Ok(group) = libc::pid_t::try_from(self.child.id()) else { return };
        if self.status.is_none() {
            // SAFETY: the call takes numbers only. The group is the child's own: it was made with that number, and as
            // nobody has waited for the child yet, the system can't have given the number to another.
            unsafe { libc::kill(-group, signal) };
        }
    }
}

impl Drop for Process {
    /// A job doesn't outlive the executor that started it.
    fn drop(&mut self) {
        if self.status.is_none() {
            self.signal(libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn with_stderr(message: String, wrote: &str) -> String {
    if wrote.is_empty() { message } else { format!("{message}\n{wrote}") }
}

/// Why a process ended that didn't say, and what to do.
fn explain(status: ExitStatus) -> (String, &'static str) {
    const AGAIN: &str = "nothing of it was stored; run again";
    const MEMORY: &str = "use a smaller batch size, or fewer threads or jobs; `dmesg` may say more";
    let Some(signal) = status.signal() else {
        let code = status.code().unwrap_or_default();
        return (format!("its process ended with code {code} without saying how"), AGAIN);
    };
    match signal {
        libc::SIGKILL => {
            ("its process was killed (SIGKILL), most likely because the system ran out of memory".to_owned(), MEMORY)
        }
        libc::SIGABRT => {
            ("its process gave up (SIGABRT): out of memory, or its stack was too small".to_owned(), MEMORY)
        }
        libc::SIGBUS => (
            "its process was killed (SIGBUS): a file that it had mapped was cut short, or the disk is full".to_owned(),
            "`pipe cache verify` finds damaged files; run again when there is room on the disk",
        ),
        libc::SIGSEGV | libc::SIGILL | libc::SIGFPE => {
            (format!("its process crashed (signal {signal})"), "this is a mistake in `pipe`: please report it")
        }
        _ => (format!("its process was killed by signal {signal}"), AGAIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that takes the place of `pipe`: a shell script, called with `stage JOB`.
    fn run(script: &str, meanwhile: impl Fn(&mut dyn Running)) -> (Ending, Vec<Told>) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let say: Say = {
            let heard = Arc::clone(&heard);
            Arc::new(move |told| heard.lock().unwrap().push(told))
        };
        let mut running = loop {
            // Another test's fork may hold the script open for writing for a moment.
            match Processes::of(program.clone()).launch(Path::new("job"), Arc::clone(&say)) {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                other => break other.unwrap(),
            }
        };
        meanwhile(&mut *running);
        let ending = loop {
            match running.poll() {
                Some(ending) => break ending,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        drop(running);
        let heard = heard.lock().unwrap().clone();
        (ending, heard)
    }

    fn failure(ending: Ending) -> String {
        match ending {
            Ending::Failed { message, help } => format!("{message} / {}", help.unwrap_or_default()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_child_tells_is_heard_and_its_last_line_counts() {
        let script = r#"echo '{"event":"message","level":"info","text":"hello"}'
            echo plain
            echo careful >&2
            echo '{"event":"cancelled"}'"#;
        let (ending, heard) = run(script, |_| {});
        assert_eq!(ending, Ending::Cancelled);
        let message = |level, text: &str| Told::Message { level, text: text.into() };
        let expected =
            [(Level::Info, "hello"), (Level::Info, "plain"), (Level::Warning, "careful")];
        assert_eq!(heard, expected.map(|(level, text)| message(level, text)));
    }

    #[test]
    fn a_death_is_explained() {
        let died = |script: &str| failure(run(script, |_| {}).0);
        assert!(died("kill -KILL $$").contains("ran out of memory"));
        assert!(died("kill -BUS $$").contains("cut short"));
        assert!(died("echo why >&2; exit 7").contains("code 7 without saying how\nwhy"));
        let failed =
            r#"echo place >&2; echo '{"event":"failed","message":"no","help":"do"}'; exit 1"#;
        assert_eq!(died(failed), "no\nplace / do");
    }

    #[test]
    fn stopping_reaches_what_the_child_started_and_killing_ends_the_deaf() {
        let start = Instant::now();
        let polite = "trap 'echo \"{\\\"event\\\":\\\"cancelled\\\"}\"; exit 130' TERM; echo; sleep 20 & wait";
        let wait_and = |act: fn(&mut dyn Running)| {
            move |running: &mut dyn Running| {
                std::thread::sleep(Duration::from_millis(300));
                act(running);
            }
        };
        assert_eq!(run(polite, wait_and(|running| running.stop())).0, Ending::Cancelled);
        let deaf = "trap '' TERM; sleep 20 & wait";
        let kill = |running: &mut dyn Running| {
            running.stop();
            std::thread::sleep(Duration::from_millis(100));
            assert!(running.poll().is_none());
            running.kill();
        };
        assert_eq!(run(deaf, wait_and(kill)).0, Ending::Cancelled);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
