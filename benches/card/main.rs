//! Checks and measures training on an NVIDIA GPU: versions, convolutions against the
//! naive kernels, whole networks against f64 on the CPU, images per second, streaming from a tensor
//! cache, and the dearest launches. `card.sh` runs the parts within a time budget beside PyTorch
//! and makes a table of the lines that they print: fields between tabs, the part's name first.
//!
//! `cargo bench --bench card -- PART [ARGUMENTS]`; see `settings.rs` for the environment.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "prints its measurements")]

mod convolutions;
mod environment;
mod parity;
mod profile;
pub(crate) mod settings;
mod small;
mod speed;
mod streaming;
#[allow(dead_code, reason = "a run that fails is a result here, where `run` panics")]
#[path = "../watched/mod.rs"]
mod watched;

use std::error::Error;
use std::process::ExitCode;

/// What a part returns: an error says what is wrong, and ends the process with code 1.
pub(crate) type Outcome = Result<(), Box<dyn Error>>;

const USAGE: &str = "environment FILE | convolutions | parity MODEL FOLDER | \
                     speed [MODEL [BATCH [PRECISION [train|infer]]]] | streaming FOLDER | \
                     profile | small";

/// Runs a part, named by the first word.
pub(crate) fn run(words: &[&str]) -> Outcome {
    match words {
        ["environment", file] => environment::run(file.as_ref()),
        ["convolutions"] => convolutions::run(),
        ["parity", model, folder] => parity::run(model, folder.as_ref()),
        ["speed", chosen @ ..] => speed::run(chosen),
        ["streaming", folder] => streaming::run(folder.as_ref()),
        ["profile"] => profile::run(),
        ["small"] => small::run(),
        _ => Err(USAGE.into()),
    }
}

/// Prints a line of fields.
pub(crate) fn line(fields: &[&str]) {
    println!("{}", fields.join("\t"));
}

fn main() -> ExitCode {
    // Cargo adds a flag of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.is_empty() {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", words[0]);
            ExitCode::FAILURE
        }
    }
}
