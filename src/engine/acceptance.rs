//! Vouching for a change: the output of the most similar earlier build is taken for a stage's key
//! without running it. The first line of the key's log says so, so that every cache hit repeats it,
//! in this store and in those that it is copied to. A forced run writes another log.

use super::fingerprint::Fingerprint;
use super::graph::Stage;
use super::lookup::Planned;
use super::reasons::closest;
use super::{OrFail, Pin, StageError};
use crate::events::{Reason, StageEvent};
use crate::store::{Digest, Store, StoreError};

/// That a stage's output was made by another key, whose differences the user vouched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// The key whose build made the output.
    pub key: String,
    /// The differences, one sentence each, in the order in which the user vouched for them.
    pub changes: Vec<String>,
    /// The key whose log is taken along, if this run is the one that accepts.
    from: Option<Digest>,
}

impl Acceptance {
    /// The acceptance on record for a key of the store.
    pub(super) fn recorded(store: &Store, key: &Digest) -> Result<Option<Acceptance>, StoreError> {
        let log = store.log(key)?;
        let first = log.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Ok(match serde_json::from_slice(first) {
            Ok(StageEvent::Accepted { key, changes }) => {
                Some(Acceptance { key, changes, from: None })
            }
            _ => None,
        })
    }

    /// Whether this run is the one that accepts.
    pub fn is_new(&self) -> bool {
        self.from.is_some()
    }

    /// Records a new acceptance: from now on, `key` leads to the output.
    pub(super) fn record(
        &self,
        store: &Store,
        key: &Digest,
        artifact: &Digest,
    ) -> Result<(), StoreError> {
        let Some(from) = &self.from else { return Ok(()) };
        let event = StageEvent::Accepted { key: self.key.clone(), changes: self.changes.clone() };
        let mut log = serde_json::to_vec(&event).expect("an event serializes to JSON");
        log.push(b'\n');
        let earlier = store.log(from)?;
        let is_acceptance =
            |line: &[u8]| matches!(serde_json::from_slice(line), Ok(StageEvent::Accepted { .. }));
        let lines = earlier.split_inclusive(|byte| *byte == b'\n');
        log.extend(lines.filter(|line| !is_acceptance(line)).flatten());
        store.link(key, artifact, &log)
    }
}

/// The state of a stage that isn't up to date, with the output of the most similar of `earlier`
/// builds.
///
/// # Errors
/// If there is none, or it can't be taken.
pub(super) fn accept(
    stage: &Stage,
    pin: &Pin,
    state: Planned,
    earlier: &[(String, Fingerprint)],
    store: &Store,
) -> Result<Planned, StageError> {
    let Planned::Dirty { key, fingerprint, .. } = state else { return Ok(state) };
    let refused = |why: &str| {
        StageError::failed(format!("no output can be accepted: {why}"))
            .with_help("run without `--accept`: the stage then makes its output")
    };
    if pin.folder.is_some() {
        return Err(refused("its files are read in place, and they are what changed"));
    }
    let Some((built, differences)) = closest(stage, &fingerprint, earlier, store) else {
        return Err(refused("no run on record has an earlier one"));
    };
    if built.kind != stage.kind.name() {
        return Err(refused(&format!("the earlier one is of a `{}` stage", built.kind)));
    }
    let from = built.key();
    let artifact = store.lookup(&from).or_fail("looking up the earlier output")?;
    let is_whole = match &artifact {
        Some(artifact) => store.check(artifact, &[], &[])?,
        None => false,
    };
    let artifact = match artifact {
        Some(artifact) if is_whole => artifact,
        _ => {
            let notes = store.take_notes();
            let missing = "the earlier one is no longer in the store".to_owned();
            return Err(refused(&if notes.is_empty() { missing } else { notes.join("; ") }));
        }
    };
    let before = Acceptance::recorded(store, &from)?;
    let (made_by, mut changes) = match before {
        Some(before) => (before.key, before.changes),
        None => (from.to_string(), Vec::new()),
    };
    changes.extend(differences.iter().map(Reason::to_string));
    let accepted = Some(Acceptance { key: made_by, changes, from: Some(from) });
    Ok(Planned::Fresh { key, fingerprint, artifact, accepted })
}
