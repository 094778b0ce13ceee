//! Events emitted during a run, all serializable, and the cancellation token. The terminal,
//! `--json`, the logs that a cache hit replays and the run records all consume this one stream. A
//! leaf: knows neither the emitters nor the handlers.

mod cancel;
mod changes;
mod reason;
mod sink;
mod waiting;
mod writes;

pub use cancel::CancellationToken;
pub use changes::{FileChanges, Names};
pub use reason::{KeyValue, Reason};
pub use sink::{EventSink, Task};
pub use waiting::Waiting;
pub use writes::UndeclaredWrites;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The severity of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// A decision or a result.
    Info,
    /// Something is probably not as the user expects.
    Warning,
    Error,
}

/// An event emitted by a stage. It doesn't name the stage: a log belongs to a cache key and may be
/// replayed under another stage's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum StageEvent {
    /// The progress of a long task. Not logged.
    Progress {
        /// The task in one or two words: "decode", "epoch 3/20".
        task: String,
        done: u64,
        /// Units in total, if known.
        total: Option<u64>,
        /// The unit in the plural: "images", "steps".
        unit: String,
    },
    /// A measured, finite value.
    Scalar {
        /// The metric: "train/loss", "validation/accuracy".
        name: String,
        /// The step in the unit that the name implies (epochs, from 1).
        step: u64,
        value: f64,
    },
    /// How many things the stage handled.
    Count {
        /// In one word: "decoded" and "copied" images, or "examined" ones.
        name: String,
        value: u64,
    },
    /// The output was made for another key: the user vouched that the changes have no effect. The first
    /// event of such a stage.
    Accepted {
        /// The key whose build made it.
        key: String,
        /// The changes, one sentence each.
        changes: Vec<String>,
    },
    /// The same key had another output before, on the same kind of machine.
    NotReproducible {
        /// The first file that differs.
        file: String,
        /// The first difference: "differs from line 3 on: `1` became `2`".
        difference: String,
        /// The digest of the earlier artifact.
        earlier: String,
    },
    /// While the program of the stage ran, files changed that aren't its outputs.
    UndeclaredWrites(UndeclaredWrites),
    /// A message for the user.
    Message {
        level: Level,
        /// Without a trailing newline.
        text: String,
    },
}

/// The outcome of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageOutcome {
    /// It ran and its artifact was committed.
    Ran,
    /// It did not run: its artifact was in the store.
    Fresh,
    /// It ran and committed no artifact.
    Failed,
    /// It ran and was interrupted before its artifact was committed.
    Cancelled,
    /// It did not run because an upstream stage failed, or the run was cancelled.
    Skipped,
}

/// The outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Every requested stage has an artifact.
    Ok,
    Failed,
    Cancelled,
}

/// An event of a run: a line of `pipe run --json` and of a run's `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first event of every run.
    RunStarted {
        pipeline: String,
        /// The planned stages, in the order of the plan.
        stages: Vec<String>,
    },
    /// A stage starts to run.
    StageStarted {
        stage: String,
        kind: String,
        key: String,
        /// Why the stage isn't fresh, most important first: the texts of `reason_details`.
        reasons: Vec<String>,
        /// The same with code and values. Missing in records of earlier versions.
        #[serde(default)]
        reason_details: Vec<Reason>,
    },
    /// See [`StageEvent::Progress`].
    Progress {
        stage: String,
        task: String,
        done: u64,
        /// Units in total, if known.
        total: Option<u64>,
        unit: String,
    },
    /// See [`StageEvent::Scalar`].
    Scalar { stage: String, name: String, step: u64, value: f64 },
    /// See [`StageEvent::Count`].
    Count { stage: String, name: String, value: u64 },
    /// See [`StageEvent::Accepted`].
    Accepted { stage: String, key: String, changes: Vec<String> },
    /// See [`StageEvent::NotReproducible`].
    NotReproducible { stage: String, file: String, difference: String, earlier: String },
    /// See [`StageEvent::UndeclaredWrites`].
    UndeclaredWrites {
        stage: String,
        #[serde(flatten)]
        writes: UndeclaredWrites,
    },
    /// See [`StageEvent::Message`]. Without a stage if the executor emitted it.
    Message { stage: Option<String>, level: Level, text: String },
    /// A try of a stage failed in a way that may pass, and another one follows.
    StageRetried {
        stage: String,
        /// The number of the try that failed, from 1.
        attempt: u32,
        /// How many tries there are at most.
        attempts: u32,
        error: String,
        /// How long the try took.
        seconds: f64,
        /// Seconds until the next one.
        wait: f64,
        /// The next one's limit of memory in bytes, if it has one.
        memory: Option<u64>,
    },
    StageFinished {
        stage: String,
        outcome: StageOutcome,
        /// The cache key, if known.
        key: Option<String>,
        /// The digest of the artifact, if there is one.
        digest: Option<String>,
        /// Running time; 0 if the stage did not run.
        seconds: f64,
        /// The most memory that its process used, in bytes; none if it isn't known.
        #[serde(default)]
        peak_memory: Option<u64>,
        /// Why the stage failed or was skipped.
        error: Option<String>,
    },
    /// The last event of every run.
    RunFinished {
        /// The run's id. If nothing ran, the id of a recorded run with equal outputs.
        run: Option<String>,
        outcome: RunOutcome,
        /// Time since the first event.
        seconds: f64,
        /// The metrics of each evaluation: stage -> split -> metric.
        #[serde(default)]
        metrics: Metrics,
    },
}

/// Metrics by stage, split and name.
pub type Metrics = BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>>;

impl Event {
    pub fn stage_started(stage: &str, kind: &str, key: String, reasons: Vec<Reason>) -> Event {
        Event::StageStarted {
            stage: stage.to_owned(),
            kind: kind.to_owned(),
            key,
            reasons: reasons.iter().map(Reason::to_string).collect(),
            reason_details: reasons,
        }
    }
}

impl StageEvent {
    /// The event of a run with `stage` as its emitter.
    pub fn of_stage(self, stage: &str) -> Event {
        let stage = stage.to_owned();
        match self {
            StageEvent::Progress { task, done, total, unit } => {
                Event::Progress { stage, task, done, total, unit }
            }
            StageEvent::Scalar { name, step, value } => Event::Scalar { stage, name, step, value },
            StageEvent::Count { name, value } => Event::Count { stage, name, value },
            StageEvent::Accepted { key, changes } => Event::Accepted { stage, key, changes },
            StageEvent::NotReproducible { file, difference, earlier } => {
                Event::NotReproducible { stage, file, difference, earlier }
            }
            StageEvent::UndeclaredWrites(writes) => Event::UndeclaredWrites { stage, writes },
            StageEvent::Message { level, text } => {
                Event::Message { stage: Some(stage), level, text }
            }
        }
    }
}
