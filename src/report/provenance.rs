//! Where a result comes from: when it was made, on which machine and from which commit, why a run
//! failed, and how to reproduce it.

use super::html::{Column, Table, details, with_code};
use crate::common::number::{counted, seconds};
use crate::runs::{Record, Results, StageRecord, Status};
use maud::{Markup, Render, html};
use serde_json::Value;

/// Characters of a pipeline file, an error, a message of a log, a parameter's value.
const MAX_FILE: usize = 100_000;
const MAX_ERROR: usize = 8_000;
const MAX_MESSAGE: usize = 500;
const MAX_VALUE: usize = 400;

/// Messages of the stage that failed.
const MAX_MESSAGES: usize = 12;

/// The name of the pipeline and of the run.
pub(super) fn header(record: &Record) -> Markup {
    let status = record.status.as_str();
    html! {
        header {
            p.eyebrow {
                "Run " code { (record.id.as_str()) }
                @if !record.labels.name.is_empty() { " " (record.labels.name) }
            }
            h1 { (record.pipeline) }
            p.under {
                span.badge.(status) { (status) }
                span { (record.started.to_string()) }
                span { (seconds(record.seconds)) }
                span { "seed " (record.seed) }
                @for tag in &record.labels.tags { span.tag { (tag) } }
            }
            @if !record.labels.note.is_empty() { p.under { (record.labels.note) } }
        }
    }
}

/// Why the run did not succeed, and how far it came. Empty where it did.
pub(super) fn failure(results: &Results) -> Markup {
    let record = results.record();
    let id = record.id.as_str();
    match (record.status, record.error()) {
        (Status::Failed, Some((stage, error))) => {
            let help = html! {
                (last_messages(results, stage))
                p { "The whole log: " code { "pipe log " (id) " " (stage) } ". " (resume()) }
            };
            alert(&format!("Stage `{stage}` failed"), error, &help)
        }
        (Status::Failed, None) => {
            alert("The run failed", "", &html! { p { "No stage reported an error." } })
        }
        (Status::Cancelled, _) => alert("The run was interrupted", "", &html! { p { (resume()) } }),
        (Status::Died, _) => {
            let help = html! {
                p {
                    "The process ended without reporting an outcome: it was killed, ran out of memory, or the machine went "
                    "down. " (resume())
                }
            };
            alert("The run died", "", &help)
        }
        (Status::Unreadable, _) => {
            let problem = record.problem.as_deref().unwrap_or_default();
            alert("The record can't be read", problem, &Markup::default())
        }
        (Status::Running, _) => html! {
            .failure.running role="status" {
                h2 { "The run is in progress" }
                p {
                    "This page shows what was known when it was written. " code { "pipe watch " (id) }
                    " follows the run, " code { "pipe report " (id) } " writes the page again."
                }
            }
        },
        (Status::Ok, _) => Markup::default(),
    }
}

/// The end of a stage's log.
fn last_messages(results: &Results, stage: &str) -> Markup {
    let messages = results.last_messages(stage, MAX_MESSAGES);
    let lines: Vec<String> = messages.iter().map(|text| cut(text, MAX_MESSAGE)).collect();
    if lines.is_empty() {
        return Markup::default();
    }
    details("The end of its log", &html! { pre { (lines.join("\n")) } })
}

fn resume() -> Markup {
    "Completed stages are cached: the next run resumes after them.".render()
}

fn alert(title: &str, error: &str, help: &Markup) -> Markup {
    html! {
        .failure role="alert" {
            h2 { (with_code(title)) }
            @if !error.is_empty() { pre { (with_code(&cut(error, MAX_ERROR))) } }
            (help)
        }
    }
}

/// The command, the machine, the parameters and the pipeline files.
pub(super) fn reproduction(results: &Results) -> Markup {
    let record = results.record();
    let input = results.pipeline_input().unwrap_or_default();
    html! {
        @if !record.file.is_empty() { pre { (command(record)) } }
        @if !input.files.is_empty() {
            p.soft.after {
                code { "pipe checkout " (record.id.as_str()) }
                " writes the pipeline file as it was, and the pins of its sources."
            }
        }
        @if !record.machine.target.is_empty() { p.soft.after { (with_code(&machine(record))) } }
        (facts(record))
        (details("Parameters", &parameter_table(record)))
        @for file in input.files {
            (details(&file.name, &html! { pre { (cut(&file.text, MAX_FILE)) } }))
        }
        @if let Some(pins) = results.pins() {
            (details("pipe.lock", &html! { pre { (cut(&pins, MAX_FILE)) } }))
        }
    }
}

/// The commit and the libraries.
fn facts(record: &Record) -> Markup {
    let mut table = Table::new(&[("Recorded with it", Column::Text), ("", Column::Text)]);
    if let Some(repository) = &record.repository {
        table.row([
            "Commit".render(),
            html! {
                code.wrap { (repository.commit) }
                @if repository.is_dirty { " with changes that aren't committed" }
            },
        ]);
    }
    let libraries = record.machine.libraries.iter();
    let libraries: Vec<String> =
        libraries.map(|(name, version)| format!("{name} {version}")).collect();
    if !libraries.is_empty() {
        table.row(["Libraries".render(), libraries.join(", ").render()]);
    }
    details("Commit and libraries", &table.render())
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

pub(super) fn prefix(text: &str, length: usize) -> String {
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
