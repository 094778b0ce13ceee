//! `pipe runs tag|name|note|rm`: tags, names and notes of runs, and their removal.

use crate::cli::failure::Failure;
use crate::cli::shared::{StoreArguments, run_name};
use crate::common::number;
use crate::runs::{self, Labels, Record, Status};
use crate::ui;
use clap::Args;
use std::process::ExitCode;

/// Add tags to a run, or remove them
#[derive(Args)]
pub(super) struct TagArguments {
    /// The run: an id, a unique prefix of one, a name, @0, @1, …
    #[arg(value_name = "RUN")]
    run: String,
    /// The tags
    #[arg(value_name = "TAG", required = true, value_parser = run_name)]
    tags: Vec<String>,
    /// Remove them
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    store: StoreArguments,
}

/// Name a run; the name stands for its id in other commands
#[derive(Args)]
pub(super) struct NameArguments {
    /// The run: an id, a unique prefix of one, a name, @0, @1, …
    #[arg(value_name = "RUN")]
    run: String,
    /// The name
    #[arg(value_name = "NAME", value_parser = run_name)]
    name: String,
    #[command(flatten)]
    store: StoreArguments,
}

/// Set the note of a run; an empty one removes it
#[derive(Args)]
pub(super) struct NoteArguments {
    /// The run: an id, a unique prefix of one, a name, @0, @1, …
    #[arg(value_name = "RUN")]
    run: String,
    /// The note
    #[arg(value_name = "TEXT")]
    note: String,
    #[command(flatten)]
    store: StoreArguments,
}

/// Remove runs from the record
///
/// Their outputs stay in the store until `pipe cache gc` collects them.
#[derive(Args)]
pub(super) struct RemoveArguments {
    /// The runs: ids, unique prefixes of them, names, @0, @1, …
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<String>,
    #[command(flatten)]
    store: StoreArguments,
}

pub(super) fn tag(arguments: &TagArguments) -> Result<ExitCode, Failure> {
    change(&arguments.store, &arguments.run, |labels| match arguments.remove {
        true => labels.tags.retain(|tag| !arguments.tags.contains(tag)),
        false => labels.tags.extend(arguments.tags.iter().cloned()),
    })
}

pub(super) fn name(arguments: &NameArguments) -> Result<ExitCode, Failure> {
    change(&arguments.store, &arguments.run, |labels| labels.name.clone_from(&arguments.name))
}

pub(super) fn note(arguments: &NoteArguments) -> Result<ExitCode, Failure> {
    change(&arguments.store, &arguments.run, |labels| labels.note.clone_from(&arguments.note))
}

fn change(
    store: &StoreArguments,
    run: &str,
    change: impl FnOnce(&mut Labels),
) -> Result<ExitCode, Failure> {
    let record = runs::find(&store.open_existing()?.runs_folder(), run)?;
    let mut labels = record.labels.clone();
    change(&mut labels);
    runs::set_labels(&record, &labels)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn remove(arguments: &RemoveArguments) -> Result<ExitCode, Failure> {
    let folder = arguments.store.open_existing()?.runs_folder();
    // All are found before the first is removed: `@1` means another run then.
    // A damaged record can be removed as well.
    let find = |wanted: &String| runs::find_readable_or_not(&folder, wanted);
    let mut records: Vec<Record> = arguments.runs.iter().map(find).collect::<Result<_, _>>()?;
    records.sort_by(|one, other| one.id.cmp(&other.id));
    records.dedup_by(|one, other| one.id == other.id);
    if let Some(running) = records.iter().find(|record| record.status == Status::Running) {
        let message = format!("run {} is going on", running.id);
        return Err(Failure::invalid(message).help("stop it first, or wait for its end"));
    }
    records.iter().try_for_each(runs::remove)?;
    let removed = number::counted(records.len() as u64, "run");
    ui::out(&format!("removed {removed}; `pipe cache gc` frees what only they used\n"))?;
    Ok(ExitCode::SUCCESS)
}
