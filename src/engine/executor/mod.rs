//! Runs a plan: whatever is ready, in parallel where the graph allows it, within the number of jobs. A hit costs no
//! process and replays its log. Speaks to jobs through a [`Launcher`] only, and tells everything as events.

use crate::config::Values;
use crate::engine::fingerprint::Fingerprint;
use crate::engine::graph::{Graph, Stage};
use crate::engine::job::{self, Job, JobInput, JobOutcome};
use crate::engine::launcher::{Launcher, RunningJob};
use crate::engine::plan::{Options, Plan, Planned, State, fingerprint};
use crate::engine::subprocess::SubprocessLauncher;
use crate::engine::worker::GRACE;
use crate::engine::{EngineError, OrFail, StageError};
use crate::events::{
    CancellationToken, Event, EventSink, Level, RunOutcome, StageEvent, StageOutcome,
};
use crate::store::{Artifact, Digest, Store};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How often jobs are asked whether they have ended: Ctrl-C is answered within a tenth of a second.
const TICK: Duration = Duration::from_millis(10);

/// How a run went.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: RunOutcome,
    /// The stages of the plan, in its order.
    pub stages: Vec<StageReport>,
    /// Seconds it took.
    pub seconds: f64,
}

/// How a stage went.
#[derive(Clone, Debug)]
pub struct StageReport {
    /// Its name.
    pub stage: String,
    /// Its kind.
    pub kind: &'static str,
    /// Role -> stage that feeds it.
    pub needs: BTreeMap<String, String>,
    /// How it ended.
    pub outcome: StageOutcome,
    /// Its key, where it came to be known.
    pub key: Option<Digest>,
    /// The digest of its artifact, where there is one.
    pub digest: Option<Digest>,
    /// Its artifact, where there is one.
    pub artifact: Option<Artifact>,
    /// What its key is made of, where that came to be known.
    pub fingerprint: Option<Fingerprint>,
    /// Its parameters.
    pub values: Values,
    /// Seconds it ran; 0 where it did not.
    pub seconds: f64,
    /// Why it failed or was skipped.
    pub error: Option<String>,
}

/// Runs `plan` in child processes of this program. `listener` hears [`Event::RunStarted`] and what follows, up to the
/// end of the last stage; [`Event::RunFinished`] is the caller's to tell.
///
/// # Errors
/// Where the store refuses. A stage that fails is no error: the report says so.
pub fn execute(
    graph: &Graph,
    plan: Plan,
    store: &Store,
    options: &Options,
    cancel: &CancellationToken,
    listener: &mut dyn FnMut(&Event),
) -> Result<Report, EngineError> {
    execute_with(&LazyLauncher, graph, plan, store, options, cancel, listener)
}

/// The same, with jobs started by `launcher`.
///
/// # Errors
/// As [`execute`].
pub fn execute_with(
    launcher: &dyn Launcher,
    graph: &Graph,
    plan: Plan,
    store: &Store,
    options: &Options,
    cancel: &CancellationToken,
    listener: &mut dyn FnMut(&Event),
) -> Result<Report, EngineError> {
    let start = Instant::now();
    let stages = plan.stages.iter().map(|planned| planned.stage.clone()).collect();
    listener(&Event::RunStarted { pipeline: graph.name.clone(), stages });
    let find = |planned: Planned| Some(Place::new(graph.stage(&planned.stage)?, planned));
    let places: Vec<Place> = plan.stages.into_iter().filter_map(find).collect();
    let (sender, receiver) = channel();
    let (jobs, stop_told) = (None, false);
    let mut executor = Executor {
        launcher,
        graph,
        store,
        options,
        cancel,
        listener,
        places,
        sender,
        receiver,
        jobs,
        stop_told,
    };
    executor.notes(plan.notes);
    executor.run()?;
    Ok(executor.report(start.elapsed()))
}

/// Child processes of this program, which is looked for only when there is something to start.
struct LazyLauncher;

