//! Writes the record of a run and its events while it is in progress.

use super::record::{Accepted, Attempt, FORMAT, LOCK, Record, RunId, StageRecord, Status};
use super::tensorboard::EventFile;
use super::throughput::Throughput;
use super::{
    Labels, Machine, PipelineFile, PipelineInput, Repository, RunsError, Timestamp, events, files,
    index, results, seal,
};
use crate::events::{Event, RunOutcome};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Instant;

/// The properties of a run that are known before it starts.
#[derive(Clone, Debug, Default)]
pub struct RunInfo {
    pub pipeline: String,
    /// The pipeline file, as given on the command line.
    pub file: String,
    /// The pipeline file first, then the files that it extends.
    pub pipeline_files: Vec<PipelineFile>,
    /// The values of `--set`, in order.
    pub overrides: Vec<String>,
    pub seed: u64,
    /// The device that networks are computed on, see [`Machine`].
    pub device: String,
    /// The requested stages, in the order of the plan.
    pub stages: Vec<StageRecord>,
    /// The name and the note that the user gives it.
    pub labels: Labels,
}

/// Records a run in progress. The folder is created when the first stage starts, so that a run
/// without stale stages leaves nothing. A run whose recorder is dropped without
/// [`Recorder::finish`] is listed as died.
pub struct Recorder {
    runs: PathBuf,
    record: Record,
    pipeline_files: Vec<PipelineFile>,
    /// Asks for the state of the repository meanwhile.
    repository: Option<JoinHandle<Option<Repository>>>,
    throughput: Throughput,
    /// By stage, for those that emit scalars while they run.
    event_files: BTreeMap<String, EventFile>,
    started: Instant,
    /// Lines of events that came before the folder was created.
    pending: Vec<u8>,
    open: Option<Open>,
    error: Option<RunsError>,
}

struct Open {
    folder: PathBuf,
    events: File,
    _lock: File,
}

impl Recorder {
    /// Prepares to record a run under `runs`; writes nothing yet.
    pub fn start(runs: &Path, info: RunInfo) -> Recorder {
        let RunInfo { pipeline, file, pipeline_files, overrides, seed, device, stages, labels } =
            info;
        let record = Record {
            format: FORMAT,
            status: Status::Running,
            pipeline,
            file,
            overrides,
            seed,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::current(&device),
            stages,
            labels,
            id: free_id(runs),
            ..Record::default()
        };
        Recorder {
            runs: runs.to_path_buf(),
            record,
            pipeline_files,
            repository: None,
            throughput: Throughput::default(),
            event_files: BTreeMap::new(),
            started: Instant::now(),
            pending: Vec::new(),
            open: None,
            error: None,
        }
    }

    /// The id that the run has as soon as a stage starts.
    pub fn reserved_id(&self) -> &RunId {
        &self.record.id
    }

    /// The run's id, once a stage has started.
    pub fn id(&self) -> Option<&RunId> {
        self.open.as_ref().map(|_| &self.record.id)
    }

    /// The run's folder, once a stage has started.
    pub fn folder(&self) -> Option<&Path> {
        self.open.as_ref().map(|open| open.folder.as_path())
    }

    /// Records an event. An error doesn't stop the run: [`Recorder::finish`] returns the first one.
    pub fn record(&mut self, event: &Event) {
        if let Err(error) = self.try_record(event) {
            self.error.get_or_insert(error);
        }
    }

    /// Records the run although no stage starts: its outputs are on no record, or the user vouched for
    /// one of them.
    pub fn record_outputs(&mut self) {
        if let Err(error) = self.create() {
            self.error.get_or_insert(error);
        }
    }

    fn create(&mut self) -> Result<(), RunsError> {
        if self.open.is_none() {
            self.open = Some(self.create_folder()?);
            self.ask_for_repository();
        }
        Ok(())
    }

    fn try_record(&mut self, event: &Event) -> Result<(), RunsError> {
        if matches!(event, Event::StageStarted { .. }) {
            self.create()?;
        }
        self.throughput.record(event);
        if !matches!(event, Event::Progress { .. }) {
            self.write_event(event)?;
        }
        if let Event::Scalar { stage, name, step, value } = event {
            self.add_scalar(stage, name, *step, *value)?;
        }
        if self.update_stage(event) {
            self.save()?;
        }
        Ok(())
    }

