//! The state of a stage: its fingerprint, as soon as all inputs have artifacts, and the lookup of
//! its key in the store. The plan and the executor share both.

use super::fingerprint::{FORMAT, Fingerprint};
use super::graph::Stage;
use super::reasons::reasons;
use super::{Acceptance, Device, Pin, RemoteCaches};
use crate::events::{CancellationToken, Reason};
use crate::store::{Artifact, Digest, Manifest, RemoteArtifact, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of a stage in a plan.
#[derive(Clone, Debug)]
pub enum Planned {
    /// Up to date: the artifact is in the store. With `accepted`, since the user vouched for it.
    Fresh {
        key: Digest,
        fingerprint: Fingerprint,
        artifact: Artifact,
        accepted: Option<Acceptance>,
    },
    /// Stale: it has to run, for these reasons, most important first.
    Dirty { key: Digest, fingerprint: Fingerprint, reasons: Vec<Reason> },
    /// A cache elsewhere has the artifact, whose files are copied if something needs them. Without it
    /// the stage would have to run, for these reasons.
    Remote {
        key: Digest,
        fingerprint: Fingerprint,
        reasons: Vec<Reason>,
        artifact: Arc<RemoteArtifact>,
    },
    /// The key isn't known before these stages have run. The stage may turn out fresh.
    Pending { below: Vec<String> },
}

impl Planned {
    /// The name of the state on screen and in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Planned::Fresh { .. } => "fresh",
            Planned::Dirty { .. } => "dirty",
            Planned::Remote { .. } => "remote",
            Planned::Pending { .. } => "pending",
        }
    }

    pub fn is_fresh(&self) -> bool {
        matches!(self, Planned::Fresh { .. })
    }

    /// The cache key and what it is made of. None while pending.
    pub fn key(&self) -> Option<(&Digest, &Fingerprint)> {
        match self {
            Planned::Fresh { key, fingerprint, .. }
            | Planned::Dirty { key, fingerprint, .. }
            | Planned::Remote { key, fingerprint, .. } => Some((key, fingerprint)),
            Planned::Pending { .. } => None,
        }
    }

    /// What the user vouched for, if a fresh stage's output was made by another key.
    pub fn accepted(&self) -> Option<&Acceptance> {
        match self {
            Planned::Fresh { accepted, .. } => accepted.as_ref(),
            Planned::Dirty { .. } | Planned::Remote { .. } | Planned::Pending { .. } => None,
        }
    }

    /// The artifact of a fresh stage.
    pub fn artifact(&self) -> Option<&Artifact> {
        match self {
            Planned::Fresh { artifact, .. } => Some(artifact),
            _ => None,
        }
    }

    /// The artifact in a cache elsewhere.
    pub fn remote(&self) -> Option<&Arc<RemoteArtifact>> {
        match self {
            Planned::Remote { artifact, .. } => Some(artifact),
            _ => None,
        }
    }

    /// The digest and the files of the output, wherever it is.
    pub(super) fn output(&self) -> Option<Output<'_>> {
        match self {
            Planned::Fresh { artifact, .. } => Some((&artifact.digest, &artifact.manifest)),
            Planned::Remote { artifact, .. } => Some((&artifact.digest, &artifact.manifest)),
            Planned::Dirty { .. } | Planned::Pending { .. } => None,
        }
    }
}

/// The digest and the files of an output: keys depend on nothing else of it.
pub(super) type Output<'a> = (&'a Digest, &'a Manifest);

/// The caches elsewhere, and the token that stops asking them.
#[derive(Clone, Copy)]
pub(super) struct Elsewhere<'a> {
    pub caches: Option<&'a dyn RemoteCaches>,
    pub cancel: &'a CancellationToken,
}

impl Elsewhere<'_> {
    /// The output of a key.
    pub(super) fn find(&self, key: &Digest) -> Option<Arc<RemoteArtifact>> {
        self.caches?.find(key, self.cancel).map(Arc::new)
    }

    fn take_notes(&self) -> Vec<String> {
        self.caches.map(RemoteCaches::take_notes).unwrap_or_default()
    }
}

/// Looks up the artifact of a stage with this fingerprint, unless `force`: in the store, then
/// elsewhere. `earlier` provides the fingerprints to compare with if there is none here. Also returns
/// notes on damage and on caches that can't be used.
pub(super) fn look_up(
    stage: &Stage,
    fingerprint: Fingerprint,
    force: bool,
    store: &Store,
    elsewhere: Elsewhere,
    earlier: impl FnOnce() -> Vec<(String, Fingerprint)>,
) -> Result<(Planned, Vec<String>), StoreError> {
    let key = fingerprint.key();
    let artifact = if force { None } else { store.lookup(&key)? };
    let mut notes = store.take_notes();
    let planned = match artifact {
        Some(artifact) => {
            let accepted = Acceptance::recorded(store, &key)?;
            Planned::Fresh { key, fingerprint, artifact, accepted }
        }
        None => {
            let damage = notes.iter().cloned().map(|message| Reason::ArtifactDamaged { message });
            let reasons = match notes.as_slice() {
                _ if force => vec![Reason::Forced],
                [] => reasons(stage, &fingerprint, &earlier(), store),
                _ => damage.collect(),
            };
            match if force { None } else { elsewhere.find(&key) } {
                Some(artifact) => Planned::Remote { key, fingerprint, reasons, artifact },
                None => Planned::Dirty { key, fingerprint, reasons },
            }
        }
    };
    notes.extend(elsewhere.take_notes());
    Ok((planned, notes))
}

/// The fingerprint of a stage. None if an input has no output yet, which `output_of` says by the name
/// of the stage that feeds it.
pub(super) fn fingerprint<'a>(
    seed: u64,
    stage: &Stage,
    pin: &Pin,
    output_of: impl Fn(&str) -> Option<Output<'a>>,
    device: Device,
) -> Option<Fingerprint> {
    let mut inputs = BTreeMap::new();
    for (role, feeder) in &stage.needs {
        let (digest, manifest) = output_of(feeder)?;
        let part = match stage.inside.get(role) {
            Some(path) => manifest.part_at(digest, path),
            None => {
                let input = stage.kind.input(role);
                let input = input.expect("the graph checks roles against the kind's inputs");
                manifest.part_of(digest, input.reads)
            }
        };
        inputs.insert(role.clone(), part);
    }
    let mut parameters = stage.significant();
    let is_replaced = |path: &str| {
        pin.replaces.iter().any(|name| {
            path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    parameters.retain(|path, _| !is_replaced(path));
    Some(Fingerprint {
        format: FORMAT,
        kind: stage.kind.name().to_owned(),
        version: stage.kind.version(),
        parameters,
        inputs,
        facts: pin.facts.clone(),
        seed: stage.kind.draws().then_some(seed),
        device: stage.kind.computes().then(|| device.class().to_owned()),
    })
}