impl Launcher for LazyLauncher {
    fn launch(&self, job: &Path, events: EventSink) -> io::Result<Box<dyn RunningJob>> {
        SubprocessLauncher::new()?.launch(job, events)
    }
}

/// A stage of the plan, and how far it is.
struct Place<'a> {
    stage: &'a Stage,
    planned: Planned,
    status: Status,
}

enum Status {
    Waiting,
    Running(Active),
    Done { outcome: StageOutcome, seconds: f64, error: Option<String> },
}

/// A job that runs.
struct Active {
    running: Box<dyn RunningJob>,
    start: Instant,
    /// When and why it was asked to stop.
    stopped: Option<(Instant, Stop)>,
    was_killed: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Stop {
    Cancelled,
    TimedOut(f64),
}

impl<'a> Place<'a> {
    fn new(stage: &'a Stage, planned: Planned) -> Place<'a> {
        Place { stage, planned, status: Status::Waiting }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.status, Status::Waiting)
    }

    fn is_running(&self) -> bool {
        matches!(self.status, Status::Running(_))
    }

    fn outcome(&self) -> Option<StageOutcome> {
        match &self.status {
            Status::Done { outcome, .. } => Some(*outcome),
            _ => None,
        }
    }
}

struct Executor<'a> {
    launcher: &'a dyn Launcher,
    graph: &'a Graph,
    store: &'a Store,
    options: &'a Options,
    cancel: &'a CancellationToken,
    listener: &'a mut dyn FnMut(&Event),
    places: Vec<Place<'a>>,
    sender: Sender<(usize, StageEvent)>,
    receiver: Receiver<(usize, StageEvent)>,
    /// Where job files lie; made for the first, gone with the executor.
    jobs: Option<tempfile::TempDir>,
    stop_told: bool,
}

/// What is to be done with a stage that waits.
enum Step {
    Wait,
    Skip(String),
    Go,
}

