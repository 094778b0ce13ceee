//! Builds one artifact, in any process or thread: takes the key's lock, opens a slot, checks the
//! inputs, runs the kind, checks that its sources haven't changed, and commits.

use crate::common::machine;
use crate::engine::job::{Job, JobOutcome};
use crate::engine::reproducibility;
use crate::engine::{Context, InputArtifact, KindRef, Kinds, OrFail, StageError, explain_panic};
use crate::events::{CancellationToken, EventSink, StageEvent, Waiting};
use crate::store::{Artifact, Entry, MadeFrom, Origin, POLLS_PER_SECOND, Slot, Store};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::debug_span;

/// The log of a build: JSON lines.
type Log = Arc<Mutex<Vec<u8>>>;

/// Executes `job`. A panic of the kind becomes a failure.
pub(in crate::engine) fn build(
    job: &Job,
    kinds: &'static Kinds,
    cancel: &CancellationToken,
    events: &EventSink,
) -> JobOutcome {
    let outcome = match catch_unwind(AssertUnwindSafe(|| try_build(job, kinds, cancel, events))) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => error.into(),
        Err(panic) => explain_panic(&*panic).into(),
    };
    match outcome {
        // An error after cancellation is most likely a consequence of it.
        JobOutcome::Failed { .. } if cancel.is_cancelled() => JobOutcome::Cancelled,
        outcome => outcome,
    }
}

fn try_build(
    job: &Job,
    kinds: &'static Kinds,
    cancel: &CancellationToken,
    events: &EventSink,
) -> Result<JobOutcome, StageError> {
    let kind = kind_of(job, kinds)?;
    let store = Store::open(&job.store)?;
    let artifacts = match inputs(job, &store)? {
        Ok(artifacts) => artifacts,
        Err(damaged) => return Ok(damaged),
    };
    let mut waiting = Waiting::new(events, POLLS_PER_SECOND);
    let mut keep_waiting = || {
        waiting.again(|| store.holder(&job.key), "building this output");
        !cancel.is_cancelled()
    };
    let entry = {
        let _span = debug_span!("lock", stage = job.stage).entered();
        store.enter(&job.key, job.force, &mut keep_waiting)?
    };
    drop(waiting);
    let slot = match entry {
        Entry::Hit(artifact) => {
            return Ok(JobOutcome::Committed {
                digest: artifact.digest,
                hit: true,
                peak_memory: None,
            });
        }
        Entry::Miss(slot) => slot,
    };
    {
        let _span = debug_span!("check inputs", stage = job.stage).entered();
        if let Some(damaged) = damaged(&artifacts, &store, |role| input_of(kind, job, role))? {
            return Ok(damaged);
        }
    }
    let log = Log::default();
    let (inputs, events_and_log) = (input_artifacts(job, &artifacts), logging(events, &log));
    let context = context(job, kind, &store, &slot, inputs, cancel, events_and_log);
    let ran = debug_span!("run", stage = job.stage).in_scope(|| kind.run(&context));
    if let Err(error) = ran {
        StageError::check(cancel)?;
        // A reader that stumbles over damage fails: then everything is looked at.
        let everything = |_: &str| Checked { reads: &[], except: &[] };
        return match damaged(&artifacts, &store, everything)? {
            Some(JobOutcome::InputsDamaged { notes, .. }) if error.explains_damage() => {
                notes.into_iter().for_each(|note| events.warn(note));
                Err(error)
            }
            Some(damaged) => Ok(damaged),
            None => Err(error),
        };
    }
    debug_span!("check sources", stage = job.stage)
        .in_scope(|| check_sources(job, kind, &store, cancel))?;
    if let Err(damaged) = self::inputs(job, &store)? {
        return Ok(damaged);
    }
    let log = std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner));
    let before = reproducibility::last_build(&store, &job.key)?;
    let artifact = debug_span!("commit", stage = job.stage)
        .in_scope(|| slot.built_by(origin(job, kind)).commit(&log))?;
    store.take_notes().into_iter().for_each(|note| events.warn(note));
    if let Some(event) =
        before.and_then(|build| reproducibility::compare(&build, &artifact, &store))
    {
        events.emit(event);
    }
    Ok(JobOutcome::Committed { digest: artifact.digest, hit: false, peak_memory: None })
}

fn kind_of(job: &Job, kinds: &'static Kinds) -> Result<KindRef, StageError> {
    if job.fingerprint.key() != job.key {
        let message = "the job's key isn't that of its fingerprint: its file was changed";
        return Err(StageError::failed(message).with_help("run the pipeline again"));
    }
    let (name, version) = (&job.fingerprint.kind, job.fingerprint.version);
    let kind = kinds.iter().copied().find(|kind| kind.name() == name);
    let kind =
        kind.ok_or_else(|| StageError::failed(format!("there is no stage kind named `{name}`")))?;
    if kind.version() != version {
        let ours = kind.version();
        let message = format!(
            "the job was planned for version {version} of `{name}`, but this `pipe` has version {ours}"
        );
        return Err(StageError::failed(message)
            .with_help("if `pipe` was replaced during the run, run again"));
    }
    Ok(kind)
}

