//! What becomes of a node whose job failed: it waits for its next try, if the failure may pass and
//! tries are left, or it is done.

use super::Executor;
use super::node::{Node, Spent, StageEnd, Status};
use crate::events::Event;
use std::time::Instant;

/// Why a job failed.
pub(super) struct JobFailure {
    pub(super) error: String,
    /// Whether it may pass by itself.
    pub(super) is_temporary: bool,
}

impl Executor<'_> {
    /// Ends a node whose job failed, or lets it wait for its next try.
    pub(super) fn fail(&mut self, index: usize, failure: JobFailure, spent: Spent) {
        let JobFailure { error, is_temporary } = failure;
        let Node { stage, tries, .. } = &self.nodes[index];
        let (attempt, attempts) = (tries.failed + 1, stage.retries.times.saturating_add(1));
        if attempt >= attempts || !is_temporary || self.is_ending() {
            let error = if attempt > 1 { numbered(attempt, attempts, &error) } else { error };
            self.finish(index, StageEnd::Failed(error), spent);
            return;
        }
        let wait = stage.retries.wait_after(attempt);
        let stage = stage.name.clone();
        let node = &mut self.nodes[index];
        node.status = Status::Waiting;
        node.tries.failed = attempt;
        node.tries.next = Some(Instant::now() + wait);
        node.tries.last = Some((error.clone(), spent));
        let memory = self.memory_limit(index);
        (self.handler)(&Event::StageRetried {
            stage,
            attempt,
            attempts,
            error,
            seconds: spent.seconds,
            wait: wait.as_secs_f64(),
            memory,
        });
    }

    /// Whether no stage starts any more.
    fn is_ending(&self) -> bool {
        let has_failed = |node: &Node| matches!(node.end(), Some(StageEnd::Failed(_)));
        self.cancel.is_cancelled() || !self.options.keep_going && self.nodes.iter().any(has_failed)
    }

    /// Ends a node that isn't started any more, for a reason. One that waited for its next try was
    /// interrupted, or failed.
    pub(super) fn skip(&mut self, index: usize, reason: String) {
        let tries = &mut self.nodes[index].tries;
        let failed = tries.failed;
        let (end, spent) = match tries.last.take() {
            None => (StageEnd::Skipped(reason), Spent::default()),
            Some((_, spent)) if self.cancel.is_cancelled() => (StageEnd::Cancelled, spent),
            Some((error, spent)) => {
                let attempts = self.nodes[index].stage.retries.times.saturating_add(1);
                let error = numbered(failed, attempts, &error);
                (StageEnd::Failed(format!("{error}\nnot tried again: {reason}")), spent)
            }
        };
        self.finish(index, end, spent);
    }
}

fn numbered(attempt: u32, attempts: u32, error: &str) -> String {
    format!("try {attempt} of {attempts}: {error}")
}
