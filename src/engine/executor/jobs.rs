//! The part of the executor that handles running jobs: writes job files, launches jobs, polls and
//! stops them, and takes their outcomes.

use super::Executor;
use super::node::{Active, MemoryWatch, Node, Spent, StageEnd, Status, StopCause};
use super::retries::JobFailure;
use crate::common::number;
use crate::engine::disk::{self, Estimates, Seen};
use crate::engine::job::{self, Job, JobInput, JobOutcome};
use crate::engine::launcher::RunningJob;
use crate::engine::lookup::Planned;
use crate::engine::resources::Amounts;
use crate::engine::worker::GRACE;
use crate::engine::{EngineError, OrFail, StageError};
use crate::events::{Event, EventSink, Level};
use crate::store::Digest;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The interval at which the memory of a job with a limit is looked at. Looking at a few hundred
/// processes takes a millisecond.
const MEMORY_INTERVAL: Duration = Duration::from_millis(100);

const MEMORY_HELP: &str =
    "raise it, or lower what the stage needs, such as `batch_size` or the number of its processes";

impl Executor<'_> {
    /// Starts the job of a dirty stage.
    pub(super) fn launch(&mut self, index: usize) {
        let job = self.job(index);
        let Node { stage, planned, tries, .. } = &self.nodes[index];
        let Planned::Dirty { reasons, .. } = &planned.state else {
            panic!("stage `{}` is launched without being dirty", stage.name)
        };
        if tries.failed == 0 {
            let (key, reasons) = (job.key.to_string(), reasons.clone());
            (self.handler)(&Event::stage_started(&stage.name, planned.kind, key, reasons));
        }
        let started = self.check_disk(index).and_then(|()| self.start(index, &job));
        match started {
            Ok(active) => {
                let node = &mut self.nodes[index];
                node.status = Status::Running(active);
                node.tries.next = None;
            }
            Err(error) => self.finish(index, StageEnd::Failed(error.to_string()), Spent::default()),
        }
    }

    /// Fails if there isn't enough space for what the stage writes, and says what it needs where
    /// that is much.
    fn check_disk(&mut self, index: usize) -> Result<(), StageError> {
        let seen = |name: &str| {
            let node = self.node(name);
            let (stage, pin) = (node.stage, &node.planned.pin);
            Some(Seen { stage, pin, artifact: node.end().and_then(StageEnd::artifact) })
        };
        let name = self.nodes[index].stage.name.clone();
        let estimates = Estimates::new(&seen, self.store, self.estimates.clone());
        let estimate = estimates.of(&name);
        // Those of stages that are done stay as they are.
        let is_done = |stage: &String| self.artifact_of(stage).is_some();
        let made = estimates.into_made().into_iter().filter(|(stage, _)| is_done(stage));
        self.estimates = made.collect();
        if let Some(text) = disk::check(&estimate, self.store)? {
            (self.handler)(&Event::Message { stage: Some(name), level: Level::Info, text });
        }
        Ok(())
    }

    fn start(&mut self, index: usize, job: &Job) -> Result<Active, StageError> {
        let gpus = job.gpus.clone();
        let path = self.jobs_folder()?.join(format!("{index}.json"));
        job.write(&path).or_fail(format_args!("writing {}", path.display()))?;
        let events = self.sink(index);
        let job = self.launcher.launch(&path, events).or_fail("starting the worker process")?;
        let active = Active::new(job);
        let (taken, limit) = (self.amounts(index), self.memory_limit(index));
        let memory = limit.map(|limit| MemoryWatch { limit, last: active.start });
        Ok(Active { taken, gpus, memory, ..active })
    }

    /// Passes the events of a running job on.
    pub(super) fn sink(&self, index: usize) -> EventSink {
        let sender = self.sender.clone();
        EventSink::new(move |event| {
            // Fails only after the end of the run.
            let _ = sender.send((index, event));
        })
    }

    fn job(&self, index: usize) -> Job {
        let node = &self.nodes[index];
        let (key, fingerprint) = node.key().expect("a dirty stage has a key");
        let input = |(role, name): (&String, &String)| {
            let artifact = self.artifact_of(name).expect("the inputs of a job have artifacts");
            let folder = self.node(name).planned.pin.folder.clone();
            let inside = node.stage.inside.get(role).cloned();
            (role.clone(), JobInput { digest: artifact.digest, folder, inside })
        };
        Job {
            format: job::FORMAT,
            stage: node.stage.name.clone(),
            fingerprint: fingerprint.clone(),
            key: *key,
            values: node.stage.values.clone(),
            inputs: node.stage.needs.iter().map(input).collect(),
            threads: self.threads_of(index),
            device: self.options.device,
            gpus: self.free_gpus(self.amounts(index).gpus),
            force: node.planned.force,
            store: self.store.base().to_owned(),
            cache_from: self.options.remotes.as_ref().map_or(Vec::new(), |caches| caches.places()),
        }
    }

    /// The threads of a stage: those that it asks for, else all of the run.
    fn threads_of(&self, index: usize) -> usize {
        let asked = usize::try_from(self.amounts(index).threads).unwrap_or(usize::MAX);
        if asked > 0 { asked } else { self.options.threads.max(1) }
    }

    /// The folder of job files. Creating it is the first thing that a run with stale stages writes to
    /// the store, so it also clears what killed processes left there.
    fn jobs_folder(&mut self) -> Result<PathBuf, StageError> {
        if let Some(folder) = &self.jobs_folder {
            return Ok(folder.path().to_owned());
        }
        self.store.clear_leftovers();
        let folder = self.store.job_folder()?;
        Ok(self.jobs_folder.insert(folder).path().to_owned())
    }

    /// Takes the outcome of a job that has ended; stops one that was cancelled or timed out, and
    /// kills one that doesn't stop within [`GRACE`].
    pub(super) fn poll(&mut self, index: usize) -> Result<(), EngineError> {
        let Node { status: Status::Running(active), stage, .. } = &mut self.nodes[index] else {
            return Ok(());
        };
        if let Some(outcome) = active.job.poll() {
            let (seconds, stopped) = (active.start.elapsed().as_secs_f64(), active.stopped);
            // The job has sent all its events by now.
            self.emit_received();
            return self.take_outcome(index, outcome, seconds, stopped.map(|(_, cause)| cause));
        }
        match active.stopped {
            None if self.cancel.is_cancelled() => {
                active.stop(StopCause::Cancelled);
                self.announce_stop();
            }
            None => {
                let elapsed = active.start.elapsed().as_secs_f64();
                if let Some(limit) = stage.timeout.filter(|limit| elapsed > *limit) {
                    active.stop(StopCause::TimedOut(limit));
                }
                active.check_memory();
            }
            Some((since, _)) if since.elapsed() > GRACE && !active.killed => {
                active.killed = true;
                active.job.kill();
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn announce_stop(&mut self) {
        if !std::mem::replace(&mut self.announced_stop, true) {
            let seconds = GRACE.as_secs();
            let text =
                format!("stopping: running stages have {seconds} seconds to finish their step");
            (self.handler)(&Event::Message { stage: None, level: Level::Info, text });
        }
    }

    fn take_outcome(
        &mut self,
        index: usize,
        outcome: JobOutcome,
        seconds: f64,
        stopped: Option<StopCause>,
    ) -> Result<(), EngineError> {
        if self.nodes[index].planned.state.remote().is_some() {
            return self.take_copied(index, outcome, stopped);
        }
        let mut spent = Spent { seconds, peak_memory: None };
        let failure = match (outcome, stopped) {
            (JobOutcome::Committed { digest, hit, peak_memory }, _) => {
                let spent = Spent { seconds, peak_memory };
                return self.take_artifact(index, &digest, hit, spent);
            }
            (JobOutcome::InputsDamaged { roles, notes }, _) => {
                self.rebuild_inputs(index, &roles, notes, seconds);
                return Ok(());
            }
            (_, Some(StopCause::TooMuchMemory { used, limit })) => {
                spent.peak_memory = Some(used);
                too_much_memory(used, limit)
            }
            (JobOutcome::Failed { message, help, is_temporary }, _) => {
                StageError::Failed { message, help, is_temporary, explains_damage: false }
            }
            (JobOutcome::Cancelled, Some(StopCause::Cancelled)) => {
                self.finish(index, StageEnd::Cancelled, spent);
                return Ok(());
            }
            (JobOutcome::Cancelled, Some(StopCause::TimedOut(limit))) => {
                StageError::failed(format!("stopped after its timeout of {limit} seconds"))
                    .temporary_if(true)
            }
            (JobOutcome::Cancelled, None) => {
                StageError::failed("its process was stopped by another program").temporary_if(true)
            }
        };
        let is_temporary = matches!(failure, StageError::Failed { is_temporary: true, .. });
        self.fail(index, JobFailure { error: failure.to_string(), is_temporary }, spent);
        Ok(())
    }

    pub(super) fn take_artifact(
        &mut self,
        index: usize,
        digest: &Digest,
        hit: bool,
        spent: Spent,
    ) -> Result<(), EngineError> {
        let artifact = self.store.artifact(digest)?;
        self.warn(self.store.take_notes());
        match artifact {
            None => {
                let error = "its artifact disappeared from the store after the commit";
                self.finish(index, StageEnd::Failed(error.to_owned()), spent);
            }
            Some(artifact) if hit => {
                self.replay_log(index)?;
                self.say_origin(index);
                self.finish(index, StageEnd::Fresh(artifact), Spent::default());
            }
            Some(artifact) => self.finish(index, StageEnd::Ran(artifact), spent),
        }
        Ok(())
    }
}

impl Active {
    /// A job that takes none of the run's resources.
    pub(super) fn new(job: Box<dyn RunningJob>) -> Active {
        Active {
            job,
            start: Instant::now(),
            taken: Amounts::default(),
            gpus: Vec::new(),
            memory: None,
            stopped: None,
            killed: false,
        }
    }

    fn stop(&mut self, cause: StopCause) {
        self.stopped = Some((Instant::now(), cause));
        self.job.stop();
    }

    /// Kills the job if it uses more memory than its limit: it has no time to clean up, in which it
    /// might use still more.
    fn check_memory(&mut self) {
        let Some(watch) = self.memory.as_mut() else { return };
        if watch.last.elapsed() < MEMORY_INTERVAL {
            return;
        }
        let limit = watch.limit;
        watch.last = Instant::now();
        if let Some(used) = self.job.memory(limit).filter(|used| *used > limit) {
            self.stopped = Some((Instant::now(), StopCause::TooMuchMemory { used, limit }));
            self.killed = true;
            self.job.kill();
        }
    }
}

fn too_much_memory(used: u64, limit: u64) -> StageError {
    let (used, limit) = (number::bytes(used), number::bytes(limit));
    StageError::failed(format!(
        "killed: it used {used} of memory, more than the {limit} of its key `resources.memory`"
    ))
    .with_help(MEMORY_HELP)
    .temporary_if(true)
}
