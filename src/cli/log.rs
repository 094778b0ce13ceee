//! `pipe log RUN STAGE`: what a stage told, as it was told. Knows the record of a run and the logs that the store keeps.

use super::failure::Failure;
use super::shared::StoreArguments;
use crate::events::{Event, StageEvent};
use crate::runs;
use crate::store::{Digest, Store};
use crate::ui;
use clap::Args;
use std::process::ExitCode;

/// Show what a stage told while it ran
///
/// For a stage that was fresh in that run, what it told when it was made.
#[derive(Args)]
pub(super) struct Arguments {
    /// The run: an id, the beginning of one, @0, @1, …
    #[arg(value_name = "RUN")]
    run: String,
    /// The stage
    #[arg(value_name = "STAGE")]
    stage: String,
    #[command(flatten)]
    store: StoreArguments,
    /// Print events as JSON, one object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let store = arguments.store.open_existing()?;
    let record = runs::find(&store.runs_folder(), &arguments.run)?;
    let name = arguments.stage.as_str();
    let Some(stage) = record.stage(name) else {
        let names: Vec<&str> = record.stages.iter().map(|stage| stage.stage.as_str()).collect();
        let help = format!("its stages are {}", names.join(", "));
        return Err(Failure::wrong(format!("run {} has no stage `{name}`", record.id)).help(help));
    };
    let mut told: Vec<Event> =
        runs::events(&record).list.into_iter().filter(|event| is_of(event, name)).collect();
    let replayed =
        told.iter().any(|event| matches!(event, Event::Message { .. } | Event::Scalar { .. }));
    if let (false, Some(key)) = (replayed, &stage.key) {
        let kept = kept(&store, key, name);
        told.splice(0..0, kept);
    }
    if arguments.json {
        let lines: Result<Vec<String>, _> = told.iter().map(serde_json::to_string).collect();
        let lines = lines.map_err(|error| Failure::failed(error.to_string()))?;
        ui::out(&lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>())?;
    } else {
        ui::out(&ui::render_events(&told))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn is_of(event: &Event, name: &str) -> bool {
    match event {
        Event::StageStarted { stage, .. }
        | Event::Progress { stage, .. }
        | Event::Scalar { stage, .. }
        | Event::StageFinished { stage, .. } => stage == name,
        Event::Message { stage, .. } => stage.as_deref() == Some(name),
        Event::RunStarted { .. } | Event::RunFinished { .. } => false,
    }
}

/// The log that the store keeps with a key. Lines that can't be read are passed over: a log explains, it decides nothing.
fn kept(store: &Store, key: &str, stage: &str) -> Vec<Event> {
    let log = key.parse::<Digest>().ok().and_then(|key| store.log(&key).ok()).unwrap_or_default();
    let told = log
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<StageEvent>(line).ok());
    told.map(|told| told.of_stage(stage)).collect()
}
