//! Where a result comes from: the stages that ran, when and on which machine, and how to reproduce
//! the run.

use super::html::{Column, Table, details};
use crate::common::number::{counted, seconds};
use crate::runs::{Record, Results, StageRecord, StageState, Status};
use maud::{Markup, Render, html};
use serde_json::Value;

/// Characters of a pipeline file, an error, a stage's error or reasons in the table of stages, a
/// parameter's value.
const MAX_FILE: usize = 100_000;
const MAX_ERROR: usize = 8_000;
const MAX_REASON: usize = 300;
const MAX_VALUE: usize = 400;

/// Hex digits of a digest that identify it well enough.
const SHORT_DIGEST: usize = 12;

/// The name of the pipeline and of the run.
pub(super) fn header(record: &Record) -> Markup {
    let status = record.status.as_str();
    html! {
        header {
            p.eyebrow { "Run " code { (record.id.as_str()) } }
            h1 { (record.pipeline) }
            p.under {
                span.badge.(status) { (status) }
                span { (record.started.to_string()) }
                span { (seconds(record.seconds)) }
                span { "seed " (record.seed) }
            }
        }
    }
}

/// Why the run did not succeed. Empty where it did.
pub(super) fn failure(record: &Record) -> Markup {
    let id = record.id.as_str();
    match (record.status, record.error()) {
        (Status::Failed, Some((stage, error))) => {
            let help =
                html! { "The log before the failure: " code { "pipe log " (id) " " (stage) } };
            alert(&format!("Stage {stage} failed"), error, &help)
        }
        (Status::Failed, None) => {
            alert("The run failed", "", &"No stage reported an error.".render())
        }
        (Status::Cancelled, _) => alert("The run was cancelled", "", &resume()),
        (Status::Died, _) => {
            let help = html! {
                "The process ended without reporting an outcome: it was killed, ran out of memory, or the machine went "
                "down. " (resume())
            };
            alert("The run died", "", &help)
        }
        (Status::Unreadable, _) => {
            let problem = record.problem.as_deref().unwrap_or_default();
            alert("The record can't be read", problem, &Markup::default())
        }
        (Status::Running, _) => {
            let help = "This page shows the state at the time it was written.".render();
            alert("The run is in progress", "", &help)
        }
        (Status::Ok, _) => Markup::default(),
    }
}

fn resume() -> Markup {
    "Completed stages are cached: the next run resumes after them.".render()
}

fn alert(title: &str, error: &str, help: &Markup) -> Markup {
    html! {
        .failure role="alert" {
            h2 { (title) }
            @if !error.is_empty() { pre { (cut(error, MAX_ERROR)) } }
            p { (help) }
        }
    }
}

/// The table of stages.
pub(super) fn stages(record: &Record) -> Markup {
    let mut table = Table::new(&[
        ("Stage", Column::Text),
        ("Kind", Column::Text),
        ("Outcome", Column::Text),
        ("Time", Column::Number),
        ("Reason", Column::Text),
        ("Key", Column::Code),
        ("Output", Column::Code),
    ]);
    for stage in &record.stages {
        let (class, outcome) = outcome(record, stage);
        let reason = stage.error.clone().unwrap_or_else(|| stage.reasons.join("; "));
        let digest = |digest: &Option<String>| match digest {
            Some(hex) => prefix(hex, SHORT_DIGEST).render(),
            None => "–".render(),
        };
        table.row([
            html! { b { (stage.stage) } },
            stage.kind.render(),
            html! { span.state.(class) { (outcome) } },
            if stage.seconds > 0.0 { seconds(stage.seconds).render() } else { "–".render() },
            html! { span.soft { (cut(&reason, MAX_REASON)) } },
            digest(&stage.key),
            digest(&stage.digest),
        ]);
    }
    table.render()
}

