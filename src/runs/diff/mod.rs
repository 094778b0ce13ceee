//! Compares two runs: changed parameters, changed outputs, and whether the difference in metrics is
//! statistically significant. The result serializes, for `--json`; rendering it is up to others.

mod confusions;
mod data;
mod evaluation;
mod images;
mod legend;
mod notes;
mod training;
mod values;
mod verdict;

pub use confusions::ConfusionDiff;
pub use data::{DataDiff, Moved};
pub use evaluation::{ClassDiff, ClassScores, PairedTest, SplitDiff, SplitSummary};
pub use images::{ChangedImage, ChangedImages, ClassTest};
pub use legend::legends;
pub use training::{TrainingDiff, TrainingSummary};
pub use values::Change;
pub use verdict::Verdict;

use super::{Record, Results, RunId, StageRecord, StageState, Status, Timestamp};
use crate::events::StageOutcome;
use serde::Serialize;

/// The comparison of two runs. A difference is second - first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    pub first: RunSummary,
    pub second: RunSummary,
    /// Sentences about what is missing on a side, or damaged.
    pub notes: Vec<String>,
    /// Changed properties of the run as a whole: pipeline, seed, version, machine.
    pub settings: Vec<Change>,
    /// The stages that differ, in the order of the second run's plan, then those that only the
    /// first run has.
    pub stages: Vec<StageDiff>,
    /// Names of the stages with the same parameters, inputs and output.
    pub same_stages: Vec<String>,
    /// The output and the run time of every stage, the stages of the second run first.
    pub outputs: Vec<StageOutputs>,
    /// Preprocessing stages with other images, labels or splits.
    pub data: Vec<DataDiff>,
    /// Trainings with a history in both runs.
    pub training: Vec<TrainingDiff>,
    /// Metrics by split, the test split first.
    pub splits: Vec<SplitDiff>,
}

/// One of the two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunSummary {
    pub run: RunId,
    pub pipeline: String,
    pub started: Timestamp,
    pub status: Status,
    pub seconds: f64,
}

/// The runs that have a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    Both,
    /// It was removed.
    OnlyFirst,
    /// It was added.
    OnlySecond,
}

/// What one stage made in both runs, and how long that took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageOutputs {
    pub stage: String,
    /// `None` where the run doesn't have the stage.
    pub first: Option<StageOutput>,
    pub second: Option<StageOutput>,
}

/// What one stage made in one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageOutput {
    pub state: StageState,
    /// The digest of the artifact, 64 hex digits.
    pub digest: Option<String>,
    /// The run time; `None` if it didn't run.
    pub seconds: Option<f64>,
    pub images_per_second: Option<f64>,
    /// In bytes.
    pub peak_memory: Option<u64>,
}

/// One stage in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageDiff {
    pub stage: String,
    pub presence: Presence,
    /// Changes of kind and inputs: `kind`, `needs.data`.
    pub wiring: Vec<Change>,
    /// Changed parameters, nested ones by path: `head.dropout`.
    pub parameters: Vec<Change>,
    /// Whether the outputs differ; `None` unless both have one.
    pub output_changed: Option<bool>,
    pub first_digest: Option<String>,
    pub second_digest: Option<String>,
    pub first_outcome: Option<StageOutcome>,
    pub second_outcome: Option<StageOutcome>,
}

impl Diff {
    /// Whether settings, stages and outputs are the same in both runs.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.stages.is_empty()
    }

    /// Whether the second run is worse, statistically significant: overall, or in a class.
    pub fn is_worse(&self) -> bool {
        let class_is_worse = |class: &ClassDiff| class.paired.is_some_and(|test| test.is_worse());
        self.splits.iter().filter(|split| split.allows_verdict()).any(|split| {
            split.verdict == Verdict::Worse || split.classes.iter().any(class_is_worse)
        })
    }
}

/// Compares two runs.
pub fn diff(first: &Results, second: &Results) -> Diff {
    let (a, b) = (first.record(), second.record());
    let (stages, same_stages) = stages(a, b);
    let runs = [first, second];
    let (evaluations, histories) = (runs.map(Results::evaluations), runs.map(Results::histories));
    let read = [0, 1].map(|side| notes::Read {
        evaluations: names(&evaluations[side]),
        histories: names(&histories[side]),
    });
    let splits = evaluation::diff(runs, evaluations);
    Diff {
        first: RunSummary::of(a),
        second: RunSummary::of(b),
        notes: notes::notes(runs, &read, &splits),
        settings: settings(a, b),
        stages,
        same_stages,
        outputs: outputs(a, b),
        data: data::diff(first, second),
        training: training::diff(runs, histories),
        splits,
    }
}

fn names<T>(results: &[(&StageRecord, T)]) -> Vec<String> {
    results.iter().map(|(stage, _)| stage.stage.clone()).collect()
}

