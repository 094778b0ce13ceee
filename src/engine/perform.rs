//! One job from beginning to end, in whatever process or thread it is called: the key's lock, a slot, the kind, a last
//! look at what it was made from, the commit.

use super::job::{Ending, Job};
use super::{Context, InputArtifact, Kind, Kinds, OrFail, StageError};
use crate::events::{CancellationToken, EventSink, Level, Told};
use crate::store::{Entry, Slot, Store};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// Takes what a job tells, from any thread.
pub(super) type Say = Arc<dyn Fn(Told) + Send + Sync>;

/// What the log keeps: JSON lines.
type Log = Arc<Mutex<Vec<u8>>>;

/// Runs `job`. `say` hears what it tells; how it ended is returned. Never panics.
pub(super) fn perform(
    job: &Job,
    kinds: &'static Kinds,
    cancel: &CancellationToken,
    say: Say,
) -> Ending {
    let ending = match catch_unwind(AssertUnwindSafe(|| try_to(job, kinds, cancel, &say))) {
        Ok(Ok(ending)) => ending,
        Ok(Err(error)) => error.into(),
        Err(panic) => Ending::from(internal(&*panic)),
    };
    match ending {
        // Whatever an interruption broke is not a failure of its own.
        Ending::Failed { .. } if cancel.is_cancelled() => Ending::Cancelled,
        ending => ending,
    }
}

fn try_to(
    job: &Job,
    kinds: &'static Kinds,
    cancel: &CancellationToken,
    say: &Say,
) -> Result<Ending, StageError> {
    let kind = kind_of(job, kinds)?;
    let store = Store::open(&job.store)?;
    let inputs = inputs(job, &store)?;
    let mut waited = false;
    let mut waiting = || {
        if !std::mem::replace(&mut waited, true) {
            let text = "another run makes the same; waiting for it".to_owned();
            say(Told::Message { level: Level::Info, text });
        }
        !cancel.is_cancelled()
    };
    let slot = match store.enter(&job.key, job.force, &mut waiting)? {
        Entry::Hit(artifact) => {
            return Ok(Ending::Committed { digest: artifact.digest, hit: true });
        }
        Entry::Miss(slot) => slot,
    };
    let log = Log::default();
    let context = context(job, kind, &store, &slot, inputs, cancel, recording(say, &log));
    kind.run(&context)?;
    still_the_same(job, kind, &store, cancel)?;
    let log = std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner));
    let artifact = slot.commit(&log)?;
    for text in store.take_notes() {
        say(Told::Message { level: Level::Warning, text });
    }
    Ok(Ending::Committed { digest: artifact.digest, hit: false })
}

fn kind_of(job: &Job, kinds: &'static Kinds) -> Result<&'static dyn Kind, StageError> {
    let (name, version) = (&job.fingerprint.kind, job.fingerprint.version);
    let kind = kinds.iter().copied().find(|kind| kind.name() == name);
    let kind = kind
        .ok_or_else(|| StageError::failed(format!("there is no kind of stage named `{name}`")))?;
    if kind.version() != version {
        let ours = kind.version();
        let message = format!(
            "the job was made for version {version} of `{name}`; this `pipe` has version {ours}"
        );
        return Err(StageError::failed(message)
            .with_help("was the program replaced while it ran? Run it again"));
    }
    Ok(kind)
}

fn inputs(job: &Job, store: &Store) -> Result<BTreeMap<String, InputArtifact>, StageError> {
    let mut inputs = BTreeMap::new();
    for (role, input) in &job.inputs {
        let Some(artifact) = store.artifact(&input.digest)? else {
            let message = format!("the artifact that feeds `{role}` is no longer in the store");
            return Err(StageError::failed(message).with_help("run again: it is made again"));
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
    kind: &dyn Kind,
    store: &Store,
    slot: &Slot,
    inputs: BTreeMap<String, InputArtifact>,
    cancel: &CancellationToken,
    events: EventSink,
) -> Context {
    Context {
        values: job.values.clone(),
        inputs,
        facts: job.fingerprint.facts.clone(),
        slot: slot.path().to_owned(),
        memo: store.memo().clone(),
        events,
        cancel: cancel.clone(),
        seed: if kind.draws() { job.fingerprint.seed.unwrap_or_default() } else { 0 },
        threads: job.threads.max(1),
        device: job.device,
        key: job.key,
    }
}

/// A events that passes everything on and keeps in the log what a later hit replays: all but progress.
fn recording(say: &Say, log: &Log) -> EventSink {
    let (say, log) = (Arc::clone(say), Arc::clone(log));
    EventSink::new(move |told| {
        if !matches!(told, Told::Progress { .. })
            && let Ok(line) = serde_json::to_string(&told)
        {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.extend_from_slice(line.as_bytes());
            log.push(b'\n');
        }
        say(told);
    })
}

/// The last look: the world outside, and the inputs, have to be what the key says that they were.
fn still_the_same(
    job: &Job,
    kind: &dyn Kind,
    store: &Store,
    cancel: &CancellationToken,
) -> Result<(), StageError> {
    let pin =
        kind.pin(&job.values, store, cancel).or_fail("looking again at what it was made from")?;
    if pin.facts != job.fingerprint.facts {
        let message = "what it was made from changed while it ran, so the result isn't stored";
        return Err(
            StageError::failed(message).with_help("run again when nothing writes there any more")
        );
    }
    inputs(job, store).map(drop)
}

/// A panic as a failure.
fn internal(panic: &(dyn std::any::Any + Send)) -> StageError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic".to_owned());
    StageError::failed(format!("internal error: {text}"))
        .with_help("this is a mistake in `pipe`: please report it")
}
