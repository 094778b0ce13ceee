//! Plans a run: pins each stage's sources, computes fingerprints and keys, and looks them up in the
//! store. A stage below one that has to run is pending: keys are made of content, so it may turn
//! out fresh.

use super::fingerprint::Fingerprint;
use super::graph::{Graph, Stage};
use super::lookup::{Elsewhere, Output, Planned, fingerprint, look_up};
use super::{Acceptance, Device, EngineError, Pin, RemoteCaches, StageError, acceptance};
use crate::common::nearest;
use crate::events::{CancellationToken, Level, StageEvent};
use crate::store::Store;
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::debug_span;

/// Which stages run even if they are fresh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Force {
    #[default]
    None,
    All,
    Stages(Vec<String>),
}

/// Which events of the log of a stage that is up to date are emitted again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    #[default]
    Full,
    /// Warnings and errors.
    Errors,
    None,
}

impl Replay {
    /// That the user vouched for an output is always said.
    pub(super) fn has(self, event: &StageEvent) -> bool {
        match (self, event) {
            (Replay::Full, _) | (_, StageEvent::Accepted { .. }) => true,
            (Replay::Errors, StageEvent::Message { level, .. }) => *level != Level::Info,
            (Replay::Errors, StageEvent::UndeclaredWrites(_)) => true,
            (Replay::Errors | Replay::None, _) => false,
        }
    }
}

/// How to plan and run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Plan only these stages and all that they need; every stage if empty.
    pub until: Vec<String>,
    /// Run this stage and all that need it even if they are fresh.
    pub from: Option<String>,
    /// Run these stages even if they are fresh.
    pub force: Force,
    /// Take the most similar earlier output for these stages instead of running them.
    pub accept: Vec<String>,
    /// The number of stages that may run at a time; at least 1.
    pub jobs: usize,
    /// The thread budget of each, and of those that ask for threads together; at least 1.
    pub threads: usize,
    /// The memory in bytes of those that ask for some, together.
    pub memory: u64,
    /// The GPUs that stages can ask for, by the names that CUDA has for them.
    pub gpus: Vec<String>,
    pub device: Device,
    /// After a failure, continue with the stages that don't need the failed one.
    pub keep_going: bool,
    pub replay: Replay,
    /// Look again at sources on the web whose version is remembered.
    pub refresh: bool,
    /// Caches elsewhere, which are asked for what isn't in the store.
    pub remotes: Option<Arc<dyn RemoteCaches>>,
}

impl Options {
    pub(super) fn elsewhere<'a>(&'a self, cancel: &'a CancellationToken) -> Elsewhere<'a> {
        Elsewhere { caches: self.remotes.as_deref(), cancel }
    }
}

impl Default for Options {
    /// Every stage, one at a time, on one CPU thread.
    fn default() -> Options {
        Options {
            until: Vec::new(),
            from: None,
            force: Force::None,
            accept: Vec::new(),
            jobs: 1,
            threads: 1,
            memory: u64::MAX,
            gpus: Vec::new(),
            device: Device::Cpu,
            keep_going: false,
            replay: Replay::Full,
            refresh: false,
            remotes: None,
        }
    }
}

/// The fingerprints of earlier runs.
pub trait History {
    /// Fingerprints to compare `stage` with, each with the name of its stage: those of the same
    /// stage if there are any, otherwise those of other stages of that `kind`, latest first. The
    /// plan compares the one with the fewest differences.
    fn earlier(&self, stage: &str, kind: &str) -> Vec<(String, Fingerprint)>;
}

/// An empty history.
pub struct NoHistory;

impl History for NoHistory {
    fn earlier(&self, _stage: &str, _kind: &str) -> Vec<(String, Fingerprint)> {
        Vec::new()
    }
}

/// A stage in a plan.
#[derive(Clone, Debug)]
pub struct PlannedStage {
    pub name: String,
    pub kind: &'static str,
    pub state: Planned,
    /// Whether it runs even if its artifact is in the store.
    pub(super) force: bool,
    /// Whether an earlier output is taken if it isn't up to date.
    pub(super) accept: bool,
    pub(super) pin: Pin,
    /// For a pending stage: the fingerprints to compare with once its key is known.
    pub(super) earlier: Vec<(String, Fingerprint)>,
}

/// The stages of a run and their states. Executing it consumes it.
#[derive(Debug)]
pub struct Plan {
    /// The planned stages, each after those that it needs.
    pub stages: Vec<PlannedStage>,
    /// What computes networks.
    pub device: Device,
    /// Damage that the store found.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether every stage is fresh.
    pub fn is_fresh(&self) -> bool {
        self.stages.iter().all(|stage| stage.state.is_fresh())
    }

    /// Whether an earlier output is accepted for a stage of which the key is known.
    pub fn accepts(&self) -> bool {
        let mut accepted = self.stages.iter().filter_map(|stage| stage.state.accepted());
        accepted.any(Acceptance::is_new)
    }

