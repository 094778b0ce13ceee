//! Outputs in caches elsewhere. One is copied if it is a result or a stage that runs needs it; the
//! others stay where they are, and their manifests suffice for the keys of stages below. Where a
//! copy fails, the stage runs.

use super::node::{Active, Node, Spent, StageEnd, Status, StopCause};
use super::{Action, Executor};
use crate::common::number;
use crate::engine::job::JobOutcome;
use crate::engine::launcher::ThreadJob;
use crate::engine::lookup::Planned;
use crate::engine::plan::{is_result, needs};
use crate::engine::remote::RemoteCaches;
use crate::engine::{EngineError, StageError};
use crate::events::{CancellationToken, Event, EventSink, Level, Reason, StageEvent};
use crate::store::{RemoteArtifact, Store};
use std::path::Path;
use std::sync::Arc;

impl<'a> Executor<'a> {
    /// The next step of a node whose output is in a cache elsewhere.
    pub(super) fn elsewhere_action(&self, node: &Node<'a>, running: usize) -> Action {
        if !self.is_wanted(node) {
            return Action::Wait;
        }
        if self.cancel.is_cancelled() {
            return Action::Skip("interrupted".to_owned());
        }
        if running < self.options.jobs.max(1) { Action::Fetch } else { Action::Wait }
    }

    /// Whether the files of an output have to be here.
    fn is_wanted(&self, node: &Node<'a>) -> bool {
        let runs = |other: &Node| {
            let is_dirty = matches!(other.planned.state, Planned::Dirty { .. });
            other.is_waiting() && is_dirty && needs(other.stage, &node.stage.name)
        };
        is_result(node.stage, self.nodes.iter().map(|node| node.stage))
            || self.nodes.iter().any(runs)
    }

    /// Starts to copy an output.
    pub(super) fn fetch(&mut self, index: usize) {
        let Node { stage, planned, .. } = &self.nodes[index];
        let (Planned::Remote { key, artifact, .. }, Some(caches)) =
            (&planned.state, &self.options.remotes)
        else {
            panic!("stage `{}` is copied without being elsewhere", stage.name)
        };
        let reason = Reason::Remote { place: artifact.place.clone(), bytes: artifact.size() };
        let cancel = CancellationToken::new();
        let copy = Copy {
            artifact: Arc::clone(artifact),
            caches: Arc::clone(caches),
            store: self.store.clone(),
            events: self.sink(index),
            cancel: cancel.clone(),
        };
        let (key, kind) = (key.to_string(), planned.kind);
        (self.handler)(&Event::stage_started(&stage.name, kind, key, vec![reason]));
        match ThreadJob::start(cancel, move || copy.run()) {
            Ok(job) => self.nodes[index].status = Status::Running(Active::new(Box::new(job))),
            Err(error) => self.fall_back(index, &format!("no thread could be started: {error}")),
        }
    }

    /// Takes the outcome of a copy.
    pub(super) fn take_copied(
        &mut self,
        index: usize,
        outcome: JobOutcome,
        stopped: Option<StopCause>,
    ) -> Result<(), EngineError> {
        match (outcome, stopped) {
            (JobOutcome::Committed { digest, .. }, _) => {
                return self.take_artifact(index, &digest, true, Spent::default());
            }
            (_, Some(StopCause::Cancelled)) => {
                self.finish(index, StageEnd::Cancelled, Spent::default());
            }
            (_, Some(StopCause::TimedOut(limit))) => {
                self.fall_back(
                    index,
                    &format!("it takes longer than its timeout of {limit} seconds"),
                );
            }
            (JobOutcome::Failed { message, .. }, None) => self.fall_back(index, &message),
            _ => self.fall_back(index, "the copy was stopped"),
        }
        Ok(())
    }

    /// Lets a stage run, or tries the next cache, where its output can't be copied. The outputs of the
    /// stages below were found by what it was said to be, so these are looked up again.
    fn fall_back(&mut self, index: usize, reason: &str) {
        let node = &mut self.nodes[index];
        let name = node.stage.name.clone();
        let Planned::Remote { key, fingerprint, reasons, artifact } = &node.planned.state else {
            panic!("stage `{name}` falls back without being elsewhere")
        };
        let note = format!("the output of `{name}` in {} isn't used: {reason}", artifact.place);
        let (key, fingerprint, reasons) = (*key, fingerprint.clone(), reasons.clone());
        if let Some(caches) = &self.options.remotes {
            caches.refuse(artifact);
        }
        node.planned.state = match self.options.elsewhere(self.cancel).find(&key) {
            Some(artifact) => Planned::Remote { key, fingerprint, reasons, artifact },
            None => Planned::Dirty { key, fingerprint, reasons },
        };
        node.status = Status::Waiting;
        let notes = self.options.remotes.as_ref().map(|caches| caches.take_notes());
        self.warn([vec![note], notes.unwrap_or_default()].concat());
        self.forget_below(&name);
    }

    /// Lets the nodes below a stage that weren't started wait for its output.
    fn forget_below(&mut self, name: &str) {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let (below, is_elsewhere) = (node.stage.name.clone(), node.is_elsewhere());
            let is_dirty = matches!(node.planned.state, Planned::Dirty { .. });
            if needs(node.stage, name) && node.is_waiting() && (is_dirty || is_elsewhere) {
                self.forget_key(index, vec![name.to_owned()]);
                if is_elsewhere {
                    self.forget_below(&below);
                }
            }
        }
    }

    /// Says from where an output was copied, at the end of its log.
    pub(super) fn say_origin(&mut self, index: usize) {
        if let Some(remote) = self.nodes[index].planned.state.remote() {
            let text = format!("from {} ({})", remote.place, number::bytes(remote.size()));
            self.emit(index, StageEvent::Message { level: Level::Info, text });
        }
    }

    /// Ends the nodes whose outputs stay elsewhere: nothing runs any more that could need them.
    pub(super) fn leave_elsewhere(&mut self) -> Result<(), EngineError> {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let Some(remote) = node.planned.state.remote().filter(|_| node.is_waiting()).cloned()
            else {
                continue;
            };
            self.replay_log(index)?;
            let size = number::bytes(remote.size());
            let text = format!("stays in {} ({size}): no stage that runs needs it", remote.place);
            self.emit(index, StageEvent::Message { level: Level::Info, text });
            self.finish(index, StageEnd::Elsewhere(remote), Spent::default());
        }
        Ok(())
    }
}

/// The copy of an output.
struct Copy {
    artifact: Arc<RemoteArtifact>,
    caches: Arc<dyn RemoteCaches>,
    store: Store,
    events: EventSink,
    cancel: CancellationToken,
}

impl Copy {
    fn run(&self) -> JobOutcome {
        let mut keep_waiting = || !self.cancel.is_cancelled();
        let fetch =
            |folder: &Path| self.caches.fetch(&self.artifact, folder, &self.events, &self.cancel);
        let taken = self
            .check_room()
            .and_then(|()| self.store.take(&self.artifact, false, &mut keep_waiting, fetch));
        match taken {
            Ok(taken) => {
                JobOutcome::Committed { digest: taken.digest, hit: true, peak_memory: None }
            }
            Err(error) => error.into(),
        }
    }

    /// The sizes in a manifest are only said by the cache.
    fn check_room(&self) -> Result<(), StageError> {
        let (needed, free) = (self.artifact.size(), self.store.free_bytes());
        match free.filter(|free| needed > *free) {
            None => Ok(()),
            Some(free) => {
                let [needed, free] = [needed, free].map(number::bytes);
                Err(StageError::failed(format!("it takes {needed}, and only {free} are free")))
            }
        }
    }
}
