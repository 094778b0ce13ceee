//! The seam at which jobs leave the executor: start one, hear what it tells, ask it to stop, kill it, learn how it ended.
//! Here also the simplest thing behind the seam: a thread of this process.

use super::Kinds;
use super::job::{Ending, Job};
use super::perform::{Say, perform};
use crate::events::CancellationToken;
use std::io;
use std::path::Path;
use std::thread::JoinHandle;

/// Starts jobs.
pub trait Launcher {
    /// Starts the job in the file `job`. `say` hears what it tells, from any thread.
    ///
    /// # Errors
    /// Where it can't be started.
    fn launch(&self, job: &Path, say: Say) -> io::Result<Box<dyn Running>>;
}

/// A job that was started.
pub trait Running {
    /// How it ended; None as long as it runs. What it told was heard before. Called until it says how.
    fn poll(&mut self) -> Option<Ending>;

    /// Asks it to stop. It may take its time.
    fn stop(&mut self);

    /// Ends it now, if that is possible.
    fn kill(&mut self);
}

/// Runs jobs in threads of this process: for tests, and for programs that have no `pipe` to start. A job that doesn't
/// hear that it should stop can't be killed.
pub struct InProcess(pub &'static Kinds);

struct Thread {
    cancel: CancellationToken,
    handle: Option<JoinHandle<Ending>>,
}

impl Launcher for InProcess {
    fn launch(&self, job: &Path, say: Say) -> io::Result<Box<dyn Running>> {
        let (kinds, cancel) = (self.0, CancellationToken::new());
        let job = Job::read(job).map_err(|error| io::Error::other(error.to_string()))?;
        let work = {
            let cancel = cancel.clone();
            move || perform(&job, kinds, &cancel, say)
        };
        let handle = std::thread::Builder::new().spawn(work)?;
        Ok(Box::new(Thread { cancel, handle: Some(handle) }))
    }
}

impl Running for Thread {
    fn poll(&mut self) -> Option<Ending> {
        let handle = self.handle.take_if(|handle| handle.is_finished())?;
        let died = || Ending::Failed { message: "its thread died".to_owned(), help: None };
        Some(handle.join().unwrap_or_else(|_| died()))
    }

    fn stop(&mut self) {
        self.cancel.cancel();
    }

    fn kill(&mut self) {
        self.cancel.cancel();
    }
}

impl Drop for Thread {
    /// A job doesn't outlive the executor that started it by more than it takes to hear that.
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
