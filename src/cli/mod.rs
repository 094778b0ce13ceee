//! The command line: one file per command, each of which parses its arguments, calls the rooms that
//! do the work, and prints the result.

mod backbones;
mod cache;
mod checkout;
mod chosen_model;
mod completions;
mod device;
mod diff;
mod earlier_models;
mod elsewhere;
mod evaluate;
mod export;
mod failure;
mod graph;
mod heat_maps;
mod images;
mod init;
mod lock_file;
mod log;
mod panics;
mod plan;
mod predict;
mod preview;
mod report;
mod run;
mod runs;
mod schema;
mod shared;
mod show;
mod signals;
mod stage;
mod status;
mod summary;
mod usage;
mod watch;
mod why;

use clap::{CommandFactory, Parser, Subcommand};
use failure::Failure;
use std::ffi::OsString;
use std::process::ExitCode;

/// Train image classifiers from one TOML file: declarative, cached, reproducible
#[derive(Parser)]
#[command(name = "pipe", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pipe run pipelines/quickstart.toml   train on images that pipe draws itself
  pipe init photos                     write a pipeline file for your own images
  pipe run photos.toml --set stages.train.epochs=3
                                       change a key for this run only
  pipe status photos.toml              show what would run, and why
  pipe preview photos.toml             show augmented training images
  pipe predict @0 holiday/             classify images with the latest model
  pipe evaluate @0 new/                score it on a folder of labelled images
  pipe export @0 --format onnx         write the latest model for other programs
  pipe diff @1 @0                      compare the last two runs

RUN is a run id, a unique prefix of one, a name given to a run, @0 (the latest
run) or @1 (the one before it).
Outputs are cached in a store: the folder given by --cache, else $PIPE_CACHE,
else `cache` in the current directory.
Exit codes: 0 success, 1 a stage or another valid request failed, 2 invalid
usage or pipeline file, 3 the store is damaged or locked, 130 interrupted.";

#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
    Status(status::Arguments),
    Why(why::Arguments),
    Graph(graph::Arguments),
    Runs(runs::Arguments),
    Watch(watch::Arguments),
    Show(show::Arguments),
    Log(log::Arguments),
    Diff(diff::Arguments),
    Report(report::Arguments),
    Checkout(checkout::Arguments),
    Predict(predict::Arguments),
    Evaluate(evaluate::Arguments),
    Export(export::Arguments),
    Preview(preview::Arguments),
    Backbones(backbones::Arguments),
    Device(device::Arguments),
    Cache(cache::Arguments),
    Schema(schema::Arguments),
    Init(init::Arguments),
    Completions(completions::Arguments),
    Stage(stage::Arguments),
}

/// Runs the command given by `arguments`, including the program's name, and returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let given: Vec<OsString> = arguments.into_iter().collect();
    let arguments = match Arguments::try_parse_from(&given) {
        Ok(arguments) => arguments,
        Err(error) => return usage::report(&error, &Arguments::command(), &given),
    };
    signals::survive_the_file_size_limit();
    let result = panics::guarded(|| {
        shared::start_diagnostic_log()?;
        run(&arguments.command)
    });
    result.unwrap_or_else(|failure: Failure| failure.report())
}

fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(arguments) => run::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Why(arguments) => why::run(arguments),
        Command::Graph(arguments) => graph::run(arguments),
        Command::Runs(arguments) => runs::run(arguments),
        Command::Watch(arguments) => watch::run(arguments),
        Command::Show(arguments) => show::run(arguments),
        Command::Log(arguments) => log::run(arguments),
        Command::Diff(arguments) => diff::run(arguments),
        Command::Report(arguments) => report::run(arguments),
        Command::Checkout(arguments) => checkout::run(arguments),
        Command::Predict(arguments) => predict::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Preview(arguments) => preview::run(arguments),
        Command::Backbones(arguments) => backbones::run(arguments),
        Command::Device(arguments) => device::run(arguments),
        Command::Cache(arguments) => cache::run(arguments),
        Command::Schema(arguments) => schema::run(arguments),
        Command::Init(arguments) => init::run(arguments),
        Command::Completions(arguments) => completions::run(arguments, Arguments::command()),
        Command::Stage(arguments) => stage::run(arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
