//! The difference between two runs: what was asked otherwise, what came out otherwise, and whether the one is better
//! than the other by more than chance. Everything serializes, for `--json`. Knows the form of metrics, not how they
//! are made, and nothing of how a difference is shown.

mod evaluation;
mod training;
mod values;

pub use evaluation::{ClassDiff, ClassSide, PairedDiff, SplitDiff, SplitSide};
pub use training::{TrainingDiff, TrainingSide};
pub use values::Change;

use super::{Record, Results, RunId, StageFacts, Status, Timestamp};
use crate::events::StageOutcome;
use serde::Serialize;

/// Two runs held against each other. "First" and "second" are as they were named; a difference is second - first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// The first run.
    pub first: Side,
    /// The second run.
    pub second: Side,
    /// Facts of the runs as wholes that differ: pipeline, seed, version, machine.
    pub settings: Vec<Change>,
    /// The stages that differ in any way, in the order of the second run's plan, those that only the first has last.
    pub stages: Vec<StageDiff>,
    /// Names of the stages that are the same in both: parameters, wiring and output.
    pub same_stages: Vec<String>,
    /// Training held against training, where both have a history.
    pub training: Vec<TrainingDiff>,
    /// Metrics side by side, a split each, the test split first.
    pub splits: Vec<SplitDiff>,
}

/// One of the two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// Its id.
    pub run: RunId,
    /// Its pipeline's name.
    pub pipeline: String,
    /// When it started.
    pub started: Timestamp,
    /// How it stands.
    pub status: Status,
    /// Seconds it took.
    pub seconds: f64,
}

/// Which of two runs has a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Both.
    Both,
    /// The first alone: it was removed.
    OnlyFirst,
    /// The second alone: it was added.
    OnlySecond,
}

/// One stage in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageDiff {
    /// Its name.
    pub stage: String,
    /// Which run has it.
    pub presence: Presence,
    /// Kind and wiring, where they differ: `kind`, `needs.data`.
    pub wiring: Vec<Change>,
    /// Parameters that differ, nested ones by their path: `head.dropout`.
    pub parameters: Vec<Change>,
    /// Whether the outputs differ; `None` where one of them has none.
    pub output_changed: Option<bool>,
    /// The digest of the first's output.
    pub first_digest: Option<String>,
    /// The digest of the second's output.
    pub second_digest: Option<String>,
    /// How it ended in the first.
    pub first_outcome: Option<StageOutcome>,
    /// How it ended in the second.
    pub second_outcome: Option<StageOutcome>,
}

impl Diff {
    /// Whether both runs asked for the same and got the same.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.stages.is_empty()
    }
}

/// Holds two runs against each other.
pub fn diff(first: &Results, second: &Results) -> Diff {
    let (a, b) = (first.record(), second.record());
    let (stages, same_stages) = stages(a, b);
    Diff {
        first: Side::of(a),
        second: Side::of(b),
        settings: settings(a, b),
        stages,
        same_stages,
        training: training::diff(first, second),
        splits: evaluation::diff(first, second),
    }
}

impl Side {
    fn of(record: &Record) -> Side {
        Side {
            run: record.id.clone(),
            pipeline: record.pipeline.clone(),
            started: record.started,
            status: record.status,
            seconds: record.seconds,
        }
    }
}

fn settings(a: &Record, b: &Record) -> Vec<Change> {
    let facts = |record: &Record| {
        let machine = &record.machine;
        serde_json::json!({
            "pipeline": record.pipeline,
            "file": record.file,
            "seed": record.seed,
            "version": record.version,
            "machine": { "target": machine.target, "simd": machine.simd, "device": machine.device },
        })
    };
    values::changes(Some(&facts(a)), Some(&facts(b)))
}

/// The stages that differ, and the names of those that don't.
fn stages(a: &Record, b: &Record) -> (Vec<StageDiff>, Vec<String>) {
    let in_second = b.stages.iter().map(|stage| (a.stage(&stage.stage), Some(stage)));
    let only_first = a
        .stages
        .iter()
        .filter(|stage| b.stage(&stage.stage).is_none())
        .map(|stage| (Some(stage), None));
    let all = in_second.chain(only_first).filter_map(|(first, second)| stage_diff(first, second));
    let (differing, same): (Vec<StageDiff>, Vec<StageDiff>) = all.partition(StageDiff::differs);
    (differing, same.into_iter().map(|stage| stage.stage).collect())
}

fn stage_diff(first: Option<&StageFacts>, second: Option<&StageFacts>) -> Option<StageDiff> {
    let presence = match (first, second) {
        (Some(_), Some(_)) => Presence::Both,
        (Some(_), None) => Presence::OnlyFirst,
        (None, Some(_)) => Presence::OnlySecond,
        (None, None) => return None,
    };
    let wiring =
        |stage: &StageFacts| serde_json::json!({ "kind": stage.kind, "needs": stage.needs });
    let parameters = |stage: &StageFacts| serde_json::Value::Object(stage.parameters.clone());
    let digest = |stage: Option<&StageFacts>| stage.and_then(|stage| stage.digest.clone());
    let (first_digest, second_digest) = (digest(first), digest(second));
    Some(StageDiff {
        stage: second.or(first)?.stage.clone(),
        presence,
        wiring: values::changes(first.map(wiring).as_ref(), second.map(wiring).as_ref()),
        parameters: values::changes(
            first.map(parameters).as_ref(),
            second.map(parameters).as_ref(),
        ),
        output_changed: first_digest.as_ref().zip(second_digest.as_ref()).map(|(a, b)| a != b),
        first_digest,
        second_digest,
        first_outcome: first.and_then(|stage| stage.outcome),
        second_outcome: second.and_then(|stage| stage.outcome),
    })
}

impl StageDiff {
    /// Whether there is anything to tell. That it ran in one and was fresh in the other is nothing.
    fn differs(&self) -> bool {
        self.presence != Presence::Both
            || !self.wiring.is_empty()
            || !self.parameters.is_empty()
            || self.first_digest != self.second_digest
    }
}
