//! `pipe log RUN STAGE`: prints the events of a stage, from the run's record or, on a cache hit,
//! from the log that the store keeps with the key.

use super::failure::Failure;
use super::shared::{StoreArguments, find_run, stage_of};
use crate::events::{Event, StageEvent, StageOutcome};
use crate::runs;
use crate::store::{Digest, Store};
use crate::ui;
use clap::Args;
use std::process::ExitCode;

/// Show the log of a stage
///
/// For a stage that was fresh in that run, this is the log of the run that built its output.
#[derive(Args)]
pub(super) struct Arguments {
    /// The run: an id, a unique prefix of one, @0, @1, …
    #[arg(value_name = "RUN")]
    run: String,
    /// The stage
    #[arg(value_name = "STAGE")]
    stage: String,
    #[command(flatten)]
    store: StoreArguments,
    /// Print events as JSON, one object per line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let store = arguments.store.open_existing()?;
    let record = find_run(&store, &arguments.run)?;
    let name = arguments.stage.as_str();
    let stage = stage_of(&record, name)?;
    let mut events: Vec<Event> =
        runs::events(&record).list.into_iter().filter(|event| is_of(event, name)).collect();
    // A stage that didn't run recorded a summary at most.
    if let (Some(StageOutcome::Fresh), Some(key)) = (stage.outcome, &stage.key) {
        let log = stored_log(&store, key, name);
        if !log.is_empty() {
            let is_logged = |event: &Event| {
                matches!(
                    event,
                    Event::Message { .. }
                        | Event::Scalar { .. }
                        | Event::Count { .. }
                        | Event::Accepted { .. }
                        | Event::UndeclaredWrites { .. }
                )
            };
            events.retain(|event| !is_logged(event));
            events.splice(0..0, log);
        }
    }
    if arguments.json {
        let lines: Result<Vec<String>, _> = events.iter().map(serde_json::to_string).collect();
        let lines = lines.map_err(|error| Failure::failed(error.to_string()))?;
        ui::data(&lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>())?;
    } else {
        ui::out(&ui::render_events(&events))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn is_of(event: &Event, name: &str) -> bool {
    match event {
        Event::StageStarted { stage, .. }
        | Event::Progress { stage, .. }
        | Event::Scalar { stage, .. }
        | Event::Count { stage, .. }
        | Event::Accepted { stage, .. }
        | Event::NotReproducible { stage, .. }
        | Event::UndeclaredWrites { stage, .. }
        | Event::StageRetried { stage, .. }
        | Event::StageFinished { stage, .. } => stage == name,
        Event::Message { stage, .. } => stage.as_deref() == Some(name),
        Event::RunStarted { .. } | Event::RunFinished { .. } => false,
    }
}

/// The log that the store keeps with `key`. Unreadable lines are skipped.
fn stored_log(store: &Store, key: &str, stage: &str) -> Vec<Event> {
    let log = key.parse::<Digest>().ok().and_then(|key| store.log(&key).ok()).unwrap_or_default();
    let events = log
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<StageEvent>(line).ok());
    events.map(|event| event.of_stage(stage)).collect()
}