/// The CSS class and the text of a stage's outcome.
fn outcome(record: &Record, stage: &StageRecord) -> (&'static str, &'static str) {
    match record.state(stage) {
        StageState::Ran => ("ran", "ran"),
        StageState::Fresh => ("fresh", "fresh"),
        StageState::Failed => ("failed", "failed"),
        StageState::Cancelled => ("failed", "interrupted"),
        StageState::Skipped => ("skipped", "not run"),
        StageState::Running => ("running", "running"),
        StageState::Died => ("died", "died"),
        StageState::Waiting => ("waiting", "not reached"),
    }
}

/// The command, the machine, the parameters and the pipeline files.
pub(super) fn reproduction(results: &Results) -> Markup {
    let record = results.record();
    html! {
        @if !record.file.is_empty() { pre { (command(record)) } }
        @if !record.machine.target.is_empty() {
            p.soft style="margin-top:14px" { (machine(record)) }
        }
        (details("Parameters", &parameter_table(record)))
        @for file in results.pipeline_input().unwrap_or_default().files {
            (details(&file.name, &html! { pre { (cut(&file.text, MAX_FILE)) } }))
        }
    }
}

fn command(record: &Record) -> String {
    let overrides = record.overrides.iter().map(|pair| format!(" \\\n    --set {}", quoted(pair)));
    format!("pipe run {}{}", quoted(&record.file), overrides.collect::<String>())
}

/// Quoted for a POSIX shell where necessary.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn machine(record: &Record) -> String {
    let machine = &record.machine;
    let simd = if machine.simd.is_empty() {
        String::new()
    } else {
        format!(" ({})", machine.simd.join(", "))
    };
    format!(
        "The same images, pipe {}, seed {} and the same kind of machine give identical results: {}{simd}, device {}. This \
         run had {}.",
        record.version,
        record.seed,
        machine.target,
        machine.device,
        counted(machine.cores as u64, "core"),
    )
}

fn parameter_table(record: &Record) -> Markup {
    let mut table = Table::new(&[
        ("Stage", Column::Text),
        ("Parameter", Column::Text),
        ("Value", Column::Text),
    ]);
    for stage in &record.stages {
        for (index, (key, value)) in parameters(stage).into_iter().enumerate() {
            table.row([
                html! { @if index == 0 { b { (stage.stage) } } },
                html! { code { (key) } },
                html! { code.wrap { (cut(&value, MAX_VALUE)) } },
            ]);
        }
    }
    table.render()
}

/// The parameters of a stage as text, nested ones by path: `head.dropout`.
pub(super) fn parameters(stage: &StageRecord) -> Vec<(String, String)> {
    let mut leaves = Vec::new();
    for (key, value) in &stage.parameters {
        flatten(key.clone(), value, &mut leaves);
    }
    leaves
}

fn flatten(path: String, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, value) in table {
                flatten(format!("{path}.{key}"), value, leaves);
            }
        }
        Value::String(text) => leaves.push((path, text.clone())),
        other => leaves.push((path, other.to_string())),
    }
}

/// The last line of a page.
pub(super) fn footer(records: &[&Record]) -> Markup {
    let source = match records {
        [record] if !record.version.is_empty() => format!("a run of version {}", record.version),
        [_] => "a run".to_owned(),
        _ => format!("{} runs", records.len()),
    };
    html! { footer { "Written by pipe from the record of " (source) "." } }
}

/// The first `limit` characters, and the number of the others.
pub(super) fn cut(text: &str, limit: usize) -> String {
    match text.chars().count().saturating_sub(limit) {
        0 => text.to_owned(),
        more => format!("{}… ({more} more characters)", prefix(text, limit)),
    }
}

fn prefix(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_quoted_for_a_shell() {
        let overrides =
            vec!["stages.train.epochs=3".to_owned(), "pipeline.name=it's mine".to_owned()];
        let record = Record { file: "my images.toml".to_owned(), overrides, ..Record::default() };
        assert_eq!(
            command(&record),
            "pipe run 'my images.toml' \\\n    --set stages.train.epochs=3 \\\n    --set 'pipeline.name=it'\\''s mine'"
        );
    }
}