impl Executor<'_> {
    fn run(&mut self) -> Result<(), EngineError> {
        loop {
            // A stage that is done may make others ready, also such that come earlier.
            while self.advance()? {}
            if !self.places.iter().any(Place::is_running) {
                return Ok(());
            }
            match self.receiver.recv_timeout(TICK) {
                Ok((index, told)) => self.hear(index, told),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            self.hear_rest();
            for index in 0..self.places.len() {
                self.look_after(index)?;
            }
        }
    }

    /// Does what can be done with stages that wait; whether anything was.
    fn advance(&mut self) -> Result<bool, EngineError> {
        let mut moved = false;
        for index in 0..self.places.len() {
            match self.step(index) {
                None | Some(Step::Wait) => continue,
                Some(Step::Skip(why)) => self.finish(index, StageOutcome::Skipped, 0.0, Some(why)),
                Some(Step::Go) => self.go(index)?,
            }
            moved = true;
        }
        Ok(moved)
    }

    fn step(&self, index: usize) -> Option<Step> {
        let place = self.places.get(index).filter(|place| place.is_waiting())?;
        if matches!(place.planned.state, State::Fresh { .. }) {
            return Some(Step::Go);
        }
        let above = || {
            self.places
                .iter()
                .filter(|above| place.stage.needs.values().any(|name| *name == above.stage.name))
        };
        let lost = above().find(|above| {
            matches!(above.outcome(), Some(StageOutcome::Failed | StageOutcome::Skipped))
        });
        let failed = self.places.iter().find(|place| place.outcome() == Some(StageOutcome::Failed));
        Some(match (lost, failed) {
            _ if self.cancel.is_cancelled() => Step::Skip("cancelled".to_owned()),
            (Some(above), _) if above.outcome() == Some(StageOutcome::Failed) => {
                Step::Skip(format!("`{}` failed", above.stage.name))
            }
            (Some(above), _) => Step::Skip(format!("`{}` was skipped", above.stage.name)),
            (None, Some(failed)) if !self.options.keep_going => {
                Step::Skip(format!("`{}` failed", failed.stage.name))
            }
            _ if above().any(|above| above.outcome().is_none()) => Step::Wait,
            _ if self.has_all_jobs() && place.planned.key.is_some() => Step::Wait,
            _ => Step::Go,
        })
    }

    fn has_all_jobs(&self) -> bool {
        self.places.iter().filter(|place| place.is_running()).count() >= self.options.jobs.max(1)
    }

    /// A stage whose inputs are all there: asks the store if that wasn't done, and starts it if there is room.
    fn go(&mut self, index: usize) -> Result<(), EngineError> {
        if self.places.get(index).is_some_and(|place| place.planned.key.is_none()) {
            self.decide(index)?;
        }
        let Some(place) = self.places.get(index) else { return Ok(()) };
        if matches!(place.planned.state, State::Fresh { .. }) {
            return self.replay(index);
        }
        if self.has_all_jobs() {
            return Ok(());
        }
        match self.start(index) {
            Ok(active) => self.set(index, Status::Running(active)),
            Err(error) => self.finish(index, StageOutcome::Failed, 0.0, Some(error.to_string())),
        }
        Ok(())
    }

    /// Makes the key of a stage that was pending, and looks whether it turned out fresh.
    fn decide(&mut self, index: usize) -> Result<(), EngineError> {
        let Some(place) = self.places.get(index) else { return Ok(()) };
        let artifact_of = |name: &str| {
            let above = self.places.iter().find(|above| above.stage.name == name);
            above.and_then(|above| above.planned.artifact.as_ref())
        };
        let made = fingerprint(
            self.graph.seed,
            place.stage,
            &place.planned.pin,
            artifact_of,
            self.options.device,
        );
        let key = made.as_ref().map(Fingerprint::key);
        let found = match key.filter(|_| !place.planned.force) {
            Some(key) => self.store.lookup(&key)?,
            None => None,
        };
        let damage = self.store.take_notes();
        if let Some(Place { planned, stage, .. }) = self.places.get_mut(index) {
            (planned.fingerprint, planned.key) = (made, key);
            planned.state = match &found {
                Some(artifact) => State::Fresh { digest: artifact.digest },
                None if planned.force => State::Dirty { reasons: vec!["forced".to_owned()] },
                None if !damage.is_empty() => State::Dirty { reasons: damage.clone() },
                None => State::Dirty { reasons: planned.reasons(stage, &planned.earlier) },
            };
            planned.artifact = found;
        }
        self.notes(damage);
        Ok(())
    }

    /// A hit: what was told when it was made is told again.
    fn replay(&mut self, index: usize) -> Result<(), EngineError> {
        let key = self.places.get(index).and_then(|place| place.planned.key);
        let log = match key {
            Some(key) => self.store.log(&key)?,
            None => Vec::new(),
        };
        for line in log.split(|&byte| byte == b'\n') {
            if let Ok(told) = serde_json::from_slice(line) {
                self.hear(index, told);
            }
        }
        self.finish(index, StageOutcome::Fresh, 0.0, None);
        Ok(())
    }

    fn start(&mut self, index: usize) -> Result<Active, StageError> {
        let gone = || StageError::failed("its place in the plan is gone");
        let job = self.job(index)?;
        let place = self.places.get(index).ok_or_else(gone)?;
        let reasons = match &place.planned.state {
            State::Dirty { reasons } => reasons.clone(),
            _ => Vec::new(),
        };
        let (stage, kind) = (place.stage.name.clone(), place.planned.kind.to_owned());
        (self.listener)(&Event::StageStarted { stage, kind, key: job.key.to_string(), reasons });
        let path = self.jobs_folder()?.join(format!("{index}.json"));
        job.write(&path).or_fail(format_args!("writing {}", path.display()))?;
        let sender = self.sender.clone();
        let events = EventSink::new(move |told| {
            // Fails only when the run is over.
            let _ = sender.send((index, told));
        });
        let running = self.launcher.launch(&path, events).or_fail("starting its process")?;
        Ok(Active { running, start: Instant::now(), stopped: None, was_killed: false })
    }

    fn job(&self, index: usize) -> Result<Job, StageError> {
        let known = self.places.get(index).and_then(|place| {
            let Planned { fingerprint, key, .. } = &place.planned;
            Some((place, fingerprint.clone()?, (*key)?))
        });
        let (place, fingerprint, key) =
            known.ok_or_else(|| StageError::failed("its key isn't known"))?;
        let mut inputs = BTreeMap::new();
        for (role, name) in &place.stage.needs {
            let above = self.places.iter().find(|above| above.stage.name == *name);
            let Some((above, artifact)) =
                above.and_then(|above| Some((above, above.planned.artifact.as_ref()?)))
            else {
                return Err(StageError::failed(format!("the artifact of `{name}` is gone")));
            };
            let folder = above.planned.pin.folder.clone();
            inputs.insert(role.clone(), JobInput { digest: artifact.digest, folder });
        }
        Ok(Job {
            format: job::FORMAT,
            stage: place.stage.name.clone(),
            fingerprint,
            key,
            values: place.stage.values.clone(),
            inputs,
            threads: self.options.threads.max(1),
            device: self.options.device,
            force: place.planned.force,
            store: self.store.base().to_owned(),
        })
    }

    fn jobs_folder(&mut self) -> Result<&Path, StageError> {
        if self.jobs.is_none() {
            let folder = self.store.jobs_folder();
            let make = || {
                std::fs::create_dir_all(&folder)?;
                tempfile::Builder::new().prefix("run-").tempdir_in(&folder)
            };
            self.jobs =
                Some(make().or_fail(format_args!("making a folder in {}", folder.display()))?);
        }
        self.jobs
            .as_ref()
            .map(tempfile::TempDir::path)
            .ok_or_else(|| StageError::failed("there is no folder for jobs"))
    }

    /// Asks a job whether it has ended, and to stop where it should.
    fn look_after(&mut self, index: usize) -> Result<(), EngineError> {
        let Some(Place { status: Status::Running(active), stage, .. }) = self.places.get_mut(index)
        else {
            return Ok(());
        };
        if let Some(ending) = active.running.poll() {
            let (seconds, stopped) = (active.start.elapsed().as_secs_f64(), active.stopped);
            // What it told before it ended has been sent by now.
            self.hear_rest();
            return self.ended(index, ending, seconds, stopped.map(|(_, why)| why));
        }
        match active.stopped {
            None if self.cancel.is_cancelled() => {
                active.stopped = Some((Instant::now(), Stop::Cancelled));
                active.running.stop();
                self.tell_stop();
            }
            None => {
                let limit =
                    stage.timeout.filter(|limit| active.start.elapsed().as_secs_f64() > *limit);
                if let Some(limit) = limit {
                    active.stopped = Some((Instant::now(), Stop::TimedOut(limit)));
                    active.running.stop();
                }
            }
            Some((since, _)) if since.elapsed() > GRACE && !active.was_killed => {
                active.was_killed = true;
                active.running.kill();
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn tell_stop(&mut self) {
        if !std::mem::replace(&mut self.stop_told, true) {
            let text = format!(
                "stopping: what runs gets until its next step, {} seconds at most",
                GRACE.as_secs()
            );
            (self.listener)(&Event::Message { stage: None, level: Level::Info, text });
        }
    }

    fn ended(
        &mut self,
        index: usize,
        ending: JobOutcome,
        seconds: f64,
        stopped: Option<Stop>,
    ) -> Result<(), EngineError> {
        match ending {
            JobOutcome::Committed { digest, hit } => {
                let artifact = self.store.artifact(&digest)?;
                let damage = self.store.take_notes();
                self.notes(damage);
                if artifact.is_none() {
                    let error = "its artifact was gone as soon as it was made".to_owned();
                    self.finish(index, StageOutcome::Failed, seconds, Some(error));
                    return Ok(());
                }
                if let Some(place) = self.places.get_mut(index) {
                    place.planned.artifact = artifact;
                }
                if hit {
                    return self.replay(index);
                }
                self.finish(index, StageOutcome::Ran, seconds, None);
            }
            JobOutcome::Failed { message, help } => {
                let error = StageError::Failed { message, help }.to_string();
                self.finish(index, StageOutcome::Failed, seconds, Some(error));
            }
            JobOutcome::Cancelled => match stopped {
                Some(Stop::TimedOut(limit)) => {
                    let error = format!("it was stopped after its timeout of {limit} seconds");
                    self.finish(index, StageOutcome::Failed, seconds, Some(error));
                }
                Some(Stop::Cancelled) => {
                    self.finish(
                        index,
                        StageOutcome::Skipped,
                        seconds,
                        Some("cancelled".to_owned()),
                    );
                }
                None => {
                    let error = "its process was asked to stop by somebody else".to_owned();
                    self.finish(index, StageOutcome::Failed, seconds, Some(error));
                }
            },
        }
        Ok(())
    }

    fn hear(&mut self, index: usize, told: StageEvent) {
        if let Some(place) = self.places.get(index) {
            (self.listener)(&told.of_stage(&place.stage.name));
        }
    }

    fn hear_rest(&mut self) {
        while let Ok((index, told)) = self.receiver.try_recv() {
            self.hear(index, told);
        }
    }

    fn notes(&mut self, notes: Vec<String>) {
        for text in notes {
            (self.listener)(&Event::Message { stage: None, level: Level::Warning, text });
        }
    }

    fn set(&mut self, index: usize, status: Status) {
        if let Some(place) = self.places.get_mut(index) {
            place.status = status;
        }
    }

    fn finish(&mut self, index: usize, outcome: StageOutcome, seconds: f64, error: Option<String>) {
        if let Some(place) = self.places.get(index) {
            (self.listener)(&Event::StageFinished {
                stage: place.stage.name.clone(),
                outcome,
                key: place.planned.key.map(|key| key.to_string()),
                digest: place.planned.artifact.as_ref().map(|artifact| artifact.digest.to_string()),
                seconds,
                error: error.clone(),
            });
        }
        self.set(index, Status::Done { outcome, seconds, error });
    }

    fn report(self, time: Duration) -> Report {
        let stages: Vec<StageReport> = self.places.into_iter().map(Place::report).collect();
        let any = |outcome| stages.iter().any(|stage| stage.outcome == outcome);
        let outcome = match () {
            () if any(StageOutcome::Skipped) && self.cancel.is_cancelled() => RunOutcome::Cancelled,
            () if any(StageOutcome::Failed) => RunOutcome::Failed,
            () => RunOutcome::Ok,
        };
        Report { outcome, stages, seconds: time.as_secs_f64() }
    }
}

impl Place<'_> {
    fn report(self) -> StageReport {
        let Place { stage, planned, status } = self;
        let (outcome, seconds, error) = match status {
            Status::Done { outcome, seconds, error } => (outcome, seconds, error),
            // A run ends only when nothing waits or runs.
            Status::Waiting | Status::Running(_) => (StageOutcome::Skipped, 0.0, None),
        };
        StageReport {
            stage: stage.name.clone(),
            kind: planned.kind,
            needs: stage.needs.clone(),
            outcome,
            key: planned.key,
            digest: planned.artifact.as_ref().map(|artifact| artifact.digest),
            artifact: planned.artifact,
            fingerprint: planned.fingerprint,
            values: stage.values.clone(),
            seconds,
            error,
        }
    }
}
