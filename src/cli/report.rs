//! `pipe report RUN…`: writes the HTML report of a run, or one that compares several runs.

use super::failure::Failure;
use super::heat_maps;
use super::shared::{StoreArguments, find_run, shown};
use super::summary::REPORT;
use crate::common::replace::replace_file;
use crate::report;
use crate::runs::{Record, Results};
use crate::ui;
use clap::Args;
use serde_json::json;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write the HTML report of a run or a comparison
///
/// The report is a single, self-contained HTML file. That of a single run is also written after
/// every run.
#[derive(Args)]
#[command(after_help = "Examples:\n  pipe report @0\n  pipe report @1 @0 --output compared.html")]
pub(super) struct Arguments {
    /// The runs: ids, unique prefixes of ids, @0, @1, …; the first is the baseline of a comparison
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<String>,
    /// Where to write the report [default: the folder of the first run]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArguments,
    /// Print the path of the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let store = arguments.store.open_existing()?;
    let find = |wanted: &String| find_run(&store, wanted);
    let records: Vec<Record> = arguments.runs.iter().map(find).collect::<Result<_, _>>()?;
    let path = match (&arguments.output, records.as_slice()) {
        (Some(path), _) => path.clone(),
        (None, [first, others @ ..]) => first.folder.join(name(others)),
        (None, []) => return Err(Failure::invalid("no run is named")),
    };
    let results: Vec<Results> =
        records.iter().map(|record| Results::of(record).with_store(&store)).collect();
    write_page(
        &path,
        &report::page(&results, Some(&heat_maps::explain)),
        "name another file with `--output`",
    )?;
    if arguments.json {
        let ids: Vec<_> = records.iter().map(|record| &record.id).collect();
        ui::json(&json!({ "runs": ids, "report": path }))?;
    } else {
        ui::out(&format!("{}\n", shown(&path)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The file name of a report, which lists the other runs of a comparison.
fn name(others: &[Record]) -> String {
    let mut name = REPORT.trim_end_matches(".html").to_owned();
    others.iter().for_each(|record| name.push_str(&format!("-{}", record.id)));
    name + ".html"
}

/// Writes a page: a kill leaves the earlier one or the whole new one. `help` says what to do where
/// that isn't permitted.
pub(super) fn write_page(path: &Path, page: &str, help: &str) -> Result<(), Failure> {
    replace_file(path, page.as_bytes()).map_err(|error| {
        let failure = Failure::failed(format!("failed to write `{}`: {error}", shown(path)));
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                failure.help(help)
            }
            _ => failure,
        }
    })
}
