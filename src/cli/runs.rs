//! `pipe runs`: lists the runs on record, one line per run.

use super::failure::Failure;
use super::shared::StoreArguments;
use super::summary;
use crate::common::number;
use crate::events::StageOutcome;
use crate::runs::{self, Record, Timestamp};
use crate::ui::{self, Side, Style, Table};
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

/// List the runs on record, newest first
#[derive(Args)]
pub(super) struct Arguments {
    /// Show at most N runs
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    store: StoreArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let store = arguments.store.open_existing()?;
    let records = runs::list(&store.runs_folder());
    let shown = records.iter().take(arguments.limit);
    if arguments.json {
        ui::json(&shown.map(as_json).collect::<Vec<_>>())?;
    } else if records.is_empty() {
        ui::out("no runs yet: start one with `pipe run FILE`\n")?;
    } else {
        ui::out(&table(shown))?;
        let more = records.len().saturating_sub(arguments.limit);
        if more > 0 {
            ui::note(&format!(
                "and {}; --limit shows them\n",
                number::counted(more as u64, "older run")
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(record: &Record) -> Value {
    json!({
        "run": record.id,
        "pipeline": record.pipeline,
        "status": record.status,
        "problem": record.problem,
        "started": record.started,
        "seconds": record.seconds,
        "ran": ran(record),
        "accuracy": summary::accuracy(record),
    })
}

/// The names of the stages that ran, failed ones included.
fn ran(record: &Record) -> Vec<&str> {
    let has_run = |outcome| matches!(outcome, Some(StageOutcome::Ran | StageOutcome::Failed));
    record
        .stages
        .iter()
        .filter(|stage| has_run(stage.outcome))
        .map(|stage| stage.stage.as_str())
        .collect()
}

fn table<'a>(records: impl Iterator<Item = &'a Record>) -> String {
    let mut table = Table::new([
        ("", Side::Right),
        ("run", Side::Left),
        ("pipeline", Side::Left),
        ("started", Side::Left),
        ("status", Side::Left),
        ("took", Side::Right),
        ("accuracy", Side::Right),
        ("stages run", Side::Left),
    ]);
    let now = Timestamp::now();
    for (at, record) in records.enumerate() {
        let stages = record.problem.clone().unwrap_or_else(|| ran(record).join(", "));
        let accuracy = summary::accuracy(record).map(number::percent).unwrap_or_default();
        let readable = record.problem.is_none();
        let (started, took) = (record.started.ago(now), number::seconds(record.seconds));
        table.row([
            format!("@{at}"),
            record.id.to_string(),
            record.pipeline.clone(),
            if readable { started } else { String::new() },
            record.status.to_string(),
            if readable { took } else { String::new() },
            accuracy,
            stages,
        ]);
    }
    table.render(Style::stdout())
}
