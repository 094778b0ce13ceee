//! `pipe stage JOB`: runs one job in this process.

use super::failure::Failure;
use crate::engine;
use crate::stages::KINDS;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run one stage from a job file, as a worker of `pipe run`
///
/// Prints events as JSON, one object per line. Exits when standard input ends: the parent keeps it
/// open.
#[derive(Args)]
pub(super) struct Arguments {
    /// The job file
    #[arg(value_name = "JOB")]
    job: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    Ok(engine::run_job(&arguments.job, KINDS))
}
