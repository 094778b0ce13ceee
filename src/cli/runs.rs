//! `pipe runs`: a line a run. Knows records, not what is in them beyond a headline.

use super::closing;
use super::failure::Failure;
use super::shared::StoreArguments;
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
    /// Show no more than this many
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
        ui::out("no runs yet: `pipe run FILE` makes one\n")?;
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
        "accuracy": closing::accuracy(record),
    })
}

/// The stages that ran.
fn ran(record: &Record) -> Vec<&str> {
    let did = |outcome| matches!(outcome, Some(StageOutcome::Ran | StageOutcome::Failed));
    record
        .stages
        .iter()
        .filter(|stage| did(stage.outcome))
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
        ("what ran", Side::Left),
    ]);
    let now = Timestamp::now();
    for (at, record) in records.enumerate() {
        let what = record.problem.clone().unwrap_or_else(|| ran(record).join(", "));
        let accuracy = closing::accuracy(record).map(number::percent).unwrap_or_default();
        let known = record.problem.is_none();
        let (started, took) = (record.started.ago(now), number::seconds(record.seconds));
        table.row([
            format!("@{at}"),
            record.id.to_string(),
            record.pipeline.clone(),
            if known { started } else { String::new() },
            record.status.to_string(),
            if known { took } else { String::new() },
            accuracy,
            what,
        ]);
    }
    table.render(Style::stdout())
}
