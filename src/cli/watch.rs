//! `pipe watch RUN`: follows a run that another terminal started, line by line, until it ends.

use super::failure::{Failure, INTERRUPTED};
use super::shared::StoreArguments;
use crate::events::Event;
use crate::runs::{self, Record, Status};
use crate::ui::{self, EventLines};
use clap::Args;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How often new events are looked for.
const INTERVAL: Duration = Duration::from_millis(250);

/// Follow a run from another terminal until it ends
///
/// Prints the lines that `pipe run` prints without a terminal, from the start. The exit code is that
/// of the run.
#[derive(Args)]
#[command(after_help = "Examples:
  pipe watch          the run that is going on, else the latest one
  pipe watch k3f      run k3f…")]
pub(super) struct Arguments {
    /// The run: an id, a unique prefix of one, a name, @0, @1, … [default: the one going on]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    #[command(flatten)]
    store: StoreArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let folder = arguments.store.open_existing()?.runs_folder();
    let record = match &arguments.run {
        Some(wanted) => runs::find(&folder, wanted)?,
        None => current(&folder)?,
    };
    ui::note(&format!("run {} of {}\n", record.id, record.pipeline));
    let mut lines = EventLines::new();
    let mut file = Follow::open(&record.folder);
    let mut ended = false;
    loop {
        // The status first: events written before the end are read after it.
        let status = record.reload()?.status;
        for event in file.new_events() {
            ended |= matches!(event, Event::RunFinished { .. });
            ui::out(&lines.render(&event))?;
        }
        match status {
            Status::Running if !ended => std::thread::sleep(INTERVAL),
            // The record is closed a moment after its last event.
            Status::Running => std::thread::sleep(INTERVAL / 5),
            status => return conclude(&record, status),
        }
    }
}

/// The run that is going on, else the latest.
fn current(folder: &Path) -> Result<Record, Failure> {
    let entries = runs::list(folder);
    let running = entries.iter().find(|entry| entry.record().status == Status::Running);
    match running {
        Some(entry) => Ok(entry.record().clone()),
        None => Ok(runs::find(folder, "@0")?),
    }
}

fn conclude(record: &Record, status: Status) -> Result<ExitCode, Failure> {
    ui::out(&format!("run {}: {status}\n", record.id))?;
    Ok(match status {
        Status::Ok => ExitCode::SUCCESS,
        Status::Cancelled => ExitCode::from(INTERRUPTED),
        _ => ExitCode::FAILURE,
    })
}

/// The events of a run as they are written.
struct Follow {
    file: Option<BufReader<File>>,
    /// The beginning of a line whose end isn't written yet.
    partial: Vec<u8>,
}

impl Follow {
    fn open(folder: &Path) -> Follow {
        let file = File::open(folder.join(runs::EVENTS)).ok().map(BufReader::new);
        Follow { file, partial: Vec::new() }
    }

    /// The events that were written since the last call. Lines that can't be read are left out.
    fn new_events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(file) = &mut self.file else { return events };
        while file.read_until(b'\n', &mut self.partial).is_ok_and(|count| count > 0) {
            if self.partial.last() != Some(&b'\n') {
                break;
            }
            events.extend(serde_json::from_slice::<Event>(&self.partial));
            self.partial.clear();
        }
        events
    }
}
