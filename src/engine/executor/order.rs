//! Which of the ready stages start: those that fit into what is free, in an order that follows from
//! the plan alone.

use super::node::{Node, Status};
use super::{Action, Executor};
use crate::engine::resources::{Amounts, choose};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

impl Executor<'_> {
    /// The nodes that start now.
    pub(super) fn starting(&self) -> BTreeSet<usize> {
        let is_ready = |index: &usize| matches!(self.next_action(*index), Action::Start);
        let ready: Vec<usize> = self.line.iter().copied().filter(is_ready).collect();
        let asked: Vec<Amounts> = ready.iter().map(|index| self.amounts(*index)).collect();
        let running = self.nodes.iter().filter(|node| node.is_running()).count();
        let places = self.options.jobs.max(1).saturating_sub(running);
        choose(&asked, self.free(), places).into_iter().map(|at| ready[at]).collect()
    }

    /// The limit of a node's memory in bytes.
    pub(super) fn memory_limit(&self, index: usize) -> Option<u64> {
        let Node { stage, tries, .. } = &self.nodes[index];
        stage.resources.memory_at(tries.failed, stage.retries.memory, self.budget)
    }

    /// What a node takes while it runs: never more than there is, so that it starts at last.
    pub(super) fn amounts(&self, index: usize) -> Amounts {
        let asked = self.nodes[index].stage.resources.amounts(self.memory_limit(index));
        asked.within(self.budget)
    }

    fn free(&self) -> Amounts {
        let taken = self.nodes.iter().filter_map(|node| match &node.status {
            Status::Running(active) => Some(active.taken),
            Status::Waiting | Status::Done { .. } => None,
        });
        taken.fold(self.budget, Amounts::without)
    }

    /// The first GPUs that no running stage has.
    pub(super) fn free_gpus(&self, count: u64) -> Vec<String> {
        let is_taken = |gpu: &&String| {
            self.nodes.iter().any(|node| match &node.status {
                Status::Running(active) => active.gpus.contains(gpu),
                Status::Waiting | Status::Done { .. } => false,
            })
        };
        let free = self.options.gpus.iter().filter(|gpu| !is_taken(gpu));
        free.take(usize::try_from(count).unwrap_or(usize::MAX)).cloned().collect()
    }
}

/// The order in which ready nodes start: that of the plan, or, where stages ask for resources, those
/// below which the longest chain of stages waits before others.
pub(super) fn line(nodes: &[Node]) -> Vec<usize> {
    let mut line: Vec<usize> = (0..nodes.len()).collect();
    if nodes.iter().any(|node| !node.stage.resources.is_empty()) {
        let below = chains(nodes);
        line.sort_by_key(|index| Reverse(below[*index]));
    }
    line
}

/// The number of stages on the longest chain below each node.
fn chains(nodes: &[Node]) -> Vec<usize> {
    let names = nodes.iter().enumerate().map(|(index, node)| (node.stage.name.as_str(), index));
    let indices: BTreeMap<&str, usize> = names.collect();
    let mut below = vec![0; nodes.len()];
    // Each node comes after those that it needs.
    for (index, node) in nodes.iter().enumerate().rev() {
        for above in node.stage.needs.values().filter_map(|name| indices.get(name.as_str())) {
            below[*above] = below[*above].max(below[index] + 1);
        }
    }
    below
}
