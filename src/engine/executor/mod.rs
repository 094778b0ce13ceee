//! Executes a plan: starts every stage whose inputs are ready, in parallel up to the number of
//! jobs. On a cache hit, replays the recorded log without starting a process. Starts jobs only
//! through a [`Launcher`].

mod damage;
mod jobs;
mod node;
mod order;
mod remote;
mod retries;

pub use node::{Report, StageReport};

use super::disk::Estimate;
use super::graph::Graph;
use super::launcher::{Launcher, RunningJob};
use super::lookup::{Output, Planned, fingerprint, look_up};
use super::plan::{Options, Plan};
use super::resources::Amounts;
use super::subprocess::SubprocessLauncher;
use super::{EngineError, acceptance};
use crate::events::{CancellationToken, Event, EventSink, Level, Reason, StageEvent};
use crate::store::{Artifact, Digest, JobFolder, Store};
use node::{Node, Spent, StageEnd, Status, Tries};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// The interval at which jobs and the cancellation token are polled while no events arrive.
const TICK: Duration = Duration::from_millis(10);

/// Executes `plan` in child processes of this program. `handler` gets [`Event::RunStarted`] and all
/// events up to the end of the last stage; [`Event::RunFinished`] is left to the caller.
///
/// # Errors
/// If the store fails. A failed stage is not an error but part of the report.
pub fn execute(
    graph: &Graph,
    plan: Plan,
    store: &Store,
    options: &Options,
    cancel: &CancellationToken,
    handler: &mut dyn FnMut(&Event),
) -> Result<Report, EngineError> {
    execute_with(&LazyLauncher, graph, plan, store, options, cancel, handler)
}

/// The same with jobs started by `launcher`.
///
/// # Errors
/// As [`execute`].
pub fn execute_with(
    launcher: &dyn Launcher,
    graph: &Graph,
    plan: Plan,
    store: &Store,
    options: &Options,
    cancel: &CancellationToken,
    handler: &mut dyn FnMut(&Event),
) -> Result<Report, EngineError> {
    let start = Instant::now();
    if !plan.is_fresh() {
        store.check_file_system()?;
    }
    let stages = plan.stages.iter().map(|planned| planned.name.clone()).collect();
    handler(&Event::RunStarted { pipeline: graph.name.clone(), stages });
    let nodes: Vec<Node> =
        plan.stages.into_iter().map(|planned| Node::new(graph, planned)).collect();
    let (sender, receiver) = channel();
    let mut executor = Executor {
        launcher,
        graph,
        store,
        options,
        cancel,
        handler,
        budget: Amounts::of_run(options),
        line: order::line(&nodes),
        nodes,
        sender,
        receiver,
        jobs_folder: None,
        announced_stop: false,
        estimates: BTreeMap::new(),
        rebuilt: BTreeMap::new(),
        reasons: BTreeMap::new(),
    };
    executor.warn(plan.notes);
    executor.run()?;
    Ok(Report::of(executor.nodes, cancel.is_cancelled(), start.elapsed()))
}

/// Finds this program's executable only when the first job is started.
struct LazyLauncher;

impl Launcher for LazyLauncher {
    fn launch(&self, job: &Path, events: EventSink) -> io::Result<Box<dyn RunningJob>> {
        SubprocessLauncher::new()?.launch(job, events)
    }
}

/// Nodes are named by their index in `nodes`.
struct Executor<'a> {
    launcher: &'a dyn Launcher,
    graph: &'a Graph,
    store: &'a Store,
    options: &'a Options,
    cancel: &'a CancellationToken,
    handler: &'a mut dyn FnMut(&Event),
    nodes: Vec<Node<'a>>,
    /// What the run has for its stages.
    budget: Amounts,
    /// The nodes in the order in which those that are ready start.
    line: Vec<usize>,
    sender: Sender<(usize, StageEvent)>,
    receiver: Receiver<(usize, StageEvent)>,
    /// The folder of job files, created with the first one and removed with the executor.
    jobs_folder: Option<JobFolder>,
    /// Whether it was announced that running stages are being stopped.
    announced_stop: bool,
    /// Estimates replaced by facts, of stages that are done.
    estimates: BTreeMap<String, Estimate>,
    /// The nodes that run again because their artifacts were damaged, and since when.
    rebuilt: BTreeMap<usize, Instant>,
    /// The keys of nodes that wait for rebuilt outputs, and why they have to run.
    reasons: BTreeMap<usize, (Digest, Vec<Reason>)>,
}

