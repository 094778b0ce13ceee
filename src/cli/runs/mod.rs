//! `pipe runs`: lists the runs on record, one line per run, filtered and sorted; its subcommands
//! name, tag, annotate and remove them.

mod edit;

use super::failure::Failure;
use super::shared::{StoreArguments, warn_of_files};
use super::summary;
use crate::common::words::or_list;
use crate::common::{nearest, number};
use crate::events::StageOutcome;
use crate::runs::diff::{Change, changes};
use crate::runs::{self, Entry, FIELDS, Filter, Record, Results, Timestamp};
use crate::ui::{self, Side, Style, Table};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// The number of changes that a line shows.
const SHOWN: usize = 3;

/// List the runs on record, newest first
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  pipe runs name=baseline              runs of this name
  pipe runs tag=paper accuracy>0.9     all conditions must hold
  pipe runs train.epochs=20            by a parameter
  pipe runs --sort accuracy            the most accurate first
  pipe runs tag @0 paper               add a tag to the latest run

A condition is KEY=VALUE, or with != > >= < <= (quote < and > for the shell).
KEY is name, tag, note, pipeline, status, seed, seconds, accuracy, macro_f1,
loss, or a parameter."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    edit: Option<Edit>,
    /// Show only runs for which all conditions hold
    #[arg(value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Sort by this key, the largest value first
    #[arg(long, value_name = "KEY")]
    sort: Option<String>,
    /// Show at most N runs
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    store: StoreArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Edit {
    Tag(edit::TagArguments),
    Name(edit::NameArguments),
    Note(edit::NoteArguments),
    Rm(edit::RemoveArguments),
}

/// A run in the list.
struct Listed {
    /// `@3`.
    number: String,
    record: Record,
    /// Parameters that differ from the same pipeline's run before.
    changes: Vec<Change>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.edit {
        Some(Edit::Tag(arguments)) => edit::tag(arguments),
        Some(Edit::Name(arguments)) => edit::name(arguments),
        Some(Edit::Note(arguments)) => edit::note(arguments),
        Some(Edit::Rm(arguments)) => edit::remove(arguments),
        None => list(arguments),
    }
}

