//! The driver's side of training on a GPU, without one: against the fake driver of
//! `tests/cuda/driver.cpp`, which does each stream's work as late as the API allows, and the fake
//! cuDNN of `tests/cuda/cudnn.cpp`, which convolves on the CPU. Libraries are loaded once per
//! process, so every case runs in a child process; see `harness.rs`. Apart from the unit tests,
//! since a child may keep what they have locked for a moment.

mod card;
mod convolutions;
mod errors;
mod harness;
mod pipeline;
mod queue;
mod training;
mod use_of_memory;
mod views;

use harness::{Case, Outcome, STUB_OF_CUDNN, Scenario};
use pipe::cuda::*;

const SOURCE: Source<'_> =
    Source { name: "few.cu", text: "__global__ void add();", options: &["--fmad=false"] };

/// What a child process does, by name.
fn scenario(name: &str) -> Option<&'static Scenario> {
    let all = [
        card::SCENARIOS,
        convolutions::SCENARIOS,
        errors::SCENARIOS,
        queue::SCENARIOS,
        training::SCENARIOS,
        use_of_memory::SCENARIOS,
        views::SCENARIOS,
    ];
    all.into_iter().flatten().find(|(known, _)| *known == name)
}

/// Runs a scenario where the environment names one; in an ordinary run of the tests it does
/// nothing.
#[test]
fn child() {
    harness::run_scenario(scenario);
}
