//! The stages of a run: how they depend on each other, their times, and why they ran.

use super::html::{Column, Table, with_code};
use super::provenance::{cut, prefix};
use crate::common::number::{bytes, seconds, thousands};
use crate::draw::{StageGraph, StageNode};
use crate::runs::{Record, StageRecord, StageState};
use maud::{Markup, Render, html};

/// Stages in the graph, and characters of an error or of reasons.
const MAX_STAGES: usize = 60;
const MAX_REASON: usize = 300;

/// Hex digits of a digest that identify it well enough.
pub(super) const SHORT_DIGEST: usize = 12;

/// The graph and the table of stages.
pub(super) fn stages(record: &Record) -> Markup {
    html! { (graph(record)) (table(record)) }
}

fn graph(record: &Record) -> Markup {
    let shown = &record.stages[..record.stages.len().min(MAX_STAGES)];
    let index = |name: &String| shown.iter().position(|stage| stage.stage == *name);
    let node = |stage: &StageRecord| {
        let (class, outcome) = outcome(record, stage);
        let took = (stage.seconds > 0.0).then(|| seconds(stage.seconds));
        StageNode {
            name: stage.stage.clone(),
            class,
            seconds: stage.seconds,
            label: took.unwrap_or_else(|| outcome.to_owned()),
            needs: stage.needs.values().filter_map(index).collect(),
        }
    };
    // A stage alone is no graph.
    let stages = if shown.len() > 1 { shown.iter().map(node).collect() } else { Vec::new() };
    StageGraph { title: "Time, and which stage needs which".to_owned(), stages }.render()
}

fn table(record: &Record) -> Markup {
    let mut table = Table::new(&[
        ("Stage", Column::Text),
        ("Kind", Column::Text),
        ("Outcome", Column::Text),
        ("Time", Column::Number),
        ("Images/s", Column::Number),
        ("Memory", Column::Number),
        ("Reason", Column::Text),
        ("Key", Column::Code),
        ("Output", Column::Code),
    ]);
    for stage in &record.stages {
        let (class, outcome) = outcome(record, stage);
        let reason = reason(stage);
        let digest =
            |digest: &Option<String>| or_dash(digest.as_ref().map(|hex| prefix(hex, SHORT_DIGEST)));
        table.row([
            html! { b { (stage.stage) } },
            stage.kind.render(),
            html! { span.state.(class) { (outcome) } },
            or_dash((stage.seconds > 0.0).then(|| seconds(stage.seconds))),
            or_dash(stage.images_per_second.map(|rate| format!("{rate:.0}"))),
            or_dash(stage.peak_memory.map(bytes)),
            html! { span.soft { (with_code(&cut(&reason, MAX_REASON))) } },
            digest(&stage.key),
            digest(&stage.digest),
        ]);
    }
    table.render()
}

/// Why a stage ran, failed or was skipped, how many tries failed before, whether it gave another
/// output than before, and what its program wrote beside it.
fn reason(stage: &StageRecord) -> String {
    let reason = stage.error.clone().unwrap_or_else(|| stage.why());
    let reason = match &stage.not_reproducible {
        Some(difference) => format!("{reason}; not reproducible: {difference}"),
        None => reason,
    };
    let reason = match &stage.undeclared_writes {
        Some(writes) => format!("{reason}; {writes}"),
        None => reason,
    };
    match stage.attempts.len() as u64 {
        0 => reason,
        1 => format!("1 try failed; {reason}"),
        failed => format!("{} tries failed; {reason}", thousands(failed)),
    }
}

fn or_dash(text: Option<String>) -> Markup {
    text.as_deref().unwrap_or("–").render()
}

/// The CSS class and the text of a stage's outcome.
pub(super) fn outcome(record: &Record, stage: &StageRecord) -> (&'static str, &'static str) {
    match record.state(stage) {
        StageState::Ran => ("ran", "ran"),
        StageState::Fresh => ("fresh", "up to date"),
        StageState::Failed => ("failed", "failed"),
        StageState::Cancelled => ("failed", "interrupted"),
        StageState::Skipped => ("skipped", "not run"),
        StageState::Running => ("running", "running"),
        StageState::Died => ("died", "died"),
        StageState::Waiting => ("waiting", "not reached"),
    }
}