    /// Updates the record of the stage that the event is about; whether there is one.
    fn update_stage(&mut self, event: &Event) -> bool {
        match event {
            Event::StageStarted { stage, kind, key, reasons, .. } => {
                let stage = self.stage_mut(stage);
                stage.kind.clone_from(kind);
                stage.key = Some(key.clone());
                stage.reasons.clone_from(reasons);
            }
            Event::StageFinished { stage, outcome, key, digest, seconds, peak_memory, error } => {
                let images_per_second = self.throughput.of(stage, *seconds);
                let stage = self.stage_mut(stage);
                stage.images_per_second = images_per_second;
                stage.peak_memory = *peak_memory;
                stage.outcome = Some(*outcome);
                stage.key = key.clone().or_else(|| stage.key.take());
                stage.digest.clone_from(digest);
                stage.seconds = finite(*seconds);
                stage.error.clone_from(error);
            }
            Event::Accepted { stage, key, changes } => {
                let accepted = Accepted { key: key.clone(), changes: changes.clone() };
                self.stage_mut(stage).accepted = Some(accepted);
            }
            Event::NotReproducible { stage, file, difference, .. } => {
                let difference = format!("`{file}` {difference}");
                self.stage_mut(stage).not_reproducible = Some(difference);
            }
            Event::UndeclaredWrites { stage, writes } => {
                self.stage_mut(stage).undeclared_writes = Some(writes.clone());
            }
            Event::StageRetried { stage, error, seconds, .. } => {
                let attempt = Attempt { seconds: finite(*seconds), error: error.clone() };
                self.stage_mut(stage).attempts.push(attempt);
            }
            _ => return false,
        }
        true
    }

    fn ask_for_repository(&mut self) {
        let folder = Path::new(&self.record.file).parent().unwrap_or(Path::new("")).to_path_buf();
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        let ask = move || Repository::around(&folder);
        self.repository = std::thread::Builder::new().spawn(ask).ok();
    }

    /// Takes the state of the repository, if it is known by now or has to be waited for.
    fn take_repository(&mut self, wait: bool) {
        let known = self.repository.take_if(|thread| wait || thread.is_finished());
        if let Some(thread) = known {
            self.record.repository = thread.join().ok().flatten();
        }
    }

    fn stage_mut(&mut self, name: &str) -> &mut StageRecord {
        let stages = &mut self.record.stages;
        let index = stages.iter().position(|stage| stage.stage == name).unwrap_or_else(|| {
            stages.push(StageRecord { stage: name.to_owned(), ..StageRecord::default() });
            stages.len() - 1
        });
        &mut stages[index]
    }

    fn write_event(&mut self, event: &Event) -> Result<(), RunsError> {
        let line = events::line(event);
        match &mut self.open {
            None => self.pending.extend_from_slice(&line),
            Some(open) => {
                let path = open.folder.join(events::FILE);
                open.events
                    .write_all(&line)
                    .map_err(|error| RunsError::io("write", &path, error))?;
            }
        }
        Ok(())
    }

    /// Adds a scalar to the event file of a running stage. Replayed ones of a fresh stage belong to
    /// the run in which it ran.
    fn add_scalar(
        &mut self,
        stage: &str,
        name: &str,
        step: u64,
        value: f64,
    ) -> Result<(), RunsError> {
        let Some(open) = &self.open else { return Ok(()) };
        // The key is known from the start of a stage, the outcome from its end.
        let is_running = |known: &StageRecord| known.key.is_some() && known.outcome.is_none();
        if !self.record.stage(stage).is_some_and(is_running) {
            return Ok(());
        }
        if !self.event_files.contains_key(stage) {
            let file = EventFile::create(&open.folder, stage)?;
            self.event_files.insert(stage.to_owned(), file);
        }
        match self.event_files.get_mut(stage) {
            Some(file) => file.add(name, step, value),
            None => Ok(()),
        }
    }

    fn save(&mut self) -> Result<(), RunsError> {
        self.take_repository(false);
        let Some(open) = &self.open else { return Ok(()) };
        self.record.seconds = self.started.elapsed().as_secs_f64();
        self.record.save(&open.folder)
    }

    /// Ends the record with the final state of the stages, and copies small results from their
    /// artifacts. `None` if no stage started. Returns the first error of recording, now or before.
    pub fn finish(
        mut self,
        stages: Vec<StageRecord>,
        outcome: RunOutcome,
    ) -> Result<Option<RunId>, RunsError> {
        let earlier = self.error.take().map_or(Ok(()), Err);
        let Some(folder) = self.folder().map(Path::to_path_buf) else {
            return earlier.map(|()| None);
        };
        for mut stage in stages {
            stage.seconds = finite(stage.seconds);
            let known = self.stage_mut(&stage.stage);
            if stage.reasons.is_empty() {
                stage.reasons = std::mem::take(&mut known.reasons);
            }
            stage.images_per_second = known.images_per_second;
            stage.peak_memory = known.peak_memory;
            stage.attempts = std::mem::take(&mut known.attempts);
            stage.accepted = known.accepted.take();
            stage.not_reproducible = known.not_reproducible.take();
            stage.undeclared_writes = known.undeclared_writes.take();
            *known = stage;
        }
        let copied = self.record.stages.iter().try_for_each(|stage| match &stage.artifact {
            Some(artifact) => results::copy(&folder, &stage.stage, artifact),
            None => Ok(()),
        });
        self.record.outcome = Some(outcome);
        self.record.status = match outcome {
            RunOutcome::Ok => Status::Ok,
            RunOutcome::Failed => Status::Failed,
            RunOutcome::Cancelled => Status::Cancelled,
        };
        self.record.finished = Some(Timestamp::now());
        self.take_repository(true);
        let sealed = self.seal(&folder);
        // The outcome matters most: it is written even after an error.
        let saved = self.save();
        earlier.and(copied).and(sealed).and(saved).map(|()| Some(self.record.id.clone()))
    }

