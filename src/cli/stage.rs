//! `pipe stage JOB`: one job in this process. Knows nothing of what is in it.

use super::failure::Failure;
use crate::engine;
use crate::stages::KINDS;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run one stage from a job file, as `pipe run` does in a process of its own
///
/// Events are printed as JSON, one object a line. Standard input is held open by the parent: where it ends, so does this.
#[derive(Args)]
pub(super) struct Arguments {
    /// The job file
    #[arg(value_name = "JOB")]
    job: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    Ok(engine::run_job(&arguments.job, KINDS))
}