/// The next step of a node.
enum Action {
    Wait,
    Skip(String),
    LookUp,
    Replay,
    /// Copy the output from a cache elsewhere.
    Fetch,
    /// It is ready, and starts as soon as what it asks for is free.
    Start,
}

impl<'a> Executor<'a> {
    fn run(&mut self) -> Result<(), EngineError> {
        loop {
            // A stage that is done may unblock others, even such with a lower index.
            while self.advance()? {}
            if !self.nodes.iter().any(|node| node.is_running() || node.is_delayed()) {
                return self.leave_elsewhere();
            }
            if let Ok((index, event)) = self.receiver.recv_timeout(TICK) {
                self.emit(index, event);
            }
            self.emit_received();
            for index in 0..self.nodes.len() {
                self.poll(index)?;
            }
        }
    }

    /// Takes the next step of every node. Returns whether there was any.
    fn advance(&mut self) -> Result<bool, EngineError> {
        let mut advanced = false;
        let mut starting: Option<BTreeSet<usize>> = None;
        for index in 0..self.nodes.len() {
            let action = self.next_action(index);
            if !matches!(action, Action::Wait | Action::Start) {
                starting = None;
            }
            match action {
                Action::Wait => continue,
                Action::Start => {
                    if !starting.get_or_insert_with(|| self.starting()).contains(&index) {
                        continue;
                    }
                    self.launch(index);
                }
                Action::Skip(reason) => self.skip(index, reason),
                Action::LookUp => self.look_up(index)?,
                Action::Replay => self.replay(index)?,
                Action::Fetch => self.fetch(index),
            }
            advanced = true;
        }
        Ok(advanced)
    }

    fn next_action(&self, index: usize) -> Action {
        let node = &self.nodes[index];
        if !node.is_waiting() {
            return Action::Wait;
        }
        if node.planned.state.is_fresh() {
            return Action::Replay;
        }
        let running = self.nodes.iter().filter(|node| node.is_running()).count();
        if node.is_elsewhere() {
            return self.elsewhere_action(node, running);
        }
        if self.cancel.is_cancelled() {
            return Action::Skip("interrupted".to_owned());
        }
        if let Some(reason) = self.blocked_by(node) {
            return Action::Skip(reason);
        }
        let is_known =
            |input: &Node| input.end().is_some() || input.planned.state.remote().is_some();
        let is_pending = matches!(node.planned.state, Planned::Pending { .. });
        // A key needs no files.
        if !self
            .inputs_of(node)
            .all(|input| input.end().is_some() || (is_pending && is_known(input)))
        {
            return Action::Wait;
        }
        if node.tries.next.is_some_and(|next| next > Instant::now()) {
            return Action::Wait;
        }
        match node.planned.state {
            Planned::Fresh { .. } => Action::Replay,
            Planned::Pending { .. } => Action::LookUp,
            Planned::Dirty { .. } => Action::Start,
            Planned::Remote { .. } => Action::Wait,
        }
    }

    /// Why a stage can't run any more, if that is so: a stage that it needs has no artifact, or,
    /// unless `keep_going`, any stage failed.
    fn blocked_by(&self, node: &Node<'a>) -> Option<String> {
        let reason = |blocking: &Node| match blocking.end()? {
            StageEnd::Failed(_) => Some(format!("`{}` failed", blocking.stage.name)),
            StageEnd::Skipped(_) => Some(format!("`{}` didn't run", blocking.stage.name)),
            StageEnd::Cancelled => Some("interrupted".to_owned()),
            StageEnd::Ran(_) | StageEnd::Fresh(_) | StageEnd::Elsewhere(_) => None,
        };
        let has_failed = |node: &&Node| matches!(node.end(), Some(StageEnd::Failed(_)));
        let failed = || match self.options.keep_going {
            true => None,
            false => self.nodes.iter().find(has_failed).and_then(reason),
        };
        self.inputs_of(node).find_map(reason).or_else(failed)
    }

    /// The nodes that feed a node, in the order of the plan.
    fn inputs_of(&self, node: &Node<'a>) -> impl Iterator<Item = &Node<'a>> {
        let needs = &node.stage.needs;
        self.nodes.iter().filter(move |node| needs.values().any(|name| *name == node.stage.name))
    }

    fn node(&self, stage: &str) -> &Node<'a> {
        let node = self.nodes.iter().find(|node| node.stage.name == stage);
        node.expect("a plan contains all that its stages need")
    }

