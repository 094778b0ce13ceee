//! The execution state of a planned stage, and the report of a run.

use crate::config::Values;
use crate::engine::Acceptance;
use crate::engine::fingerprint::Fingerprint;
use crate::engine::graph::{Graph, Stage};
use crate::engine::launcher::RunningJob;
use crate::engine::plan::PlannedStage;
use crate::engine::resources::Amounts;
use crate::events::{RunOutcome, StageOutcome};
use crate::store::{Artifact, Digest, RemoteArtifact};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The report of a run.
#[derive(Debug)]
pub struct Report {
    pub outcome: RunOutcome,
    /// The stages in the order of the plan.
    pub stages: Vec<StageReport>,
    pub seconds: f64,
}

impl Report {
    /// The stages for which this run took an earlier output.
    pub fn accepted(&self) -> impl Iterator<Item = &StageReport> {
        let is_new = |stage: &&StageReport| stage.accepted.as_ref().is_some_and(Acceptance::is_new);
        self.stages.iter().filter(is_new)
    }
}

/// The report of a stage.
#[derive(Clone, Debug)]
pub struct StageReport {
    pub stage: String,
    pub kind: &'static str,
    /// Role -> name of the stage that feeds it.
    pub needs: BTreeMap<String, String>,
    pub outcome: StageOutcome,
    /// The cache key, if it became known.
    pub key: Option<Digest>,
    /// The digest of the artifact.
    pub digest: Option<Digest>,
    /// None if there is none, or if it stays in a cache elsewhere.
    pub artifact: Option<Artifact>,
    /// The output in a cache elsewhere, whether or not it was copied from there.
    pub remote: Option<Arc<RemoteArtifact>>,
    /// What the user vouched for, if the output was made by another key.
    pub accepted: Option<Acceptance>,
    /// The fingerprint, if it became known.
    pub fingerprint: Option<Fingerprint>,
    pub values: Values,
    /// Running time; 0 if the stage did not run.
    pub seconds: f64,
    /// Why the stage failed or was skipped.
    pub error: Option<String>,
}

/// A stage of the plan with its execution state.
pub(super) struct Node<'a> {
    pub(super) stage: &'a Stage,
    pub(super) planned: PlannedStage,
    pub(super) status: Status,
    pub(super) tries: Tries,
}

/// The tries of a node that failed.
#[derive(Default)]
pub(super) struct Tries {
    pub(super) failed: u32,
    /// When the next one starts, if that is waited for.
    pub(super) next: Option<Instant>,
    /// The error of the last one, and what it took.
    pub(super) last: Option<(String, Spent)>,
}

pub(super) enum Status {
    Waiting,
    Running(Active),
    Done { end: StageEnd, spent: Spent },
}

/// Time and memory that a stage took.
#[derive(Clone, Copy, Default)]
pub(super) struct Spent {
    pub(super) seconds: f64,
    /// In bytes.
    pub(super) peak_memory: Option<u64>,
}

/// A running job.
pub(super) struct Active {
    pub(super) job: Box<dyn RunningJob>,
    pub(super) start: Instant,
    /// The amounts that it takes of the run's.
    pub(super) taken: Amounts,
    /// Those of the run's GPUs that it has.
    pub(super) gpus: Vec<String>,
    pub(super) memory: Option<MemoryWatch>,
    /// When and why it was asked to stop.
    pub(super) stopped: Option<(Instant, StopCause)>,
    pub(super) killed: bool,
}

/// Compares what a job uses with its limit.
pub(super) struct MemoryWatch {
    /// In bytes.
    pub(super) limit: u64,
    pub(super) last: Instant,
}

#[derive(Clone, Copy)]
pub(super) enum StopCause {
    Cancelled,
    /// The timeout in seconds.
    TimedOut(f64),
    /// It used more memory than its limit; both in bytes.
    TooMuchMemory {
        used: u64,
        limit: u64,
    },
}

/// How a stage ended.
pub(super) enum StageEnd {
    Ran(Artifact),
    Fresh(Artifact),
    /// The artifact stays in a cache elsewhere: no stage that runs needs it.
    Elsewhere(Arc<RemoteArtifact>),
    /// With the error.
    Failed(String),
    /// Interrupted by the user.
    Cancelled,
    /// With the reason.
    Skipped(String),
}

