//! What is said when a run has ended: how good the model is, where things lie, what to try next. Knows what a run leaves
//! behind, not how it was made.

use super::failure::Failure;
use super::shared::shown;
use crate::common::number;
use crate::engine::{Report, StageReport};
use crate::events::{RunOutcome, StageOutcome};
use crate::metrics::Evaluation;
use crate::runs::{self, Record, Results, RunId, StageFacts};
use crate::stages::makes_models;
use crate::store::{Artifact, Store};
use crate::ui::{self, Style};
use std::path::Path;

/// A run's page, in its folder.
pub(super) const PAGE: &str = "report.html";
/// A trained model, in its artifact.
pub(super) const MODEL: &str = "model.safetensors";

/// Prints the closing lines of a run.
pub(super) fn print(
    store: &Store,
    report: &Report,
    id: Option<&RunId>,
    file: &Path,
) -> Result<(), Failure> {
    let record = id.and_then(|id| runs::find(&store.runs_folder(), id.as_str()).ok());
    let ran = report
        .stages
        .iter()
        .any(|stage| matches!(stage.outcome, StageOutcome::Ran | StageOutcome::Failed));
    let style = Style::stdout();
    let text = match report.outcome {
        RunOutcome::Ok if !ran => nothing(report, record.as_ref()),
        RunOutcome::Ok => done(style, store, report, record.as_ref(), file),
        RunOutcome::Failed => stopped(style, "failed", report, id),
        RunOutcome::Cancelled => stopped(style, "was interrupted", report, id),
    };
    ui::out(&text)?;
    Ok(())
}

/// The headline of each of a run's evaluations: `accuracy 93.1 % on 400 test images (95 % interval 90.2 % to 95.2 %)`,
/// and where there are several, the stage's name.
pub(super) fn headlines(record: &Record) -> Vec<String> {
    let evaluations = Results::of(record).evaluations();
    let named = evaluations.len() > 1;
    let line = |(stage, evaluation): (&StageFacts, Evaluation)| {
        let [low, high] = evaluation.accuracy_interval?;
        let images =
            evaluation.splits.get("test").map(|split| number::counted(split.count, "test image"));
        let images = images.map(|images| format!(" on {images}")).unwrap_or_default();
        let (low, high) = (number::percent(low), number::percent(high));
        let stage = if named { format!("  {}", stage.stage) } else { String::new() };
        let accuracy = number::percent(evaluation.accuracy?);
        Some(format!("accuracy {accuracy}{images} (95 % interval {low} to {high}){stage}"))
    };
    evaluations.into_iter().filter_map(line).collect()
}

/// The accuracy alone, for a cell or a bracket.
pub(super) fn accuracy(record: &Record) -> Option<f64> {
    Results::of(record).evaluations().pop()?.1.accuracy
}

fn nothing(report: &Report, record: Option<&Record>) -> String {
    let stages = number::counted(report.stages.len() as u64, "stage");
    match record {
        None => format!("nothing to do: {stages}, all there already\n"),
        Some(record) => {
            let accuracy =
                accuracy(record).map(|share| format!(" (accuracy {})", number::percent(share)));
            format!("nothing to do: equals run {}{}\n", record.id, accuracy.unwrap_or_default())
        }
    }
}

fn done(
    style: Style,
    store: &Store,
    report: &Report,
    record: Option<&Record>,
    file: &Path,
) -> String {
    let mut lines = vec![String::new()];
    lines.extend(
        record.map(headlines).unwrap_or_default().iter().map(|headline| style.bold(headline)),
    );
    let count =
        |outcome| report.stages.iter().filter(|stage| stage.outcome == outcome).count() as u64;
    let (ran, fresh) = (count(StageOutcome::Ran), count(StageOutcome::Fresh));
    let fresh = if fresh > 0 { format!(", {fresh} fresh") } else { String::new() };
    let took = format!(
        "{} ran{fresh}, {}",
        number::counted(ran, "stage"),
        number::seconds(report.seconds)
    );
    let mut facts = Vec::new();
    if let Some(record) = record {
        facts.push(("run", format!("{}  ({took})", style.bold(record.id.as_str()))));
        let page = record.folder.join(PAGE);
        if page.exists() {
            facts.push(("report", shown(&page)));
        }
    } else {
        facts.push(("took", took));
    }
    let models: Vec<_> = models(report).collect();
    let named = models.len() > 1;
    facts.extend(models.into_iter().map(|(stage, path)| {
        let stage = if named { format!("  ({stage})") } else { String::new() };
        ("model", format!("{}{stage}", shown(&path)))
    }));
    lines.extend(facts.into_iter().map(|(name, fact)| format!("{name:<8}{fact}")));
    lines.push(next(style, store, report, file));
    lines.into_iter().map(|line| line + "\n").collect()
}

/// The models that the run's stages made or found, by stage.
fn models(report: &Report) -> impl Iterator<Item = (&str, std::path::PathBuf)> {
    let stages = report.stages.iter().filter(|stage| makes_models(stage.kind));
    let artifacts = stages.filter_map(|stage| Some((stage, stage.artifact.as_ref()?)));
    let has_model =
        |artifact: &Artifact| artifact.manifest.files.iter().any(|file| file.path == MODEL);
    let with_model = artifacts.filter(move |(_, artifact)| has_model(artifact));
    with_model.map(|(stage, artifact)| (stage.stage.as_str(), artifact.path.join(MODEL)))
}

/// What to try next, aligned like the facts above it.
fn next(style: Style, store: &Store, report: &Report, file: &Path) -> String {
    let mut hints = Vec::new();
    if models(report).next().is_some() {
        hints.push(("pipe predict @0 IMAGE…".to_owned(), "classify images of your own"));
    }
    if runs::list(&store.runs_folder()).len() > 1 {
        hints.push((
            "pipe diff @1 @0".to_owned(),
            "what changed since the run before, and what it did",
        ));
    }
    hints.push((
        format!("edit {}", file.display()),
        "and run it again: only what a change affects runs",
    ));
    let width = hints.iter().map(|(hint, _)| hint.chars().count()).max().unwrap_or(0);
    let lines = hints.iter().enumerate().map(|(at, (hint, why))| {
        let name = if at == 0 { "next" } else { "" };
        format!("{name:<8}{hint:<width$}  {}", style.dim(why))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn stopped(style: Style, how: &str, report: &Report, id: Option<&RunId>) -> String {
    let named = |outcome: StageOutcome| {
        let stages =
            report.stages.iter().filter(move |stage: &&StageReport| stage.outcome == outcome);
        stages.map(|stage| stage.stage.as_str()).collect::<Vec<_>>()
    };
    let run = id.map(|id| format!("run {id}")).unwrap_or_else(|| "the run".to_owned());
    let mut text = format!(
        "\n{} after {}",
        style.bold(&format!("{run} {how}")),
        number::seconds(report.seconds)
    );
    let failed = named(StageOutcome::Failed);
    if !failed.is_empty() {
        text.push_str(&format!(" in {}", failed.join(", ")));
    }
    let mut kept = named(StageOutcome::Fresh);
    kept.extend(named(StageOutcome::Ran));
    text.push_str(&if kept.is_empty() {
        "; nothing was committed\n".to_owned()
    } else {
        format!("; kept: {} (the next run goes on from there)\n", kept.join(", "))
    });
    text
}
