//! Errors of networks, their inputs and their weights.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error of a network, its input or its weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NnError {
    /// No backbone or preset has this name.
    #[error("no {what} has the name `{name}`; there are {}", known.join(", "))]
    Unknown {
        /// "backbone" or "weights".
        what: &'static str,
        name: String,
        /// The known names, most similar first.
        known: Vec<String>,
    },
    /// The graph is invalid, or doesn't match the size of its input.
    #[error("{0}")]
    Graph(String),
    /// An input has the wrong length.
    #[error("{0}")]
    Input(String),
    /// A batch norm would compute statistics of a single value per channel: one image, one pixel.
    #[error(
        "{norm} would normalize over a single value per channel: batches of one image are too small here"
    )]
    SingleValue { norm: String },
    /// Weights that don't match the network: one message per tensor, with both shapes.
    #[error("{}", mismatches(.0))]
    Mismatch(Vec<String>),
    /// A weights file is invalid.
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The device can't multiply in bf16.
    #[error("bf16 is computed on processors with AVX2 and FMA alone")]
    Bf16,
    /// The device has too little memory.
    #[error("there is not enough memory")]
    OutOfMemory,
    /// The device failed otherwise.
    #[error("the device failed: {0}")]
    Device(String),
}

impl NnError {
    /// What to do, if it is known.
    pub(crate) fn help(&self) -> Option<&'static str> {
        matches!(self, NnError::Bf16).then_some("train with `precision = \"f32\"`")
    }

    pub(crate) fn device(error: impl fmt::Debug) -> NnError {
        let text = format!("{error:?}");
        // `OutOfMemory` on the processor, `CUDA_ERROR_OUT_OF_MEMORY` on a GPU.
        match text.to_lowercase().replace('_', "").contains("outofmemory") {
            true => NnError::OutOfMemory,
            false => NnError::Device(text),
        }
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> NnError {
        NnError::File { path: path.to_owned(), reason: reason.into() }
    }

    /// An unknown name; sorts the known names by similarity.
    pub(crate) fn unknown<'a>(
        what: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> NnError {
        let mut known: Vec<String> = known.into_iter().map(str::to_owned).collect();
        known.sort_by(|a, b| {
            strsim::jaro_winkler(name, b).total_cmp(&strsim::jaro_winkler(name, a))
        });
        NnError::Unknown { what, name: name.to_owned(), known }
    }
}

/// At most eight of the messages.
fn mismatches(list: &[String]) -> String {
    let (shown, rest) = list.split_at(list.len().min(8));
    let more = if rest.is_empty() { String::new() } else { format!("; and {} more", rest.len()) };
    format!("{} of the weights don't match the network: {}{more}", list.len(), shown.join("; "))
}