impl StageEnd {
    pub(super) fn outcome(&self) -> StageOutcome {
        match self {
            StageEnd::Ran(_) => StageOutcome::Ran,
            StageEnd::Fresh(_) | StageEnd::Elsewhere(_) => StageOutcome::Fresh,
            StageEnd::Failed(_) => StageOutcome::Failed,
            StageEnd::Cancelled => StageOutcome::Cancelled,
            StageEnd::Skipped(_) => StageOutcome::Skipped,
        }
    }

    pub(super) fn artifact(&self) -> Option<&Artifact> {
        match self {
            StageEnd::Ran(artifact) | StageEnd::Fresh(artifact) => Some(artifact),
            _ => None,
        }
    }

    /// The digest of the artifact, wherever it is.
    pub(super) fn digest(&self) -> Option<Digest> {
        match self {
            StageEnd::Elsewhere(remote) => Some(remote.digest),
            end => end.artifact().map(|artifact| artifact.digest),
        }
    }

    /// Why the stage failed or was skipped.
    pub(super) fn error(&self) -> Option<&str> {
        match self {
            StageEnd::Ran(_)
            | StageEnd::Fresh(_)
            | StageEnd::Elsewhere(_)
            | StageEnd::Cancelled => None,
            StageEnd::Failed(error) | StageEnd::Skipped(error) => Some(error),
        }
    }
}

impl<'a> Node<'a> {
    pub(super) fn new(graph: &'a Graph, planned: PlannedStage) -> Node<'a> {
        let stage = graph.stage(&planned.name).expect("a plan is executed with its own graph");
        Node { stage, planned, status: Status::Waiting, tries: Tries::default() }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.status, Status::Waiting)
    }

    /// Whether its output is in a cache elsewhere, and nothing was decided about it yet.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.is_waiting() && self.planned.state.remote().is_some()
    }

    /// Whether it failed and waits for its next try.
    pub(super) fn is_delayed(&self) -> bool {
        self.is_waiting() && self.tries.next.is_some()
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.status, Status::Running(_))
    }

    /// How the stage ended. None if it hasn't.
    pub(super) fn end(&self) -> Option<&StageEnd> {
        match &self.status {
            Status::Done { end, .. } => Some(end),
            Status::Waiting | Status::Running(_) => None,
        }
    }

    /// The cache key and the fingerprint, if they are known.
    pub(super) fn key(&self) -> Option<(&Digest, &Fingerprint)> {
        self.planned.state.key()
    }

    fn report(self) -> StageReport {
        let Status::Done { end, spent } = &self.status else {
            panic!("stage `{}` is not done at the end of the run", self.stage.name)
        };
        StageReport {
            stage: self.stage.name.clone(),
            kind: self.planned.kind,
            needs: self.stage.needs.clone(),
            outcome: end.outcome(),
            key: self.key().map(|(key, _)| *key),
            digest: end.digest(),
            artifact: end.artifact().cloned(),
            remote: self.planned.state.remote().cloned(),
            accepted: self.planned.state.accepted().cloned(),
            fingerprint: self.key().map(|(_, fingerprint)| fingerprint.clone()),
            values: self.stage.values.clone(),
            seconds: spent.seconds,
            error: end.error().map(str::to_owned),
        }
    }
}

impl Report {
    /// The report of nodes that are all done.
    pub(super) fn of(nodes: Vec<Node>, is_cancelled: bool, time: Duration) -> Report {
        let stages: Vec<StageReport> = nodes.into_iter().map(Node::report).collect();
        let any = |outcome| stages.iter().any(|stage| stage.outcome == outcome);
        let stopped = any(StageOutcome::Cancelled) || any(StageOutcome::Skipped);
        let outcome = if stopped && is_cancelled {
            RunOutcome::Cancelled
        } else if any(StageOutcome::Failed) {
            RunOutcome::Failed
        } else {
            RunOutcome::Ok
        };
        Report { outcome, stages, seconds: time.as_secs_f64() }
    }
}
