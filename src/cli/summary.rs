//! The summary printed when a run ends: metrics, paths of report and model, and what to try next.
//! Reads the run's record and its artifacts.

use super::failure::Failure;
use super::shared::{shell_word, shown};
use crate::common::number;
use crate::common::words::and_list;
use crate::engine::{Report, StageReport};
use crate::events::{Metrics, RunOutcome, StageOutcome};
use crate::metrics::Evaluation;
use crate::runs::{self, Record, Results, RunId, StageRecord, Status};
use crate::stages::{KINDS, makes_models};
use crate::store::{Artifact, Store};
use crate::ui::{self, Style};
use std::path::{Path, PathBuf};

/// The HTML report, in the run's folder.
pub(super) const REPORT: &str = "report.html";
/// The trained model, in the artifact of a train stage.
pub(super) const MODEL: &str = "model.safetensors";
/// The metrics, in the artifact of an evaluate stage.
pub(super) const METRICS: &str = "metrics.json";
/// The predictions, in the artifact of an evaluate stage.
pub(super) const PREDICTIONS: &str = "predictions.csv";

/// The column in which facts begin.
const FACTS: usize = 13;

/// The record of what a run put out.
pub(super) enum Recorded {
    /// It was recorded by this run.
    Now(RunId),
    /// No stage ran, and an earlier run has the same outputs.
    Before(RunId),
    Nowhere,
}

impl Recorded {
    pub(super) fn id(&self) -> Option<&RunId> {
        match self {
            Recorded::Now(id) | Recorded::Before(id) => Some(id),
            Recorded::Nowhere => None,
        }
    }
}

/// Prints the summary of a run that is on record as `recorded`.
pub(super) fn print(
    store: &Store,
    report: &Report,
    recorded: &Recorded,
    file: &Path,
) -> Result<(), Failure> {
    let id = recorded.id();
    let record = id.and_then(|id| runs::find(&store.runs_folder(), id.as_str()).ok());
    let ran = report
        .stages
        .iter()
        .any(|stage| !matches!(stage.outcome, StageOutcome::Fresh | StageOutcome::Skipped));
    let style = Style::stdout();
    let text = match report.outcome {
        RunOutcome::Ok if !ran => up_to_date(report, recorded, record.as_ref()),
        RunOutcome::Ok => finished(style, store, report, record.as_ref(), file),
        RunOutcome::Failed => stopped(style, "failed", store, report, id),
        RunOutcome::Cancelled => stopped(style, "was interrupted", store, report, id),
    };
    ui::out(&text)?;
    Ok(())
}

/// One line per evaluation of a run: `accuracy 93.1 % on 400 test images (95 % interval 90.2 % to
/// 95.2 %)`, followed by the stage's name if there are several.
pub(super) fn headlines(store: &Store, record: &Record) -> Vec<String> {
    let evaluations = Results::of(record).with_store(store).evaluations();
    let named = evaluations.len() > 1;
    let line = |(stage, evaluation): (&StageRecord, Evaluation)| {
        let stage = if named { format!("  {}", stage.stage) } else { String::new() };
        Some(headline(&evaluation)? + &stage)
    };
    evaluations.into_iter().filter_map(line).collect()
}

/// The accuracy on the test images; `None` without any.
pub(super) fn headline(evaluation: &Evaluation) -> Option<String> {
    let [low, high] = evaluation.accuracy_interval?.map(number::percent);
    let accuracy = number::percent(evaluation.accuracy?);
    let images =
        evaluation.splits.get("test").map(|split| number::counted(split.count, "test image"));
    let images = images.map(|images| format!(" on {images}")).unwrap_or_default();
    Some(format!("accuracy {accuracy}{images} (95 % interval {low} to {high})"))
}

/// The metrics of the evaluations of a run, from their artifacts.
pub(super) fn metrics(report: &Report) -> Metrics {
    let of_stage = evaluations(report).map(|(stage, evaluation)| {
        let splits = evaluation.splits.into_iter().map(|(name, split)| {
            let metrics = [
                ("accuracy", Some(split.accuracy)),
                ("accuracy_low", Some(split.accuracy_interval[0])),
                ("accuracy_high", Some(split.accuracy_interval[1])),
                ("macro_f1", Some(split.macro_average.f1)),
                ("loss", Some(split.loss)),
                ("roc_auc", split.roc_auc),
                ("average_precision", split.average_precision),
                ("calibration_error", split.calibration_error),
                ("images", Some(split.count as f64)),
            ];
            let known =
                metrics.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            (name, known.collect())
        });
        (stage.stage.clone(), splits.collect())
    });
    of_stage.collect()
}