fn list(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let store = arguments.store.open_existing()?;
    let entries = runs::list(&store.runs_folder());
    let is_empty = entries.is_empty();
    let (shown, count) = select(arguments, &entries)?;
    for Listed { record, .. } in &shown {
        warn_of_files(record, &record.damaged_results(summary::METRICS));
    }
    if arguments.json {
        ui::json(&shown.iter().map(as_json).collect::<Vec<_>>())?;
    } else if is_empty {
        ui::out("no runs yet: start one with `pipe run FILE`\n")?;
    } else if shown.is_empty() {
        ui::out("no run meets the conditions\n")?;
    } else {
        ui::out(&table(&shown))?;
        let more = count.saturating_sub(shown.len());
        if more > 0 {
            let more = number::counted(more as u64, "more run");
            ui::note(&format!("and {more}; --limit shows them\n"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The runs to show, and the number of those that meet the conditions.
fn select(arguments: &Arguments, entries: &[Entry]) -> Result<(Vec<Listed>, usize), Failure> {
    if arguments.conditions.is_empty() && arguments.sort.is_none() {
        let newest = 0..entries.len().min(arguments.limit);
        return Ok((newest.map(|at| Listed::of(entries, at)).collect(), entries.len()));
    }
    runs::read_all(entries);
    let filters = arguments.conditions.iter().map(|text| filter(text, entries));
    let filters: Vec<Filter> = filters.collect::<Result<_, _>>()?;
    let is_wanted = |record: &Record| filters.iter().all(|filter| filter.matches(record));
    let mut wanted: Vec<usize> =
        (0..entries.len()).filter(|&at| is_wanted(entries[at].record())).collect();
    if let Some(key) = &arguments.sort {
        check_key(key, entries)?;
        runs::sort(&mut wanted, key, |&at| entries[at].record());
    }
    let shown = wanted.iter().take(arguments.limit).map(|&at| Listed::of(entries, at));
    Ok((shown.collect(), wanted.len()))
}

impl Listed {
    /// The run with this number, compared with the one before it of the same pipeline.
    fn of(entries: &[Entry], number: usize) -> Listed {
        let record = entries[number].record();
        let older = entries.iter().skip(number + 1);
        let of_pipeline = older.filter(|other| other.pipeline == record.pipeline);
        let before = of_pipeline.map(Entry::record).find(|other| other.problem.is_none());
        let changes = match before.filter(|_| record.problem.is_none()) {
            Some(before) => changes(before, record),
            None => Vec::new(),
        };
        Listed { number: format!("@{number}"), record: record.clone(), changes }
    }
}

fn filter(text: &str, entries: &[Entry]) -> Result<Filter, Failure> {
    let Some(filter) = Filter::parse(text) else {
        let message = format!("`{text}` is no condition");
        return Err(Failure::invalid(message)
            .help("write KEY=VALUE, such as `name=baseline`, or with != > >= < <="));
    };
    check_key(filter.key(), entries)?;
    Ok(filter)
}

fn check_key(key: &str, entries: &[Entry]) -> Result<(), Failure> {
    if entries.is_empty() || runs::is_known(entries.iter().map(Entry::record), key) {
        return Ok(());
    }
    let help = match nearest(key, FIELDS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("use {} or a parameter such as `train.epochs`", or_list(FIELDS)),
    };
    Err(Failure::invalid(format!("no run has a `{key}`")).help(help))
}

fn as_json(listed: &Listed) -> Value {
    let record = &listed.record;
    json!({
        "run": record.id,
        "name": record.labels.name,
        "note": record.labels.note,
        "tags": record.labels.tags,
        "pipeline": record.pipeline,
        "status": record.status,
        "problem": record.problem,
        "started": record.started,
        "seconds": record.seconds,
        "ran": ran(record),
        "changes": listed.changes,
        "accuracy": summary::accuracy(Results::of(record)),
    })
}

/// The names of the stages that ran, failed ones included.
fn ran(record: &Record) -> Vec<&str> {
    let has_run = |outcome| {
        let ran = [StageOutcome::Ran, StageOutcome::Failed, StageOutcome::Cancelled];
        ran.map(Some).contains(&outcome)
    };
    record
        .stages
        .iter()
        .filter(|stage| has_run(stage.outcome))
        .map(|stage| stage.stage.as_str())
        .collect()
}

fn table(listed: &[Listed]) -> String {
    let has_names = listed.iter().any(|one| !labels(&one.record).is_empty());
    let columns = [
        Some(("", Side::Right)),
        Some(("run", Side::Left)),
        has_names.then_some(("name, tags", Side::Left)),
        Some(("pipeline", Side::Left)),
        Some(("started", Side::Left)),
        Some(("status", Side::Left)),
        Some(("took", Side::Right)),
        Some(("accuracy", Side::Right)),
        Some(("changed since the run before", Side::Left)),
    ];
    let mut table = Table::new(columns.into_iter().flatten());
    let now = Timestamp::now();
    for Listed { number, record, changes } in listed {
        let accuracy =
            summary::accuracy(Results::of(record)).map(number::percent).unwrap_or_default();
        let readable = record.problem.is_none();
        let if_readable = |text: String| if readable { text } else { String::new() };
        let cells = [
            Some(number.clone()),
            Some(record.id.to_string()),
            has_names.then(|| labels(record)),
            Some(record.pipeline.clone()),
            Some(if_readable(record.started.ago(now))),
            Some(record.status.to_string()),
            Some(if_readable(number::seconds(record.seconds))),
            Some(accuracy),
            Some(record.problem.clone().unwrap_or_else(|| changed(record, changes))),
        ];
        table.row(cells.into_iter().flatten());
    }
    table.render(Style::stdout())
}

/// `baseline #paper #v2`.
fn labels(record: &Record) -> String {
    let tags = record.labels.tags.iter().map(|tag| format!("#{tag}"));
    let name = Some(record.labels.name.clone()).filter(|name| !name.is_empty());
    name.into_iter().chain(tags).collect::<Vec<_>>().join(" ")
}

/// The note, the outputs that the user vouched for, then the first changes.
fn changed(record: &Record, changes: &[Change]) -> String {
    let note = Some(record.labels.note.clone()).filter(|note| !note.is_empty());
    let shown = changes.iter().take(SHOWN).map(Change::to_string);
    let more = changes.len().saturating_sub(SHOWN);
    let more = (more > 0).then(|| format!("{more} more"));
    let accepted = record.stages.iter().filter(|stage| stage.accepted.is_some());
    let accepted = accepted.map(|stage| format!("accepted {}", stage.stage));
    note.into_iter().chain(accepted).chain(shown).chain(more).collect::<Vec<_>>().join("; ")
}
