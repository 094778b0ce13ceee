//! What has to be done, and why: each stage's fingerprint and key, asked of the store. A stage below one that has to run
//! is pending: keys are made of content, so it may yet turn out fresh.

use super::fingerprint::{FORMAT, Fingerprint, Words};
use super::graph::{Graph, Stage};
use super::{Device, EngineError, Pin, StageError};
use crate::common::nearest;
use crate::events::CancellationToken;
use crate::store::{Artifact, Digest, Store};
use std::collections::{BTreeMap, BTreeSet};

/// Which stages run even where their artifact is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Force {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// These.
    Stages(Vec<String>),
}

/// How to plan and to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only these stages and what they need; all where empty.
    pub until: Vec<String>,
    /// This stage and all below it run even where they are fresh.
    pub from: Option<String>,
    /// Stages that run even where they are fresh.
    pub force: Force,
    /// How many stages may run at a time; at least 1.
    pub jobs: usize,
    /// How many threads each of them may keep busy; at least 1.
    pub threads: usize,
    /// What computes.
    pub device: Device,
    /// Whether stages that don't need a failed one run all the same.
    pub keep_going: bool,
    /// Whether sources outside are looked at anew, where they were remembered.
    pub refresh: bool,
}

impl Default for Options {
    /// Everything, one stage at a time, one thread, on the processor.
    fn default() -> Options {
        Options {
            until: Vec::new(),
            from: None,
            force: Force::None,
            jobs: 1,
            threads: 1,
            device: Device::Cpu,
            keep_going: false,
            refresh: false,
        }
    }
}

/// What earlier runs know.
pub trait History {
    /// Fingerprints with which to compare `stage`, each with the name of the stage that it was of: those of the same stage,
    /// then those of others of that `kind`, latest first. The one with the fewest differences is named.
    fn earlier(&self, stage: &str, kind: &str) -> Vec<(String, Fingerprint)>;
}

/// A history of nothing.
pub struct NoHistory;

impl History for NoHistory {
    fn earlier(&self, _stage: &str, _kind: &str) -> Vec<(String, Fingerprint)> {
        Vec::new()
    }
}

/// Where a stage stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its artifact is there.
    Fresh {
        /// The artifact's digest.
        digest: Digest,
    },
    /// It has to run.
    Dirty {
        /// Why, most telling first.
        reasons: Vec<String>,
    },
    /// Its key isn't known: it may turn out fresh once these have run.
    Pending {
        /// The stages it needs that aren't fresh.
        below: Vec<String>,
    },
}

/// A stage in a plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its name.
    pub stage: String,
    /// Its kind.
    pub kind: &'static str,
    /// Where it stands.
    pub state: State,
    /// What its key is made of, where that is known.
    pub fingerprint: Option<Fingerprint>,
    /// Its key, where it is known.
    pub key: Option<Digest>,
    /// Its artifact, where it is fresh.
    pub artifact: Option<Artifact>,
    /// Whether it runs even where its artifact is there.
    pub(super) force: bool,
    pub(super) pin: Pin,
    /// For a pending stage: what to compare it with once its key is known.
    pub(super) earlier: Vec<(String, Fingerprint)>,
}

/// What is to be done. Can be run once.
#[derive(Debug)]
pub struct Plan {
    /// The stages asked for, each after what it needs.
    pub stages: Vec<Planned>,
    /// What the store has to say: damage that was found.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether every stage is fresh.
    pub fn is_fresh(&self) -> bool {
        self.stages.iter().all(|planned| matches!(planned.state, State::Fresh { .. }))
    }
}

/// Makes the plan: looks at the world outside, makes what fingerprints can be made, and asks the store.
///
/// # Errors
/// Where an option names a stage that isn't there, a stage's facts from outside can't be had, or the store refuses.
pub fn plan(
    graph: &Graph,
    store: &Store,
    options: &Options,
    history: &dyn History,
    cancel: &CancellationToken,
) -> Result<Plan, EngineError> {
    let wanted = wanted(graph, options)?;
    let forced = forced(graph, options)?;
    let mut plan = Plan { stages: Vec::with_capacity(wanted.len()), notes: Vec::new() };
    for stage in graph.stages.iter().filter(|stage| wanted.contains(stage.name.as_str())) {
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let failed = |error| match error {
            StageError::Cancelled => EngineError::Cancelled,
            error => EngineError::Stage { stage: stage.name.clone(), error },
        };
        if options.refresh {
            stage.kind.refresh(&stage.values, store, cancel).map_err(failed)?;
        }
        let pin = stage.kind.pin(&stage.values, store, cancel).map_err(failed)?;
        let force = forced.contains(stage.name.as_str());
        let mut planned = place(graph, stage, pin, force, &plan.stages, options.device);
        ask(&mut planned, stage, store, history, &mut plan.notes)?;
        plan.stages.push(planned);
    }
    Ok(plan)
}