/// The evaluations of a run, from its artifacts.
fn evaluations(report: &Report) -> impl Iterator<Item = (&StageReport, Evaluation)> {
    outputs(report, METRICS).filter_map(|(stage, _)| {
        let path = stage.artifact.as_ref()?.intact(METRICS)?;
        Some((stage, Evaluation::read(&path).ok()?))
    })
}

/// The accuracy of a run's last evaluation.
pub(super) fn accuracy(results: Results) -> Option<f64> {
    results.evaluations().pop()?.1.accuracy
}

fn up_to_date(report: &Report, recorded: &Recorded, record: Option<&Record>) -> String {
    let stages = number::counted(report.stages.len() as u64, "stage");
    let Some(record) = record else { return format!("nothing to do: {stages} up to date\n") };
    let accuracy = evaluations(report).last().and_then(|(_, evaluation)| evaluation.accuracy);
    let accuracy = accuracy.map(|share| format!(" (accuracy {})", number::percent(share)));
    let (id, accuracy) = (&record.id, accuracy.unwrap_or_default());
    let copied = report.stages.iter().filter(|stage| is_copied(stage)).count() as u64;
    let vouched: Vec<&str> = report.accepted().map(|stage| stage.stage.as_str()).collect();
    match recorded {
        _ if !vouched.is_empty() => format!(
            "nothing ran: the earlier output of {} was accepted; recorded as run {id}{accuracy}\n",
            and_list(vouched)
        ),
        Recorded::Now(_) if copied > 0 => format!(
            "no stage had to run: {} copied; recorded as run {id}{accuracy}\n",
            number::counted(copied, "output")
        ),
        Recorded::Now(_) => format!(
            "nothing to do: {stages} up to date; no run on record had these outputs: recorded as run {id}{accuracy}\n"
        ),
        _ => format!("nothing to do: same outputs as run {id}{accuracy}\n"),
    }
}

/// Whether the output of a stage was copied from a cache elsewhere.
fn is_copied(stage: &StageReport) -> bool {
    stage.remote.is_some() && stage.artifact.is_some()
}

fn finished(
    style: Style,
    store: &Store,
    report: &Report,
    record: Option<&Record>,
    file: &Path,
) -> String {
    let mut lines = vec![String::new()];
    lines.extend(
        record
            .map(|record| headlines(store, record))
            .unwrap_or_default()
            .iter()
            .map(|headline| style.bold(headline)),
    );
    let count =
        |outcome| report.stages.iter().filter(|stage| stage.outcome == outcome).count() as u64;
    let copied = report.stages.iter().filter(|stage| is_copied(stage)).count() as u64;
    let (ran, fresh) = (count(StageOutcome::Ran), count(StageOutcome::Fresh) - copied);
    let fresh = if fresh > 0 { format!(", {fresh} fresh") } else { String::new() };
    let copied = if copied > 0 { format!(", {copied} copied") } else { String::new() };
    let took = format!(
        "{} ran{copied}{fresh}, {}",
        number::counted(ran, "stage"),
        number::seconds(report.seconds)
    );
    let mut facts = Vec::new();
    if let Some(record) = record {
        facts.push(("run", format!("{}  ({took})", style.bold(record.id.as_str()))));
        let page = record.folder.join(REPORT);
        if page.exists() {
            facts.push(("report", shown(&page)));
        }
    } else {
        facts.push(("took", took));
    }
    facts.extend(paths("model", models(report)));
    facts.extend(paths("predictions", outputs(report, PREDICTIONS)));
    lines.extend(facts.into_iter().map(|(name, fact)| format!("{name:<FACTS$}{fact}")));
    lines.push(next(style, store, report, record, file));
    lines.into_iter().map(|line| line + "\n").collect()
}

