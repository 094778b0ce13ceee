//! The summary printed when a run ends: metrics, paths of report and model, and what to try next.
//! Reads the run's record and its artifacts.

use super::failure::Failure;
use super::shared::{shell_word, shown};
use crate::common::number;
use crate::engine::Report;
use crate::events::{RunOutcome, StageOutcome};
use crate::metrics::Evaluation;
use crate::runs::{self, Record, Results, RunId, StageRecord};
use crate::stages::makes_models;
use crate::store::{Artifact, Store};
use crate::ui::{self, Style};
use std::path::Path;

/// The HTML report, in the run's folder.
pub(super) const REPORT: &str = "report.html";
/// The trained model, in the artifact of a train stage.
pub(super) const MODEL: &str = "model.safetensors";

/// Prints the summary of a run. `id` is that of the run or, if no stage ran, of the latest run with
/// the same outputs.
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
        RunOutcome::Ok if !ran => up_to_date(report, record.as_ref()),
        RunOutcome::Ok => finished(style, store, report, record.as_ref(), file),
        RunOutcome::Failed => stopped(style, "failed", report, id),
        RunOutcome::Cancelled => stopped(style, "was interrupted", report, id),
    };
    ui::out(&text)?;
    Ok(())
}

/// One line per evaluation of a run: `accuracy 93.1 % on 400 test images (95 % interval 90.2 % to
/// 95.2 %)`, followed by the stage's name if there are several.
pub(super) fn headlines(record: &Record) -> Vec<String> {
    let evaluations = Results::of(record).evaluations();
    let named = evaluations.len() > 1;
    let line = |(stage, evaluation): (&StageRecord, Evaluation)| {
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

/// The accuracy of a run's last evaluation.
pub(super) fn accuracy(record: &Record) -> Option<f64> {
    Results::of(record).evaluations().pop()?.1.accuracy
}

fn up_to_date(report: &Report, record: Option<&Record>) -> String {
    let stages = number::counted(report.stages.len() as u64, "stage");
    match record {
        None => format!("nothing to do: {stages} up to date\n"),
        Some(record) => {
            let accuracy =
                accuracy(record).map(|share| format!(" (accuracy {})", number::percent(share)));
            format!(
                "nothing to do: same outputs as run {}{}\n",
                record.id,
                accuracy.unwrap_or_default()
            )
        }
    }
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
        let page = record.folder.join(REPORT);
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

/// The models of the run's train stages, built in this run or cached, by stage.
fn models(report: &Report) -> impl Iterator<Item = (&str, std::path::PathBuf)> {
    let stages = report.stages.iter().filter(|stage| makes_models(stage.kind));
    let artifacts = stages.filter_map(|stage| Some((stage, stage.artifact.as_ref()?)));
    let has_model =
        |artifact: &Artifact| artifact.manifest.files.iter().any(|file| file.path == MODEL);
    let with_model = artifacts.filter(move |(_, artifact)| has_model(artifact));
    with_model.map(|(stage, artifact)| (stage.stage.as_str(), artifact.path.join(MODEL)))
}

/// Suggestions for the next command, aligned with the facts above them.
fn next(style: Style, store: &Store, report: &Report, file: &Path) -> String {
    let mut hints = Vec::new();
    if models(report).next().is_some() {
        hints.push(("pipe predict @0 IMAGE…".to_owned(), "classify your own images"));
    }
    if runs::list(&store.runs_folder()).len() > 1 {
        hints.push(("pipe diff @1 @0".to_owned(), "compare with the previous run"));
    }
    hints.push((format!("edit {}", shell_word(file)), "then run again: only affected stages run"));
    let columns = hints.iter().map(|(hint, _)| ui::width(hint)).max().unwrap_or(0);
    let lines = hints.iter().enumerate().map(|(at, (hint, purpose))| {
        let name = if at == 0 { "next" } else { "" };
        format!("{name:<8}{}  {}", ui::padded(hint, columns), style.dim(purpose))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// `run k3x9qa failed after 2.1 s in train; completed: fetch (the next run continues from there)`.
fn stopped(style: Style, how: &str, report: &Report, id: Option<&RunId>) -> String {
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
    text + &match completed.as_str() {
        "" => "; no stage completed\n".to_owned(),
        completed => format!("; completed: {completed} (the next run continues from there)\n"),
    }
}
