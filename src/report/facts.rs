//! What ran, when, where, of what, and how to run it again.

use super::html::{Column, Table, details, duration};
use crate::draw::escape;
use crate::runs::{Record, Results, StageFacts, Status};
use serde_json::Value;
use std::fmt::Write;

/// Characters of a pipeline file, of an error and of a parameter's value that are shown.
const MOST_TEXT: usize = 100_000;
const MOST_ERROR: usize = 8_000;
const MOST_VALUE: usize = 400;

/// The name of the pipeline, and of the run.
pub(super) fn header(record: &Record) -> String {
    let status = record.status.word();
    format!(
        "<header><p class=\"eyebrow\">Run <code>{}</code></p><h1>{}</h1><p class=\"under\"><span class=\"badge {status}\">{status}</span>\
         <span>{}</span><span>{}</span><span>seed {}</span></p></header>\n",
        escape(record.id.as_str()),
        escape(&record.pipeline),
        record.started,
        duration(record.seconds),
        record.seed,
    )
}

/// What went wrong, where something did.
pub(super) fn failure(record: &Record) -> String {
    let told = |title: &str, error: &str, help: &str| {
        let error = if error.is_empty() {
            String::new()
        } else {
            format!("<pre>{}</pre>", escape(&cut(error, MOST_ERROR)))
        };
        format!(
            "<div class=\"failure\" role=\"alert\"><h2>{}</h2>{error}<p>{help}</p></div>\n",
            escape(title)
        )
    };
    let id = escape(record.id.as_str());
    match (record.status, record.error()) {
        (Status::Failed, Some((stage, error))) => told(
            &format!("Stage {stage} failed"),
            error,
            &format!("What it said before: <code>pipe log {id} {}</code>", escape(stage)),
        ),
        (Status::Failed, None) => told("The run failed", "", "No stage gave a reason."),
        (Status::Cancelled, _) => told(
            "The run was cancelled",
            "",
            "The next run goes on with the stages that were done.",
        ),
        (Status::Died, _) => told(
            "The run died",
            "",
            "Its process ended without a word: killed, out of memory, or the machine went down. The next run goes on with the stages that were done.",
        ),
        (Status::Unreadable, _) => {
            told("The record can't be read", record.problem.as_deref().unwrap_or_default(), "")
        }
        (Status::Running, _) => {
            told("The run is under way", "", "This page shows what there was when it was drawn.")
        }
        (Status::Ok, _) => String::new(),
    }
}

/// The table of stages.
pub(super) fn stages(record: &Record) -> String {
    let mut table = Table::new(&[
        ("Stage", Column::Text),
        ("Kind", Column::Text),
        ("Outcome", Column::Text),
        ("Time", Column::Number),
        ("Why it ran", Column::Text),
        ("Key", Column::Code),
        ("Output", Column::Code),
    ]);
    for stage in &record.stages {
        let (word, title) = outcome(record, stage);
        let ran = stage.seconds > 0.0;
        let why = match &stage.error {
            Some(error) => cut(error, 200),
            None => cut(&stage.reasons.join("; "), 300),
        };
        let short = |digest: &Option<String>| {
            digest.as_deref().map_or_else(|| "–".to_owned(), |hex| escape(&cut_to(hex, 12)))
        };
        table.row_html(&[
            format!("<b>{}</b>", escape(&stage.stage)),
            escape(&stage.kind),
            format!("<span class=\"state {word}\">{title}</span>"),
            if ran { duration(stage.seconds) } else { "–".to_owned() },
            format!("<span class=\"soft\">{}</span>", escape(&why)),
            short(&stage.key),
            short(&stage.digest),
        ]);
    }
    table.html()
}

/// A stage's outcome as a class of the style sheet, and in words.
fn outcome(record: &Record, stage: &StageFacts) -> (&'static str, &'static str) {
    use crate::runs::StageState::{Died, Failed, Fresh, Ran, Running, Skipped, Waiting};
    match record.state(stage) {
        Ran => ("ran", "ran"),
        Fresh => ("fresh", "was there"),
        Failed => ("failed", "failed"),
        Skipped => ("skipped", "skipped"),
        Running => ("running", "running"),
        Died => ("died", "died"),
        Waiting => ("waiting", "not reached"),
    }
}