    /// The output of a stage that was planned before, here or elsewhere.
    fn output_of(&self, name: &str) -> Option<Output<'_>> {
        let stage = self.stages.iter().find(|stage| stage.name == name);
        stage.expect("a stage is planned after those that it needs").state.output()
    }

    /// Whether the files of a stage's output have to be here: it is a result, or a stage needs it
    /// that runs, or may have to.
    pub fn is_wanted(&self, graph: &Graph, name: &str) -> bool {
        let stage_of = |planned: &'_ PlannedStage| graph.stage(&planned.name);
        let runs = |planned: &PlannedStage| {
            let is_stale = matches!(planned.state, Planned::Dirty { .. } | Planned::Pending { .. });
            is_stale && stage_of(planned).is_some_and(|stage| needs(stage, name))
        };
        let is_result = |stage| is_result(stage, self.stages.iter().filter_map(stage_of));
        graph.stage(name).is_some_and(is_result) || self.stages.iter().any(runs)
    }
}

/// Makes the plan.
///
/// # Errors
/// If an option names an unknown stage, a source can't be pinned, the store fails, or `cancel` is
/// set.
pub fn plan(
    graph: &Graph,
    store: &Store,
    options: &Options,
    history: &dyn History,
    cancel: &CancellationToken,
) -> Result<Plan, EngineError> {
    let wanted = wanted(graph, options)?;
    let forced = forced(graph, options)?;
    let accepted = accepted(graph, options, &forced)?;
    let stages = Vec::with_capacity(wanted.len());
    let mut plan = Plan { stages, device: options.device, notes: Vec::new() };
    for stage in graph.stages.iter().filter(|stage| wanted.contains(stage.name.as_str())) {
        let can_compute = stage.kind.check_device(&stage.values, options.device);
        can_compute.map_err(|error| failed(stage, error))?;
        let pin = pin(stage, store, options.refresh, cancel)?;
        let force = forced.contains(stage.name.as_str());
        let output_of = |name: &str| plan.output_of(name);
        let fingerprint = fingerprint(graph.seed, stage, &pin, output_of, options.device);
        let accept = accepted.contains(stage.name.as_str());
        let earlier = || history.earlier(&stage.name, stage.kind.name());
        let (state, notes, earlier) = match fingerprint {
            Some(fingerprint) => {
                let elsewhere = options.elsewhere(cancel);
                let (mut state, notes) =
                    look_up(stage, fingerprint, force, store, elsewhere, earlier)?;
                if accept {
                    state = acceptance::accept(stage, &pin, state, &earlier(), store)
                        .map_err(|error| failed(stage, error))?;
                }
                (state, notes, Vec::new())
            }
            None => (pending(&plan, stage), Vec::new(), earlier()),
        };
        plan.notes.extend(notes);
        let (name, kind) = (stage.name.clone(), stage.kind.name());
        plan.stages.push(PlannedStage { name, kind, state, force, accept, pin, earlier });
    }
    Ok(plan)
}

/// Pins the sources of a stage, after refreshing what is remembered of them if asked to.
fn pin(
    stage: &Stage,
    store: &Store,
    refresh: bool,
    cancel: &CancellationToken,
) -> Result<Pin, EngineError> {
    let _span = debug_span!("pin sources", stage = stage.name).entered();
    let pin = || {
        StageError::check(cancel)?;
        if refresh {
            stage.kind.refresh(&stage.values, store, cancel)?;
        }
        stage.kind.pin(&stage.values, store, cancel)
    };
    pin().map_err(|error| failed(stage, error))
}

fn failed(stage: &Stage, error: StageError) -> EngineError {
    match error {
        StageError::Cancelled => EngineError::Cancelled,
        error => {
            let is_local = stage.kind.remote_sources(&stage.values).is_empty();
            EngineError::Stage { stage: stage.name.clone(), is_local, error }
        }
    }
}

/// Whether a stage needs the output of another one.
pub(super) fn needs(stage: &Stage, name: &str) -> bool {
    stage.needs.values().any(|need| need == name)
}

/// Whether the output of a stage is a result rather than a step on the way: none of the `planned`
/// stages needs it, or people use it.
pub(super) fn is_result<'a>(stage: &Stage, mut planned: impl Iterator<Item = &'a Stage>) -> bool {
    stage.kind.is_result() || !planned.any(|other| needs(other, &stage.name))
}

fn pending(plan: &Plan, stage: &Stage) -> Planned {
    let missing = stage.needs.values().filter(|name| plan.output_of(name).is_none());
    let below: BTreeSet<&String> = missing.collect();
    Planned::Pending { below: below.into_iter().cloned().collect() }
}

/// The requested stages and all that they need.
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

/// The stages that run even if they are fresh.
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

/// The stages whose earlier outputs are accepted.
fn accepted<'a>(
    graph: &'a Graph,
    options: &Options,
    forced: &BTreeSet<&str>,
) -> Result<BTreeSet<&'a str>, EngineError> {
    let names = options.accept.iter().map(|name| known(graph, name));
    let accepted: BTreeSet<&str> = names.collect::<Result<_, _>>()?;
    match accepted.iter().find(|name| forced.contains(*name)).and_then(|name| graph.stage(name)) {
        None => Ok(accepted),
        Some(stage) => {
            let error = StageError::failed("its output can't be both accepted and made again");
            Err(failed(stage, error.with_help("leave out `--accept`, or `--force` and `--from`")))
        }
    }
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