/// The files as facts called `name`, with the stage of each if there are several.
fn paths<'a>(
    name: &'static str,
    files: impl Iterator<Item = (&'a StageReport, PathBuf)>,
) -> Vec<(&'static str, String)> {
    let files: Vec<_> = files.collect();
    let several = files.len() > 1;
    let files = files.into_iter().map(|(stage, path)| {
        let stage = if several { format!("  ({})", stage.stage) } else { String::new() };
        (name, format!("{}{stage}", shown(&path)))
    });
    files.collect()
}

/// The models of the run's train stages.
fn models(report: &Report) -> impl Iterator<Item = (&StageReport, PathBuf)> {
    outputs(report, MODEL).filter(|(stage, _)| makes_models(stage.kind))
}

/// The files of this name in the artifacts of the run's stages, built in this run or cached.
fn outputs<'a>(
    report: &'a Report,
    name: &'a str,
) -> impl Iterator<Item = (&'a StageReport, PathBuf)> {
    let artifacts =
        report.stages.iter().filter_map(|stage| Some((stage, stage.artifact.as_ref()?)));
    let has_file =
        move |artifact: &Artifact| artifact.manifest.files.iter().any(|file| file.path == name);
    let with_file = artifacts.filter(move |(_, artifact)| has_file(artifact));
    with_file.map(move |(stage, artifact)| (stage, artifact.path.join(name)))
}

/// Suggestions for the next command, aligned with the facts above them.
fn next(
    style: Style,
    store: &Store,
    report: &Report,
    record: Option<&Record>,
    file: &Path,
) -> String {
    let mut hints = Vec::new();
    if models(report).next().is_some() {
        hints.push(("pipe predict @0 IMAGE…".to_owned(), "classify your own images"));
    }
    if let Some(earlier) = previous(store, record) {
        let command = format!("pipe diff {earlier} @0");
        hints.push((command, "compare with the pipeline's previous run"));
    }
    hints.push((format!("edit {}", shell_word(file)), "then run again: only affected stages run"));
    let columns = hints.iter().map(|(hint, _)| ui::width(hint)).max().unwrap_or(0);
    let lines = hints.iter().enumerate().map(|(at, (hint, purpose))| {
        let name = if at == 0 { "next" } else { "" };
        format!("{name:<FACTS$}{}  {}", ui::padded(hint, columns), style.dim(purpose))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The run of the same pipeline that succeeded last before `record`.
fn previous(store: &Store, record: Option<&Record>) -> Option<RunId> {
    let record = record?;
    let earlier = runs::list(&store.runs_folder()).into_iter().find(|other| {
        let is_other = other.pipeline == record.pipeline && other.id != record.id;
        is_other && other.record().status == Status::Ok
    });
    earlier.map(|other| other.id)
}

/// `run k3x9qa failed after 2.1 s in train; completed: fetch (the next run continues from there)`.
fn stopped(style: Style, how: &str, store: &Store, report: &Report, id: Option<&RunId>) -> String {
    let with_outcome = |wanted: &[StageOutcome]| {
        let stages = report.stages.iter().filter(|stage| wanted.contains(&stage.outcome));
        stages.map(|stage| stage.stage.as_str()).collect::<Vec<_>>().join(", ")
    };
    let run = id.map_or_else(|| "the run".to_owned(), |id| format!("run {id}"));
    let headline = style.bold(&format!("{run} {how}"));
    let mut text = format!("\n{headline} after {}", number::seconds(report.seconds));
    let failed = with_outcome(&[StageOutcome::Failed]);
    if !failed.is_empty() {
        text.push_str(&format!(" in {failed}"));
    }
    let completed = with_outcome(&[StageOutcome::Fresh, StageOutcome::Ran]);
    text += &match completed.as_str() {
        "" => "; no stage completed\n".to_owned(),
        completed => format!("; completed: {completed} (the next run continues from there)\n"),
    };
    report.stages.iter().filter_map(|stage| kept(store, stage)).for_each(|line| text += &line);
    text
}

/// Where a stage that was stopped goes on in the next run, if it kept anything.
fn kept(store: &Store, stage: &StageReport) -> Option<String> {
    let kind = KINDS.iter().find(|kind| kind.name() == stage.kind)?;
    let is_stopped = matches!(stage.outcome, StageOutcome::Cancelled | StageOutcome::Failed);
    let place = kind.kept(&stage.values, stage.key.as_ref().filter(|_| is_stopped)?, store)?;
    Some(format!("{}: a checkpoint was kept; the next run goes on at {place}\n", stage.stage))
}
