//! Writes a run down while it happens. Knows events and facts, not what stages do.

use super::record::{FORMAT, LOCK, Record, RunId, Source, StageFacts, Status};
use super::{Machine, RunsError, Timestamp, events, results};
use crate::events::{Event, RunOutcome};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is known of a run before it starts.
#[derive(Clone, Debug, Default)]
pub struct RunFacts {
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline file, as it was named on the command line.
    pub file: String,
    /// The texts it was read from, the file itself first, then what it extends.
    pub sources: Vec<Source>,
    /// The overrides given with `--set`, in order.
    pub overrides: Vec<String>,
    /// The root seed.
    pub seed: u64,
    /// Where networks are computed: `cpu`, `cuda:0`.
    pub device: String,
    /// The stages asked for, in the order of the plan, as far as they are known.
    pub stages: Vec<StageFacts>,
}

/// A run being written down. Its folder appears when the first stage starts: a run in which nothing ran leaves nothing.
/// Dropped without [`Recorder::finish`], the run shows as died.
pub struct Recorder {
    runs: PathBuf,
    record: Record,
    sources: Vec<Source>,
    began: Instant,
    /// Lines told before the folder was there.
    waiting: Vec<u8>,
    open: Option<Open>,
    problem: Option<RunsError>,
}

struct Open {
    folder: PathBuf,
    events: File,
    _lock: File,
}

impl Recorder {
    /// Prepares to record a run under `runs`; writes nothing yet.
    pub fn start(runs: &Path, facts: RunFacts) -> Recorder {
        let RunFacts { pipeline, file, sources, overrides, seed, device, stages } = facts;
        let record = Record {
            format: FORMAT,
            status: Status::Running,
            pipeline,
            file,
            overrides,
            seed,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::here(&device),
            stages,
            ..Record::default()
        };
        Recorder {
            runs: runs.to_path_buf(),
            record,
            sources,
            began: Instant::now(),
            waiting: Vec::new(),
            open: None,
            problem: None,
        }
    }

    /// The run's id, once something runs.
    pub fn id(&self) -> Option<&RunId> {
        self.open.as_ref().map(|_| &self.record.id)
    }

    /// The run's folder, once something runs.
    pub fn folder(&self) -> Option<&Path> {
        self.open.as_ref().map(|open| open.folder.as_path())
    }

    /// Writes an event down. A failure doesn't stop the run: the first one is kept for [`Recorder::finish`].
    pub fn record(&mut self, event: &Event) {
        if let Err(problem) = self.try_record(event) {
            self.problem.get_or_insert(problem);
        }
    }

    fn try_record(&mut self, event: &Event) -> Result<(), RunsError> {
        if matches!(event, Event::StageStarted { .. }) && self.open.is_none() {
            self.open = Some(self.make_folder()?);
        }
        if !matches!(event, Event::Progress { .. }) {
            self.write_event(event)?;
        }
        if self.note(event) {
            self.save()?;
        }
        Ok(())
    }

    /// Takes what the event says of a stage into the record; whether there was anything.
    fn note(&mut self, event: &Event) -> bool {
        let named = |stages: &mut Vec<StageFacts>, name: &str| -> usize {
            stages.iter().position(|facts| facts.stage == *name).unwrap_or_else(|| {
                stages.push(StageFacts { stage: name.to_owned(), ..StageFacts::default() });
                stages.len() - 1
            })
        };
        match event {
            Event::StageStarted { stage, kind, key, reasons, .. } => {
                let index = named(&mut self.record.stages, stage);
                let facts = &mut self.record.stages[index];
                facts.kind.clone_from(kind);
                facts.key = Some(key.clone());
                facts.reasons.clone_from(reasons);
            }
            Event::StageFinished { stage, outcome, key, digest, seconds, error } => {
                let index = named(&mut self.record.stages, stage);
                let facts = &mut self.record.stages[index];
                facts.outcome = Some(*outcome);
                facts.key = key.clone().or_else(|| facts.key.take());
                facts.digest.clone_from(digest);
                facts.seconds = finite(*seconds);
                facts.error.clone_from(error);
            }
            _ => return false,
        }
        true
    }

