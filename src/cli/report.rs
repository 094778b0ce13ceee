//! `pipe report RUN…`: draws the page again, or one page that holds several runs against each other. Knows where pages
//! lie, not what is on them.

use super::closing::PAGE;
use super::failure::Failure;
use super::shared::{StoreArguments, shown};
use crate::report;
use crate::runs::{self, Record, Results};
use crate::ui;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Draw the page of a run, or one page that compares several
///
/// The page is one HTML file that needs nothing else. It is drawn at the end of every run, too.
#[derive(Args)]
#[command(after_help = "Examples:\n  pipe report @0\n  pipe report @1 @0 --output compared.html")]
pub(super) struct Arguments {
    /// The runs: ids, beginnings of ids, @0, @1, …; the others are held against the first
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<String>,
    /// Where to write the page [default: in the folder of the first run]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArguments,
    /// Print where the page lies as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let store = arguments.store.open_existing()?;
    let find = |wanted: &String| runs::find(&store.runs_folder(), wanted);
    let records: Vec<Record> = arguments.runs.iter().map(find).collect::<Result<_, _>>()?;
    let path = match (&arguments.output, records.as_slice()) {
        (Some(path), _) => path.clone(),
        (None, [first, others @ ..]) => first.folder.join(name(others)),
        (None, []) => return Err(Failure::wrong("no run is named")),
    };
    let results: Vec<Results> = records.iter().map(Results::of).collect();
    let write = |path: &PathBuf| std::fs::write(path, report::page(&results));
    write(&path)
        .map_err(|error| Failure::failed(format!("can't write {}: {error}", shown(&path))))?;
    if arguments.json {
        let ids: Vec<_> = records.iter().map(|record| &record.id).collect();
        ui::json(&json!({ "runs": ids, "report": path }))?;
    } else {
        ui::out(&format!("{}\n", shown(&path)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The page's file name: a page of several runs stands beside that of the first.
fn name(others: &[Record]) -> String {
    let mut name = PAGE.trim_end_matches(".html").to_owned();
    others.iter().for_each(|record| name.push_str(&format!("-{}", record.id)));
    name + ".html"
}
