//! Sentences about what a comparison lacks: a run that is still running, results that one run
//! doesn't have, and those that can't be read.

use super::super::{Record, Results, Status};
use super::evaluation::SplitDiff;

/// The results that a comparison reads, by the name that sentences give them.
const METRICS: (&str, &str) = ("metrics.json", "metrics");
const HISTORY: (&str, &str) = ("history.csv", "training history");

/// The stages of which a run's results could be read.
pub(super) struct Read {
    pub(super) evaluations: Vec<String>,
    pub(super) histories: Vec<String>,
}

/// The sentences about both runs.
pub(super) fn notes(runs: [&Results; 2], read: &[Read; 2], splits: &[SplitDiff]) -> Vec<String> {
    let mut notes = Vec::new();
    for (side, run) in runs.iter().enumerate() {
        let (record, other) = (run.record(), &read[1 - side]);
        if record.status == Status::Running {
            notes.push(format!(
                "run {} is still running; its results so far are compared",
                record.id
            ));
        }
        notes.extend(accepted(record));
        for ((file, name), found, others) in [
            (METRICS, &read[side].evaluations, &other.evaluations),
            (HISTORY, &read[side].histories, &other.histories),
        ] {
            let damaged = damaged(run, file, found);
            if damaged.is_empty() && found.is_empty() && !others.is_empty() {
                notes.push(format!("run {} has no {name}{}", record.id, why(record)));
            }
            notes.extend(damaged);
        }
    }
    notes.extend(unpaired(runs, splits));
    notes
}

/// The outputs that the user vouched for.
fn accepted(record: &Record) -> impl Iterator<Item = String> {
    let stages = record.stages.iter().filter(|stage| stage.accepted.is_some());
    stages.map(|stage| format!("`{}` of run {}: {}", stage.stage, record.id, stage.why()))
}

/// The files of one name that are there and can't be read.
fn damaged(run: &Results, file: &str, read: &[String]) -> Vec<String> {
    let stages = run.record().stages.iter().map(|stage| stage.stage.as_str());
    let is_damaged =
        |stage: &&str| !read.iter().any(|name| name == stage) && run.is_damaged(stage, file);
    stages.filter(is_damaged).map(|stage| unreadable(run.record(), stage, file)).collect()
}

/// The predictions that are there and can't be read.
fn unpaired(runs: [&Results; 2], splits: &[SplitDiff]) -> Vec<String> {
    const FILE: &str = "predictions.csv";
    let mut notes = Vec::new();
    for split in splits.iter().filter(|split| split.paired.is_none()) {
        for (run, stage) in runs.iter().zip(&split.stages) {
            if run.is_damaged(stage, FILE) {
                let note = unreadable(run.record(), stage, FILE);
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
    }
    notes
}

fn unreadable(record: &Record, stage: &str, file: &str) -> String {
    format!("`{file}` of stage `{stage}` of run {} is damaged and left out", record.id)
}

/// Why a run has no results, as far as its status says.
fn why(record: &Record) -> &'static str {
    match record.status {
        Status::Failed => ": it failed",
        Status::Cancelled => ": it was interrupted",
        Status::Died => ": its process died",
        Status::Running => " yet",
        Status::Ok | Status::Unreadable => "",
    }
}