    /// The artifact of a stage that is done.
    fn artifact_of(&self, stage: &str) -> Option<&Artifact> {
        self.node(stage).end()?.artifact()
    }

    /// The output of a stage that is done or in a cache elsewhere.
    fn output_of(&self, stage: &str) -> Option<Output<'_>> {
        let node = self.node(stage);
        let here = node.end().and_then(StageEnd::artifact);
        here.map(|artifact| (&artifact.digest, &artifact.manifest))
            .or_else(|| node.planned.state.output())
    }

    /// Computes the key of a pending stage, whose inputs are known by now, and looks it up.
    fn look_up(&mut self, index: usize) -> Result<(), EngineError> {
        let Node { stage, planned, .. } = &self.nodes[index];
        let output_of = |name: &str| self.output_of(name);
        let fingerprint =
            fingerprint(self.graph.seed, stage, &planned.pin, output_of, self.options.device)
                .expect("the inputs of a stage that isn't skipped have artifacts");
        let earlier = || planned.earlier.clone();
        let elsewhere = self.options.elsewhere(self.cancel);
        let (mut state, notes) =
            look_up(stage, fingerprint, planned.force, self.store, elsewhere, earlier)?;
        if let Some((known, before)) = self.reasons.remove(&index)
            && let Planned::Dirty { key, reasons, .. } = &mut state
            && *key == known
        {
            *reasons = before;
        }
        let Node { stage, planned, .. } = &self.nodes[index];
        let state = match planned.accept {
            true => acceptance::accept(stage, &planned.pin, state, &planned.earlier, self.store),
            false => Ok(state),
        };
        self.warn(notes);
        match state {
            Ok(state) => self.nodes[index].planned.state = state,
            Err(error) => {
                self.finish(index, StageEnd::Failed(error.to_string()), Spent::default());
            }
        }
        Ok(())
    }

    /// On a cache hit, replays the recorded log. What the user vouches for is recorded first.
    fn replay(&mut self, index: usize) -> Result<(), EngineError> {
        let Planned::Fresh { key, artifact, accepted, .. } = &self.nodes[index].planned.state
        else {
            panic!("stage `{}` is replayed without being fresh", self.nodes[index].stage.name)
        };
        if let Some(accepted) = accepted {
            accepted.record(self.store, key, &artifact.digest)?;
        }
        let artifact = artifact.clone();
        self.replay_log(index)?;
        self.finish(index, StageEnd::Fresh(artifact), Spent::default());
        Ok(())
    }

    fn replay_log(&mut self, index: usize) -> Result<(), EngineError> {
        let node = &self.nodes[index];
        let (key, _) = node.key().expect("a stage with an artifact has a key");
        let log = match node.planned.state.remote() {
            Some(remote) => remote.log.clone(),
            None => self.store.log(key)?,
        };
        for line in log.split(|&byte| byte == b'\n') {
            // An event of a later version is left out.
            if let Ok(event) = serde_json::from_slice(line)
                && self.options.replay.has(&event)
            {
                self.emit(index, event);
            }
        }
        Ok(())
    }

    fn emit(&mut self, index: usize, event: StageEvent) {
        (self.handler)(&event.of_stage(&self.nodes[index].stage.name));
    }

    /// Emits the events that running jobs have sent.
    fn emit_received(&mut self) {
        while let Ok((index, event)) = self.receiver.try_recv() {
            self.emit(index, event);
        }
    }

    fn warn(&mut self, notes: Vec<String>) {
        for text in notes {
            (self.handler)(&Event::Message { stage: None, level: Level::Warning, text });
        }
    }

    fn finish(&mut self, index: usize, end: StageEnd, spent: Spent) {
        let node = &mut self.nodes[index];
        (self.handler)(&Event::StageFinished {
            stage: node.stage.name.clone(),
            outcome: end.outcome(),
            key: node.key().map(|(key, _)| key.to_string()),
            digest: end.digest().map(|digest| digest.to_string()),
            seconds: spent.seconds,
            peak_memory: spent.peak_memory,
            error: end.error().map(str::to_owned),
        });
        node.status = Status::Done { end, spent };
        // If it has to run again after damage, it begins anew.
        node.tries = Tries::default();
    }
}