/// The input artifacts by role, after the quick checks; or the outcome if some didn't pass.
fn inputs(
    job: &Job,
    store: &Store,
) -> Result<Result<BTreeMap<String, Artifact>, JobOutcome>, StageError> {
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for (role, input) in &job.inputs {
        match store.artifact(&input.digest)? {
            Some(artifact) => drop(found.insert(role.clone(), artifact)),
            None => missing.push(role.clone()),
        }
    }
    Ok(if missing.is_empty() { Ok(found) } else { Err(inputs_damaged(missing, store)) })
}

fn inputs_damaged(roles: Vec<String>, store: &Store) -> JobOutcome {
    JobOutcome::InputsDamaged { roles, notes: store.take_notes() }
}

/// Where and from what the job's output is built.
fn origin(job: &Job, kind: KindRef) -> Origin {
    let made_from = job.inputs.iter().map(|(role, input)| {
        let reads = input_of(kind, job, role).reads.iter().map(|&file| file.to_owned()).collect();
        MadeFrom { artifact: input.digest, reads }
    });
    Origin { machine: Some(machine::kind()), made_from: made_from.collect() }
}

/// The files of an input that are digested.
struct Checked {
    /// None means all.
    reads: &'static [&'static str],
    except: &'static [&'static str],
}

/// The files of an input that are digested before the stage starts; all of one of which a part is
/// needed.
fn input_of(kind: KindRef, job: &Job, role: &str) -> Checked {
    let is_whole = job.inputs.get(role).is_none_or(|input| input.inside.is_none());
    match kind.input(role).filter(|_| is_whole) {
        Some(input) => Checked { reads: input.reads, except: input.self_checked },
        None => Checked { reads: &[], except: &[] },
    }
}

/// The outcome if the content of inputs changed.
fn damaged(
    artifacts: &BTreeMap<String, Artifact>,
    store: &Store,
    checked: impl Fn(&str) -> Checked,
) -> Result<Option<JobOutcome>, StageError> {
    let mut roles = Vec::new();
    for (role, artifact) in artifacts {
        let Checked { reads, except } = checked(role);
        if !store.check(artifact, reads, except)? {
            roles.push(role.clone());
        }
    }
    Ok((!roles.is_empty()).then(|| inputs_damaged(roles, store)))
}

fn input_artifacts(
    job: &Job,
    artifacts: &BTreeMap<String, Artifact>,
) -> BTreeMap<String, InputArtifact> {
    let input = |(role, artifact): (&String, &Artifact)| {
        let of_job = job.inputs.get(role);
        let input = InputArtifact {
            path: artifact.path.clone(),
            digest: artifact.digest,
            folder: of_job.and_then(|input| input.folder.clone()),
            inside: of_job.and_then(|input| input.inside.clone()),
        };
        (role.clone(), input)
    };
    artifacts.iter().map(input).collect()
}

fn context(
    job: &Job,
    kind: KindRef,
    store: &Store,
    slot: &Slot,
    inputs: BTreeMap<String, InputArtifact>,
    cancel: &CancellationToken,
    events: EventSink,
) -> Context {
    let seed = match (kind.draws(), job.fingerprint.seed) {
        (true, Some(seed)) => seed,
        (true, None) => panic!("the fingerprint of a `{}` stage has no seed", kind.name()),
        (false, _) => 0,
    };
    Context {
        values: job.values.clone(),
        inputs,
        facts: job.fingerprint.facts.clone(),
        slot: slot.path().to_owned(),
        memo: store.memo().clone(),
        cache_from: job.cache_from.clone(),
        events,
        cancel: cancel.clone(),
        seed,
        threads: job.threads.max(1),
        device: job.device,
        gpus: job.gpus.clone(),
        key: job.key,
    }
}

/// A sink that forwards to `events` and appends all events except progress to `log`, which a later
/// cache hit replays.
fn logging(events: &EventSink, log: &Log) -> EventSink {
    let (events, log) = (events.clone(), Arc::clone(log));
    EventSink::new(move |event| {
        if !matches!(event, StageEvent::Progress { .. }) {
            let line = serde_json::to_string(&event).expect("an event serializes to JSON");
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.extend_from_slice(line.as_bytes());
            log.push(b'\n');
        }
        events.emit(event);
    })
}

/// Fails if the external facts are no longer those of the key.
fn check_sources(
    job: &Job,
    kind: KindRef,
    store: &Store,
    cancel: &CancellationToken,
) -> Result<(), StageError> {
    let pin = kind.pin(&job.values, store, cancel).or_fail("checking the sources for changes")?;
    if pin.facts != job.fingerprint.facts {
        let message = "a source changed while the stage ran, so the result was discarded";
        return Err(StageError::failed(message).with_help("run again when nothing writes to it"));
    }
    Ok(())
}