/// A stage with its fingerprint, where all its inputs are there.
fn place(
    graph: &Graph,
    stage: &Stage,
    pin: Pin,
    force: bool,
    above: &[Planned],
    device: Device,
) -> Planned {
    let find = |name: &str| above.iter().find(|planned| planned.stage == name);
    let artifact_of = |name: &str| find(name).and_then(|planned| planned.artifact.as_ref());
    let fingerprint = fingerprint(graph.seed, stage, &pin, artifact_of, device);
    let mut below: Vec<String> =
        stage.needs.values().filter(|name| artifact_of(name).is_none()).cloned().collect();
    below.sort_unstable();
    below.dedup();
    Planned {
        stage: stage.name.clone(),
        kind: stage.kind.name(),
        state: State::Pending { below },
        key: fingerprint.as_ref().map(Fingerprint::key),
        fingerprint,
        artifact: None,
        force,
        pin,
        earlier: Vec::new(),
    }
}

/// Asks the store for a stage whose key is known, and says why it has to run where it does.
fn ask(
    planned: &mut Planned,
    stage: &Stage,
    store: &Store,
    history: &dyn History,
    notes: &mut Vec<String>,
) -> Result<(), EngineError> {
    let Some(key) = planned.key else {
        planned.earlier = history.earlier(&stage.name, planned.kind);
        return Ok(());
    };
    let found = if planned.force { None } else { store.lookup(&key)? };
    let damage = store.take_notes();
    match found {
        Some(artifact) => {
            planned.state = State::Fresh { digest: artifact.digest };
            planned.artifact = Some(artifact);
        }
        None => {
            let mut reasons =
                if planned.force { vec!["forced".to_owned()] } else { damage.clone() };
            if reasons.is_empty() {
                reasons = planned.reasons(stage, &history.earlier(&stage.name, planned.kind));
            }
            planned.state = State::Dirty { reasons };
        }
    }
    notes.extend(damage);
    Ok(())
}

impl Planned {
    /// Why a stage has to run whose key is known and has no artifact.
    pub(super) fn reasons(&self, stage: &Stage, earlier: &[(String, Fingerprint)]) -> Vec<String> {
        let words = Words {
            needs: Some(&stage.needs),
            declared: stage.kind.keys(),
            dataset: stage.kind.dataset(),
        };
        let Some(now) = &self.fingerprint else { return Vec::new() };
        // A stage of another name explains nothing where it was made from something else outside, as fetched weights and
        // fetched images are.
        let is_alike = |(name, earlier): &&(String, Fingerprint)| {
            *name == stage.name || earlier.facts.keys().eq(now.facts.keys())
        };
        let alike = earlier.iter().filter(is_alike);
        let differences =
            alike.map(|(_, earlier)| now.explain(earlier, words)).min_by_key(Vec::len);
        match differences {
            None => vec!["never ran before".to_owned()],
            Some(list) if list.is_empty() => {
                vec!["its artifact is no longer in the store".to_owned()]
            }
            Some(list) => list,
        }
    }
}

/// A stage's fingerprint, if all its inputs are there.
pub(super) fn fingerprint<'a>(
    seed: u64,
    stage: &Stage,
    pin: &Pin,
    artifact_of: impl Fn(&str) -> Option<&'a Artifact>,
    device: Device,
) -> Option<Fingerprint> {
    let mut inputs = BTreeMap::new();
    for (role, feeder) in &stage.needs {
        let reads = stage
            .kind
            .inputs()
            .iter()
            .find(|input| input.role == role)
            .map_or(&[][..], |input| input.reads);
        inputs.insert(role.clone(), artifact_of(feeder)?.part(reads));
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

/// The stages asked for, with all they need.
fn wanted<'a>(graph: &'a Graph, options: &Options) -> Result<BTreeSet<&'a str>, EngineError> {
    if options.until.is_empty() {
        return Ok(graph.stages.iter().map(|stage| stage.name.as_str()).collect());
    }
    let mut wanted = BTreeSet::new();
    for name in &options.until {
        wanted.insert(known(graph, name)?);
    }
    for stage in graph.stages.iter().rev() {
        if wanted.contains(stage.name.as_str()) {
            wanted.extend(stage.needs.values().map(String::as_str));
        }
    }
    Ok(wanted)
}

/// The stages that run in any case.
fn forced<'a>(graph: &'a Graph, options: &Options) -> Result<BTreeSet<&'a str>, EngineError> {
    let mut forced = BTreeSet::new();
    match &options.force {
        Force::None => {}
        Force::All => forced.extend(graph.stages.iter().map(|stage| stage.name.as_str())),
        Force::Stages(names) => {
            for name in names {
                forced.insert(known(graph, name)?);
            }
        }
    }
    if let Some(from) = &options.from {
        let mut reached = BTreeSet::from([known(graph, from)?]);
        for stage in &graph.stages {
            if stage.needs.values().any(|above| reached.contains(above.as_str())) {
                reached.insert(&stage.name);
            }
        }
        forced.append(&mut reached);
    }
    Ok(forced)
}

fn known<'a>(graph: &'a Graph, name: &str) -> Result<&'a str, EngineError> {
    if let Some(stage) = graph.stage(name) {
        return Ok(&stage.name);
    }
    let names = || graph.stages.iter().map(|stage| stage.name.as_str());
    let help = match nearest(name, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "the stages are {}",
            names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ),
    };
    Err(EngineError::UnknownStage { name: name.to_owned(), help })
}