    /// Lists the files of the record, as they are now that nothing is added any more.
    fn seal(&mut self, folder: &Path) -> Result<(), RunsError> {
        if let Some(open) = &self.open {
            let path = folder.join(events::FILE);
            open.events.sync_all().map_err(|error| RunsError::io("sync", &path, error))?;
        }
        self.event_files.values().try_for_each(EventFile::sync)?;
        self.record.files = seal::files(folder)?;
        Ok(())
    }

    /// Keeps the text of `pipe.lock`, the pins of the run's remote sources.
    pub fn keep_lock(&mut self, text: &str) {
        let Some(open) = &self.open else { return };
        let path = open.folder.join(results::PINS);
        if let Err(error) = files::write(&path, text.as_bytes()) {
            self.error.get_or_insert(RunsError::io("write", &path, error));
        }
    }

    /// Creates the folder, complete with its lock, under a name that readers ignore, and renames it
    /// to its id.
    fn create_folder(&mut self) -> Result<Open, RunsError> {
        self.record.started = Timestamp::now();
        self.record.number = index::next_number(&self.runs);
        self.started = Instant::now();
        fs::create_dir_all(&self.runs)
            .map_err(|error| RunsError::io("create", &self.runs, error))?;
        loop {
            let folder = self.runs.join(self.record.id.as_str());
            let temporary = self.runs.join(format!(".new-{}", self.record.id));
            match fs::create_dir(&temporary) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.record.id = free_id(&self.runs);
                    continue;
                }
                result => result.map_err(|error| RunsError::io("write", &self.runs, error))?,
            }
            let filled = self.fill(&temporary);
            // A rename never replaces a folder that isn't empty.
            let open = filled.and_then(|open| match fs::rename(&temporary, &folder) {
                Ok(()) => Ok(Some(Open { folder: folder.clone(), ..open })),
                Err(_) if folder.exists() => Ok(None),
                Err(error) => Err(RunsError::io("create", &folder, error)),
            });
            if let Ok(Some(open)) = open {
                self.pending = Vec::new();
                return Ok(open);
            }
            let _ = fs::remove_dir_all(&temporary);
            open?;
            self.record.id = free_id(&self.runs);
        }
    }

    fn fill(&mut self, folder: &Path) -> Result<Open, RunsError> {
        let failed = |path: &Path, error| RunsError::io("write", path, error);
        let lock_path = folder.join(LOCK);
        let lock = File::create(&lock_path).map_err(|error| failed(&lock_path, error))?;
        // On a file system without locks a run in progress is listed as died; nothing else depends
        // on the lock.
        let _ = lock.lock();
        let events_path = folder.join(events::FILE);
        let mut events = File::create(&events_path).map_err(|error| failed(&events_path, error))?;
        events.write_all(&self.pending).map_err(|error| failed(&events_path, error))?;
        PipelineInput {
            files: self.pipeline_files.clone(),
            overrides: self.record.overrides.clone(),
        }
        .save(folder)?;
        let pipeline = seal::file(folder, results::PIPELINE)
            .map_err(|error| failed(&folder.join(results::PIPELINE), error))?;
        self.record.files.insert(results::PIPELINE.to_owned(), pipeline);
        if !self.record.labels.is_empty() {
            self.record.labels.save(folder)?;
        }
        self.record.save(folder)?;
        Ok(Open { folder: folder.to_path_buf(), events, _lock: lock })
    }
}

/// An id that no run has.
fn free_id(runs: &Path) -> RunId {
    loop {
        let id = RunId::from_bits(RandomState::new().hash_one(Timestamp::now()));
        if !runs.join(id.as_str()).exists() {
            return id;
        }
    }
}

/// JSON can't represent infinities and NaN.
fn finite(seconds: f64) -> f64 {
    if seconds.is_finite() { seconds.max(0.0) } else { 0.0 }
}
