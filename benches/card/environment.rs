//! The card and the libraries beside it, and the card's description by cuDNN, of which described
//! cards for tests are made (`tests/cuda/cards`).

use super::settings::gpu_index;
use super::{Outcome, line};
use pipe::cuda::convolution::{Cudnn, Handle};
use pipe::cuda::{Card, FoundLibrary, Library, found, required};
use std::fs;
use std::path::Path;

/// Prints what was found, and writes the description to `file`.
pub(crate) fn run(file: &Path) -> Outcome {
    let found = found();
    for (name, library) in [
        ("driver", &found.driver),
        ("NVRTC", &found.nvrtc),
        ("cuBLASLt", &found.cublas_lt),
        ("cuDNN", &found.cudnn),
    ] {
        line(&["environment", name, &of(library)]);
    }
    let card = Card::open(gpu_index())?;
    let properties = card.properties();
    let (free, total) = card.memory()?;
    line(&["environment", "card", &properties.name]);
    line(&["environment", "capability", &properties.capability.to_string()]);
    line(&["environment", "memory, GB", &format!("{:.1}", total as f64 / 1e9)]);
    line(&["environment", "free, GB", &format!("{:.1}", free as f64 / 1e9)]);
    // cuDNN ends the process where it doesn't find it.
    required(Library::CublasLt)?;
    required(Library::Cudnn)?;
    let description = Handle::new(Cudnn::load()?, card.compute())?.describe()?;
    Ok(fs::write(file, description)?)
}

fn of(library: &FoundLibrary) -> String {
    match (&library.version, &library.problem) {
        (_, Some(problem)) => problem.clone(),
        (Some(version), None) => version.to_string(),
        (None, None) => "unknown".to_owned(),
    }
}