    fn write_event(&mut self, event: &Event) -> Result<(), RunsError> {
        let line = events::line(event);
        match &mut self.open {
            None => self.waiting.extend_from_slice(&line),
            Some(open) => {
                let path = open.folder.join(events::FILE);
                open.events
                    .write_all(&line)
                    .map_err(|error| RunsError::io("write", &path, error))?;
            }
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), RunsError> {
        let Some(open) = &self.open else { return Ok(()) };
        self.record.seconds = self.began.elapsed().as_secs_f64();
        self.record.save(&open.folder)
    }

    /// Ends the record: `stages` are the final facts, results are copied from where their `artifact` lies.
    /// `None` where nothing ran. Errors: the first that writing met with, then or now.
    pub fn finish(
        mut self,
        stages: Vec<StageFacts>,
        outcome: RunOutcome,
    ) -> Result<Option<RunId>, RunsError> {
        let earlier = self.problem.take().map_or(Ok(()), Err);
        let Some(folder) = self.folder().map(Path::to_path_buf) else {
            return earlier.map(|()| None);
        };
        for mut facts in stages {
            facts.seconds = finite(facts.seconds);
            match self.record.stages.iter_mut().find(|known| known.stage == facts.stage) {
                None => self.record.stages.push(facts),
                Some(known) => {
                    if facts.reasons.is_empty() {
                        facts.reasons = std::mem::take(&mut known.reasons);
                    }
                    *known = facts;
                }
            }
        }
        let copied = self.record.stages.iter().try_for_each(|stage| match &stage.artifact {
            Some(artifact) => results::keep(&folder, &stage.stage, artifact),
            None => Ok(()),
        });
        self.record.outcome = Some(outcome);
        self.record.status = match outcome {
            RunOutcome::Ok => Status::Ok,
            RunOutcome::Failed => Status::Failed,
            RunOutcome::Cancelled => Status::Cancelled,
        };
        self.record.finished = Some(Timestamp::now());
        // The outcome matters most: it is written even where something before it could not be.
        let saved = self.save();
        earlier.and(copied).and(saved).map(|()| Some(self.record.id.clone()))
    }

    /// Makes the folder under a name that no reader looks at, complete with its lock, and then gives it its id.
    fn make_folder(&mut self) -> Result<Open, RunsError> {
        self.record.started = Timestamp::now();
        self.began = Instant::now();
        fs::create_dir_all(&self.runs).map_err(|error| RunsError::io("make", &self.runs, error))?;
        loop {
            self.record.id =
                RunId::from_bits(RandomState::new().hash_one(Timestamp::now().millis()));
            let folder = self.runs.join(self.record.id.as_str());
            let made = self.runs.join(format!(".new-{}", self.record.id));
            match fs::create_dir(&made) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made_or_not => made_or_not.map_err(|error| RunsError::io("make", &made, error))?,
            }
            let filled = self.fill(&made);
            // A folder that isn't empty is never renamed over.
            let open = filled.and_then(|open| match fs::rename(&made, &folder) {
                Ok(()) => Ok(Some(Open { folder: folder.clone(), ..open })),
                Err(_) if folder.exists() => Ok(None),
                Err(error) => Err(RunsError::io("make", &folder, error)),
            });
            if let Ok(Some(open)) = open {
                self.waiting = Vec::new();
                return Ok(open);
            }
            let _ = fs::remove_dir_all(&made);
            open?;
        }
    }

    fn fill(&mut self, folder: &Path) -> Result<Open, RunsError> {
        let failed = |path: &Path, error| RunsError::io("write", path, error);
        let lock_path = folder.join(LOCK);
        let lock = File::create(&lock_path).map_err(|error| failed(&lock_path, error))?;
        // Where the file system has no locks, a run under way shows as died; nothing else depends on it.
        let _ = lock.lock();
        let events_path = folder.join(events::FILE);
        let mut events = File::create(&events_path).map_err(|error| failed(&events_path, error))?;
        events.write_all(&self.waiting).map_err(|error| failed(&events_path, error))?;
        results::keep_asked(folder, &self.sources, &self.record.overrides)?;
        self.record.save(folder)?;
        Ok(Open { folder: folder.to_path_buf(), events, _lock: lock })
    }
}

/// JSON has no word for infinities.
fn finite(seconds: f64) -> f64 {
    if seconds.is_finite() { seconds.max(0.0) } else { 0.0 }
}
