//! The interface between the executor and running jobs: start a job, poll it, stop it, kill it.
//! Also the simplest implementation, which runs jobs in threads of this process.

use super::job::{Job, JobOutcome};
use super::worker;
use super::{Kinds, StageError};
use crate::events::{CancellationToken, EventSink};
use std::io;
use std::path::Path;
use std::thread::JoinHandle;

/// Starts jobs.
pub trait Launcher {
    /// Starts the job in the file `job`. Its events go to `events`, from any thread.
    ///
    /// # Errors
    /// If it can't be started.
    fn launch(&self, job: &Path, events: EventSink) -> io::Result<Box<dyn RunningJob>>;
}

/// A job that was started.
pub trait RunningJob {
    /// The outcome, or None while the job runs. All events have been emitted before the outcome is
    /// returned, which happens once.
    fn poll(&mut self) -> Option<JobOutcome>;

    /// The bytes of memory that the job uses, exact if it is more than `limit`. None if that isn't
    /// known.
    fn memory(&self, _limit: u64) -> Option<u64> {
        None
    }

    /// Requests cancellation and returns at once.
    fn stop(&mut self);

    /// Ends the job immediately, if that is possible.
    fn kill(&mut self);
}

/// Runs jobs in threads of this process: for tests, and for programs without a `pipe` binary.
/// `kill` can only request cancellation.
pub struct InProcessLauncher(pub &'static Kinds);

/// A job in a thread of this process.
pub(super) struct ThreadJob {
    cancel: CancellationToken,
    handle: Option<JoinHandle<JobOutcome>>,
}

impl ThreadJob {
    /// Starts `work`, which `cancel` stops.
    pub(super) fn start(
        cancel: CancellationToken,
        work: impl FnOnce() -> JobOutcome + Send + 'static,
    ) -> io::Result<ThreadJob> {
        let handle = std::thread::Builder::new().spawn(work)?;
        Ok(ThreadJob { cancel, handle: Some(handle) })
    }
}

impl Launcher for InProcessLauncher {
    fn launch(&self, job: &Path, events: EventSink) -> io::Result<Box<dyn RunningJob>> {
        let (kinds, cancel) = (self.0, CancellationToken::new());
        let job = Job::read(job).map_err(io::Error::other)?;
        let build = {
            let cancel = cancel.clone();
            move || worker::build(&job, kinds, &cancel, &events)
        };
        Ok(Box::new(ThreadJob::start(cancel, build)?))
    }
}

impl RunningJob for ThreadJob {
    fn poll(&mut self) -> Option<JobOutcome> {
        let handle = self.handle.take_if(|handle| handle.is_finished())?;
        // `build` catches panics of the kind, so only one of `build` itself gets here.
        let panicked = |_| StageError::failed("its thread panicked").into();
        Some(handle.join().unwrap_or_else(panicked))
    }

    fn stop(&mut self) {
        self.cancel.cancel();
    }

    fn kill(&mut self) {
        self.cancel.cancel();
    }
}

impl Drop for ThreadJob {
    /// A job whose executor is gone stops at its next check of the token.
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
