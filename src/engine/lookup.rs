//! The state of a stage: its fingerprint, as soon as all inputs have artifacts, and the lookup of
//! its key in the store. The plan and the executor share both.

use super::fingerprint::{FORMAT, Fingerprint};
use super::graph::Stage;
use super::reasons::reasons;
use super::{Device, Pin};
use crate::events::Reason;
use crate::store::{Artifact, Digest, Store, StoreError};
use std::collections::BTreeMap;

/// The state of a stage in a plan.
#[derive(Clone, Debug)]
pub enum Planned {
    /// Up to date: the artifact is in the store.
    Fresh { key: Digest, fingerprint: Fingerprint, artifact: Artifact },
    /// Stale: it has to run, for these reasons, most important first.
    Dirty { key: Digest, fingerprint: Fingerprint, reasons: Vec<Reason> },
    /// The key isn't known before these stages have run. The stage may turn out fresh.
    Pending { below: Vec<String> },
}

impl Planned {
    /// The name of the state on screen and in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Planned::Fresh { .. } => "fresh",
            Planned::Dirty { .. } => "dirty",
            Planned::Pending { .. } => "pending",
        }
    }

    pub fn is_fresh(&self) -> bool {
        matches!(self, Planned::Fresh { .. })
    }

    /// The cache key and what it is made of. None while pending.
    pub fn key(&self) -> Option<(&Digest, &Fingerprint)> {
        match self {
            Planned::Fresh { key, fingerprint, .. } | Planned::Dirty { key, fingerprint, .. } => {
                Some((key, fingerprint))
            }
            Planned::Pending { .. } => None,
        }
    }

    /// The artifact of a fresh stage.
    pub fn artifact(&self) -> Option<&Artifact> {
        match self {
            Planned::Fresh { artifact, .. } => Some(artifact),
            Planned::Dirty { .. } | Planned::Pending { .. } => None,
        }
    }
}

/// Looks up the artifact of a stage with this fingerprint, unless `force`. `earlier` provides the
/// fingerprints to compare with if there is none. Also returns the store's notes on damage that it
/// found.
pub(super) fn look_up(
    stage: &Stage,
    fingerprint: Fingerprint,
    force: bool,
    store: &Store,
    earlier: impl FnOnce() -> Vec<(String, Fingerprint)>,
) -> Result<(Planned, Vec<String>), StoreError> {
    let key = fingerprint.key();
    let artifact = if force { None } else { store.lookup(&key)? };
    let notes = store.take_notes();
    let planned = match artifact {
        Some(artifact) => Planned::Fresh { key, fingerprint, artifact },
        None => {
            let damage = notes.iter().cloned().map(|message| Reason::ArtifactDamaged { message });
            let reasons = match notes.as_slice() {
                _ if force => vec![Reason::Forced],
                [] => reasons(stage, &fingerprint, &earlier(), store),
                _ => damage.collect(),
            };
            Planned::Dirty { key, fingerprint, reasons }
        }
    };
    Ok((planned, notes))
}

/// The fingerprint of a stage. None if an input has no artifact yet, which `artifact_of` says by
/// the name of the stage that feeds it.
pub(super) fn fingerprint<'a>(
    seed: u64,
    stage: &Stage,
    pin: &Pin,
    artifact_of: impl Fn(&str) -> Option<&'a Artifact>,
    device: Device,
) -> Option<Fingerprint> {
    let mut inputs = BTreeMap::new();
    for (role, feeder) in &stage.needs {
        let artifact = artifact_of(feeder)?;
        let part = match stage.inside.get(role) {
            Some(path) => artifact.part_at(path),
            None => {
                let input = stage.kind.input(role);
                artifact
                    .part(input.expect("the graph checks roles against the kind's inputs").reads)
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