/// The command, the parameters, the pipeline file, the machine.
pub(super) fn repeat(results: &Results) -> String {
    let record = results.record();
    let mut html = String::new();
    if !record.file.is_empty() {
        let _ = write!(html, "<pre>{}</pre>", escape(&command(record)));
    }
    html.push_str(&machine(record));
    html.push_str(&details("Parameters", &parameters(record)));
    for source in results.asked().unwrap_or_default().sources {
        html.push_str(&details(
            &source.name,
            &format!("<pre>{}</pre>", escape(&cut(&source.text, MOST_TEXT))),
        ));
    }
    html
}

fn command(record: &Record) -> String {
    let overrides = record.overrides.iter().map(|pair| format!(" \\\n    --set {}", quoted(pair)));
    format!("pipe run {}{}", quoted(&record.file), overrides.collect::<String>())
}

/// As a shell reads it as one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn machine(record: &Record) -> String {
    let machine = &record.machine;
    if machine.target.is_empty() {
        return String::new();
    }
    let simd = if machine.simd.is_empty() {
        String::new()
    } else {
        format!(" ({})", machine.simd.join(", "))
    };
    let text = format!(
        "With the same images, pipe {}, seed {} and this kind of machine it gives the same bytes: {}{simd}, on {}. It had {} {}.",
        record.version,
        record.seed,
        machine.target,
        machine.device,
        machine.cores,
        if machine.cores == 1 { "core" } else { "cores" },
    );
    format!("<p class=\"soft\" style=\"margin-top:14px\">{}</p>", escape(&text))
}

fn parameters(record: &Record) -> String {
    let mut table = Table::new(&[
        ("Stage", Column::Text),
        ("Parameter", Column::Text),
        ("Value", Column::Text),
    ]);
    for stage in &record.stages {
        let mut leaves = Vec::new();
        flatten("", &Value::Object(stage.parameters.clone()), &mut leaves);
        for (index, (key, value)) in leaves.into_iter().enumerate() {
            let stage =
                if index == 0 { format!("<b>{}</b>", escape(&stage.stage)) } else { String::new() };
            table.row_html(&[
                stage,
                format!("<code>{}</code>", escape(&key)),
                format!("<code class=\"wrap\">{}</code>", escape(&cut(&value, MOST_VALUE))),
            ]);
        }
    }
    table.html()
}

pub(super) fn flatten(path: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(table) if path.is_empty() || !table.is_empty() => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, leaves);
            }
        }
        Value::String(text) => leaves.push((path.to_owned(), text.clone())),
        other => leaves.push((path.to_owned(), other.to_string())),
    }
}

/// The last line of a page.
pub(super) fn footer(records: &[&Record]) -> String {
    let mut versions: Vec<&str> = records.iter().map(|record| record.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    format!(
        "<footer>Drawn by pipe from the record of {}.</footer>\n",
        match versions.as_slice() {
            [one] if records.len() == 1 && !one.is_empty() =>
                format!("a run of version {}", escape(one)),
            _ if records.len() == 1 => "a run".to_owned(),
            _ => format!("{} runs", records.len()),
        }
    )
}

/// At most so many characters, and how many more there are.
pub(super) fn cut(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        text.to_owned()
    } else {
        format!("{}… ({} more characters)", cut_to(text, most), count - most)
    }
}

fn cut_to(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted() {
        let overrides =
            vec!["stages.train.epochs=3".to_owned(), "pipeline.name=it's mine".to_owned()];
        let record = Record { file: "my images.toml".to_owned(), overrides, ..Record::default() };
        assert_eq!(
            command(&record),
            "pipe run 'my images.toml' \\\n    --set stages.train.epochs=3 \\\n    --set 'pipeline.name=it'\\''s mine'"
        );
    }
}
