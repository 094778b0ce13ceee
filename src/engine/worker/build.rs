//! Builds one artifact, in any process or thread: takes the key's lock, opens a slot, runs the
//! kind, checks that its inputs haven't changed, and commits.

use crate::engine::job::{Job, JobOutcome};
use crate::engine::{Context, InputArtifact, KindRef, Kinds, OrFail, StageError};
use crate::events::{CancellationToken, EventSink, StageEvent};
use crate::store::{Entry, Slot, Store};
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

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
        Err(panic) => internal_error(&*panic).into(),
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
    let inputs = inputs(job, &store)?;
    let mut waited = false;
    let mut keep_waiting = || {
        if !std::mem::replace(&mut waited, true) {
            events.info("another run is building this artifact; waiting");
        }
        !cancel.is_cancelled()
    };
    let slot = match store.enter(&job.key, job.force, &mut keep_waiting)? {
        Entry::Hit(artifact) => {
            return Ok(JobOutcome::Committed {
                digest: artifact.digest,
                hit: true,
                peak_memory: None,
            });
        }
        Entry::Miss(slot) => slot,
    };
    let log = Log::default();
    let context = context(job, kind, &store, &slot, inputs, cancel, logging(events, &log));
    kind.run(&context)?;
    check_unchanged(job, kind, &store, cancel)?;
    let log = std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner));
    let artifact = slot.commit(&log)?;
    store.take_notes().into_iter().for_each(|note| events.warn(note));
    Ok(JobOutcome::Committed { digest: artifact.digest, hit: false, peak_memory: None })
}

fn kind_of(job: &Job, kinds: &'static Kinds) -> Result<KindRef, StageError> {
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

fn inputs(job: &Job, store: &Store) -> Result<BTreeMap<String, InputArtifact>, StageError> {
    let mut inputs = BTreeMap::new();
    for (role, input) in &job.inputs {
        let Some(artifact) = store.artifact(&input.digest)? else {
            let message = format!("the input artifact `{role}` is no longer in the store");
            return Err(StageError::failed(message).with_help("run again to rebuild it"));
        };
        let input = InputArtifact {
            path: artifact.path,
            digest: artifact.digest,
            folder: input.folder.clone(),
        };
        inputs.insert(role.clone(), input);
    }
    Ok(inputs)
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
        events,
        cancel: cancel.clone(),
        seed,
        threads: job.threads.max(1),
        device: job.device,
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

/// Fails if the external facts or the input artifacts are no longer those of the key.
fn check_unchanged(
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
    inputs(job, store).map(drop)
}

fn internal_error(panic: &(dyn Any + Send)) -> StageError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic");
    StageError::failed(format!("internal error: {text}"))
        .with_help("this is a bug in pipe; please report it")
}
