//! Damage found while a run goes on: the stages whose artifacts are damaged run again, each at most
//! once, and then those that need them.

use super::Executor;
use super::node::{Node, Spent, StageEnd, Status};
use crate::engine::lookup::Planned;
use crate::events::Reason;
use std::time::Instant;

impl Executor<'_> {
    /// Takes back the start of a stage whose inputs `roles` are damaged, and lets the stages that
    /// feed them run again.
    pub(super) fn rebuild_inputs(
        &mut self,
        index: usize,
        roles: &[String],
        notes: Vec<String>,
        seconds: f64,
    ) {
        let reason = notes.first().cloned();
        self.warn(notes);
        let Node { stage, status: Status::Running(active), .. } = &self.nodes[index] else {
            panic!("stage `{}` has an outcome without running", self.nodes[index].stage.name)
        };
        let (stage, start) = (*stage, active.start);
        let feeders: Vec<&String> = roles.iter().filter_map(|role| stage.needs.get(role)).collect();
        for name in &feeders {
            if !self.rebuild(name, start, reason.as_deref()) {
                let error = format!(
                    "the output of `{name}` was damaged again after it was rebuilt: check the disk and its memory"
                );
                self.finish(index, StageEnd::Failed(error), Spent { seconds, peak_memory: None });
                return;
            }
        }
        self.forget_key(index, feeders.into_iter().cloned().collect());
    }

    /// Lets a stage that is done run again, since its output was damaged for a job that started at
    /// `start`. Returns false if it was rebuilt before that.
    fn rebuild(&mut self, name: &str, start: Instant, reason: Option<&str>) -> bool {
        let position = self.nodes.iter().position(|node| node.stage.name == name);
        let index = position.expect("a plan contains all that its stages need");
        let node = &self.nodes[index];
        let artifact = node.end().and_then(StageEnd::artifact);
        let (Some(artifact), Some((key, fingerprint))) = (artifact, node.key()) else {
            // It is being rebuilt for another stage, or that failed.
            return true;
        };
        match self.rebuilt.get(&index) {
            Some(rebuilt) if *rebuilt < start => return false,
            // The job read the earlier output, which was rebuilt for another stage meanwhile.
            Some(_) if matches!(self.store.artifact(&artifact.digest), Ok(Some(_))) => return true,
            _ => {}
        }
        let message = reason.unwrap_or("its artifact disappeared from the store").to_owned();
        let reasons = vec![Reason::ArtifactDamaged { message }];
        let state = Planned::Dirty { key: *key, fingerprint: fingerprint.clone(), reasons };
        let node = &mut self.nodes[index];
        node.planned.state = state;
        node.status = Status::Waiting;
        self.rebuilt.insert(index, Instant::now());
        self.warn(self.store.take_notes());
        for waiting in self.waiting_for(name) {
            self.forget_key(waiting, vec![name.to_owned()]);
        }
        true
    }

    /// The nodes with a key that haven't started and need the output of a stage.
    fn waiting_for(&self, name: &str) -> Vec<usize> {
        let needs_it = |node: &Node| {
            let is_dirty = matches!(node.planned.state, Planned::Dirty { .. });
            node.is_waiting() && is_dirty && node.stage.needs.values().any(|need| need == name)
        };
        (0..self.nodes.len()).filter(|&index| needs_it(&self.nodes[index])).collect()
    }

    /// Lets a node wait for stages that run again: its key depends on their new outputs.
    pub(super) fn forget_key(&mut self, index: usize, below: Vec<String>) {
        let Node { stage, planned, status, .. } = &mut self.nodes[index];
        let state = std::mem::replace(&mut planned.state, Planned::Pending { below });
        if let Planned::Dirty { key, fingerprint, reasons }
        | Planned::Remote { key, fingerprint, reasons, .. } = state
        {
            planned.earlier.push((stage.name.clone(), fingerprint));
            self.reasons.insert(index, (key, reasons));
        }
        *status = Status::Waiting;
    }
}