impl RunSummary {
    fn of(record: &Record) -> RunSummary {
        RunSummary {
            run: record.id.clone(),
            pipeline: record.pipeline.clone(),
            started: record.started,
            status: record.status,
            seconds: record.seconds,
        }
    }
}

fn settings(a: &Record, b: &Record) -> Vec<Change> {
    let settings = |record: &Record| {
        let machine = &record.machine;
        serde_json::json!({
            "pipeline": record.pipeline,
            "file": record.file,
            "seed": record.seed,
            "version": record.version,
            "machine": {
                "target": machine.target,
                "simd": machine.simd,
                "device": machine.device,
                "libraries": machine.libraries,
            },
            "repository": record.repository,
        })
    };
    values::changes(Some(&settings(a)), Some(&settings(b)))
}

/// The changes that the user made from one run of a pipeline to another: parameters as
/// `train.epochs`, wiring, the seed, and, as `fetch.content`, the content of a source whose
/// parameters are the same.
pub fn changes(a: &Record, b: &Record) -> Vec<Change> {
    let seed = |record: &Record| serde_json::json!({ "seed": record.seed });
    let mut changes = values::changes(Some(&seed(a)), Some(&seed(b)));
    for stage in stages(a, b).0 {
        let is_source = b.stage(&stage.stage).is_some_and(|stage| stage.needs.is_empty());
        let digests = (stage.first_digest, stage.second_digest);
        let is_same = stage.wiring.is_empty() && stage.parameters.is_empty();
        let of_stage = stage.wiring.into_iter().chain(stage.parameters);
        let named =
            |change: Change| Change { key: format!("{}.{}", stage.stage, change.key), ..change };
        changes.extend(of_stage.map(named));
        if let (true, true, (Some(first), Some(second))) = (is_source, is_same, digests) {
            let short = |digest: String| digest.chars().take(12).collect::<String>().into();
            let key = format!("{}.content", stage.stage);
            changes.push(Change { key, first: Some(short(first)), second: Some(short(second)) });
        }
    }
    changes
}

/// The stages of either run: those of the second one in the order of its plan, then those that only
/// the first one has.
fn paired<'a>(
    a: &'a Record,
    b: &'a Record,
) -> impl Iterator<Item = (Option<&'a StageRecord>, Option<&'a StageRecord>)> {
    let in_second = b.stages.iter().map(|stage| (a.stage(&stage.stage), Some(stage)));
    let is_gone = |stage: &&StageRecord| b.stage(&stage.stage).is_none();
    in_second.chain(a.stages.iter().filter(is_gone).map(|stage| (Some(stage), None)))
}

fn outputs(a: &Record, b: &Record) -> Vec<StageOutputs> {
    let output = |record: &Record, stage: &StageRecord| StageOutput {
        state: record.state(stage),
        digest: stage.digest.clone(),
        seconds: Some(stage.seconds).filter(|seconds| *seconds > 0.0),
        images_per_second: stage.images_per_second,
        peak_memory: stage.peak_memory,
    };
    let all = paired(a, b).filter_map(|(first, second)| {
        Some(StageOutputs {
            stage: second.or(first)?.stage.clone(),
            first: first.map(|stage| output(a, stage)),
            second: second.map(|stage| output(b, stage)),
        })
    });
    all.collect()
}

/// The stages that differ, and the names of the others.
fn stages(a: &Record, b: &Record) -> (Vec<StageDiff>, Vec<String>) {
    let all = paired(a, b).filter_map(|(first, second)| stage_diff(first, second));
    let (differing, same): (Vec<StageDiff>, Vec<StageDiff>) = all.partition(StageDiff::differs);
    (differing, same.into_iter().map(|stage| stage.stage).collect())
}

fn stage_diff(first: Option<&StageRecord>, second: Option<&StageRecord>) -> Option<StageDiff> {
    let presence = match (first, second) {
        (Some(_), Some(_)) => Presence::Both,
        (Some(_), None) => Presence::OnlyFirst,
        (None, Some(_)) => Presence::OnlySecond,
        (None, None) => return None,
    };
    let wiring =
        |stage: &StageRecord| serde_json::json!({ "kind": stage.kind, "needs": stage.needs });
    let parameters = |stage: &StageRecord| serde_json::Value::Object(stage.parameters.clone());
    let digest = |stage: Option<&StageRecord>| stage.and_then(|stage| stage.digest.clone());
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
    /// Whether the stage differs. Its outcome doesn't count: it may have run in one and been fresh
    /// in the other.
    fn differs(&self) -> bool {
        self.presence != Presence::Both
            || !self.wiring.is_empty()
            || !self.parameters.is_empty()
            || self.first_digest != self.second_digest
    }
}
