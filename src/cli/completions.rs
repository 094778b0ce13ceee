//! `pipe completions SHELL`. Knows the shape of the command line alone.

use super::failure::Failure;
use crate::ui;
use clap::Args;
use std::process::ExitCode;

/// Print a script that completes pipe's commands in a shell
#[derive(Args)]
#[command(
    after_help = "Example:\n  pipe completions bash > ~/.local/share/bash-completion/completions/pipe"
)]
pub(super) struct Arguments {
    /// bash, zsh, fish, elvish or powershell
    shell: clap_complete::Shell,
}

pub(super) fn run(arguments: &Arguments, mut command: clap::Command) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "pipe", &mut script);
    ui::out(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
