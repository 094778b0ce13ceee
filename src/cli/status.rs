//! `pipe status FILE`: plans a run and prints the plan without executing it.

use super::earlier_models;
use super::failure::Failure;
use super::lock_file::LockFile;
use super::plan;
use super::shared::{DeviceArguments, PipelineArguments, RemoteArguments, StoreArguments};
use super::signals;
use crate::engine::{Device, Options};
use crate::events::CancellationToken;
use clap::Args;
use std::process::ExitCode;

/// Show which stages are up to date, and why the others are not
#[derive(Args)]
#[command(
    after_help = "A stage is fresh (up to date), dirty (it would run, for the reason given), pending\n\
(it needs a dirty stage; if the output of that doesn't change, it turns out fresh) or\n\
remote (a cache of --cache-from has its output)."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    remotes: RemoteArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (pipeline, mut graph) = arguments.pipeline.read()?;
    let store = arguments.store.open_for_plan()?;
    earlier_models::resolve(&mut graph, &store)?;
    LockFile::beside(&arguments.pipeline.file)?.apply(&graph, &store)?;
    let cancel = CancellationToken::new();
    signals::cancel_on_interrupt(&cancel)?;
    let mut options = plan_only(arguments.device.of(&pipeline)?.device);
    options.remotes = arguments.remotes.caches()?;
    let plan = plan::make(&graph, &store, &options, &cancel)?;
    plan::print(&graph, &plan, &plan::disk(&graph, &plan, &store), &store, arguments.json)
}

/// Options for a plan that isn't executed.
pub(super) fn plan_only(device: Device) -> Options {
    Options { device, ..Options::default() }
}
