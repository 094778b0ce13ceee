//! `pipe status FILE`. Knows that a plan can be made without running it.

use super::earlier_models;
use super::failure::Failure;
use super::plan;
use super::shared::{Earlier, PipelineArguments, StoreArguments};
use super::signals;
use crate::engine::{self, Device, Options};
use crate::events::CancellationToken;
use clap::Args;
use std::process::ExitCode;

/// Say of each stage whether it is fresh, and if not, why
#[derive(Args)]
#[command(
    after_help = "A stage is fresh, dirty (it would run, for the reason that stands beside it), or pending: below a \
dirty one,\nit may yet turn out fresh, since keys are made of content."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// What would compute: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    #[command(flatten)]
    store: StoreArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (_, mut graph) = arguments.pipeline.read()?;
    let store = arguments.store.open()?;
    earlier_models::find(&mut graph, &store)?;
    let cancel = CancellationToken::new();
    signals::raise(&cancel)?;
    let plan =
        engine::plan(&graph, &store, &looking(arguments.device), &Earlier::of(&store), &cancel)?;
    plan::print(&graph, &plan, arguments.json)
}

/// Options for a plan that is only looked at.
pub(super) fn looking(device: Device) -> Options {
    Options { device, ..Options::default() }
}
