//! What is told while things run, as plain serializable facts, and the one thing told the other way: a wish to stop.
//! The terminal, `--json`, the logs that a cache hit replays and the record of a run all read this one stream. A leaf:
//! knows neither who tells nor who listens.

mod cancel;
mod sink;

pub use cancel::CancellationToken;
pub use sink::{EventSink, Task};

use serde::{Deserialize, Serialize};

/// How grave a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Worth knowing: a decision that was taken, a result.
    Info,
    /// Something is probably not as the user thinks.
    Warning,
    /// Something failed.
    Error,
}

/// What a stage tells. It carries no stage's name: a log belongs to a cache key, and may be replayed under another name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Told {
    /// How far a long task is. Not kept in logs.
    Progress {
        /// What is being done, in one or two words: "decode", "epoch 3/20".
        task: String,
        /// Units done so far.
        done: u64,
        /// Units in all, where known.
        total: Option<u64>,
        /// The unit, plural: "images", "steps".
        unit: String,
    },
    /// One measured number. Finite.
    Scalar {
        /// What was measured: "train/loss", "validation/accuracy".
        name: String,
        /// When, counted in the unit that the name implies (epochs, from 1).
        step: u64,
        /// The value.
        value: f64,
    },
    /// A sentence for the user.
    Message {
        /// How grave it is.
        level: Level,
        /// The sentence, without a trailing newline.
        text: String,
    },
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageOutcome {
    /// It ran and its artifact was committed.
    Ran,
    /// Its artifact was there already.
    Fresh,
    /// It ran and failed; there is no artifact.
    Failed,
    /// It did not run: something above it failed, or the run was cancelled.
    Skipped,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Every stage asked for is there.
    Ok,
    /// A stage failed.
    Failed,
    /// The user asked to stop.
    Cancelled,
}

/// One fact of a run: a line of `pipe run --json` and of a run's `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first event of every run.
    RunStarted {
        /// The pipeline's name.
        pipeline: String,
        /// The stages asked for, in the order of the plan.
        stages: Vec<String>,
    },
    /// A stage that has to run begins.
    StageStarted {
        /// The stage.
        stage: String,
        /// Its kind.
        kind: String,
        /// Its cache key.
        key: String,
        /// Why it isn't fresh, most telling first.
        reasons: Vec<String>,
    },
    /// See [`Told::Progress`].
    Progress {
        /// The stage that tells.
        stage: String,
        /// What is being done.
        task: String,
        /// Units done so far.
        done: u64,
        /// Units in all, where known.
        total: Option<u64>,
        /// The unit, plural.
        unit: String,
    },
    /// See [`Told::Scalar`].
    Scalar {
        /// The stage that tells.
        stage: String,
        /// What was measured.
        name: String,
        /// When.
        step: u64,
        /// The value.
        value: f64,
    },
    /// See [`Told::Message`]; without a stage where the executor speaks.
    Message {
        /// The stage that tells.
        stage: Option<String>,
        /// How grave it is.
        level: Level,
        /// The sentence.
        text: String,
    },
    /// A stage ended.
    StageFinished {
        /// The stage.
        stage: String,
        /// How it ended.
        outcome: StageOutcome,
        /// Its cache key, where it came to be known.
        key: Option<String>,
        /// The digest of its artifact, where there is one.
        digest: Option<String>,
        /// Seconds it ran; 0 where it did not.
        seconds: f64,
        /// Why it failed or was skipped.
        error: Option<String>,
    },
    /// The last event of every run.
    RunFinished {
        /// The run's id; where nothing ran, the id of the run it equals, if that is on record.
        run: Option<String>,
        /// How it ended.
        outcome: RunOutcome,
        /// Seconds from the first event to this one.
        seconds: f64,
    },
}

impl Told {
    /// The same fact, told by `stage`.
    pub fn by(self, stage: &str) -> Event {
        let stage = stage.to_owned();
        match self {
            Told::Progress { task, done, total, unit } => {
                Event::Progress { stage, task, done, total, unit }
            }
            Told::Scalar { name, step, value } => Event::Scalar { stage, name, step, value },
            Told::Message { level, text } => Event::Message { stage: Some(stage), level, text },
        }
    }
}
