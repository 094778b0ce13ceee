//! The command line: one file a command, each of which parses, calls and prints. Knows every room that a command needs
//! and does none of their work.

mod backbones;
mod cache;
mod closing;
mod completions;
mod diff;
mod earlier_models;
mod failure;
mod graph;
mod init;
mod log;
mod plan;
mod predict;
mod report;
mod run;
mod runs;
mod schema;
mod shared;
mod show;
mod signals;
mod stage;
mod status;
mod why;

use clap::{CommandFactory, Parser, Subcommand};
use failure::Failure;
use std::ffi::OsString;
use std::process::ExitCode;

/// Turns one TOML file into a trained, evaluated and comparable image classifier.
#[derive(Parser)]
#[command(name = "pipe", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pipe run pipelines/quickstart.toml                  train on images that pipe draws itself
  pipe init photos                                    write a pipeline file for a folder
  pipe run photos.toml --set stages.train.epochs=3    change a key for this run alone
  pipe status photos.toml                             what would run, and why
  pipe predict @0 holiday/                            classify images with the latest model
  pipe diff @1 @0                                     what changed, and what it did

A RUN is an id, a unique beginning of one, @0 (the latest run) or @1 (the one before it).
What is made is kept in a store: `cache` where you stand, unless --cache or PIPE_CACHE says else.
Exit codes: 0 done, 1 a stage failed, 2 the request was wrong, 3 the store is damaged or locked,
130 interrupted.";

#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
    Status(status::Arguments),
    Why(why::Arguments),
    Graph(graph::Arguments),
    Runs(runs::Arguments),
    Show(show::Arguments),
    Log(log::Arguments),
    Diff(diff::Arguments),
    Report(report::Arguments),
    Predict(predict::Arguments),
    Backbones(backbones::Arguments),
    Cache(cache::Arguments),
    Schema(schema::Arguments),
    Init(init::Arguments),
    Completions(completions::Arguments),
    Stage(stage::Arguments),
}

/// Runs the command that `arguments` ask for and says how it went: 0 done, 1 a stage failed, 2 the request was wrong,
/// 3 the store is damaged or locked, 130 interrupted.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return failure::usage(&error),
    };
    let result = match &arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Why(arguments) => why::run(arguments),
        Command::Graph(arguments) => graph::run(arguments),
        Command::Runs(arguments) => runs::run(arguments),
        Command::Show(arguments) => show::run(arguments),
        Command::Log(arguments) => log::run(arguments),
        Command::Diff(arguments) => diff::run(arguments),
        Command::Report(arguments) => report::run(arguments),
        Command::Predict(arguments) => predict::run(arguments),
        Command::Backbones(arguments) => backbones::run(arguments),
        Command::Cache(arguments) => cache::run(arguments),
        Command::Schema(arguments) => schema::run(arguments),
        Command::Init(arguments) => init::run(arguments),
        Command::Completions(arguments) => completions::run(arguments, Arguments::command()),
        Command::Stage(arguments) => stage::run(arguments),
    };
    result.unwrap_or_else(|failure: Failure| failure.tell())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
