//! Errors of networks, their inputs and their weights.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error of a network, its input or its weights.
#[derive(Debug)]
#[non_exhaustive]
pub enum NnError {
    /// No backbone, preset or stage has this name; the names there are.
    Unknown {
        /// "backbone", "weights", …
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names that exist, nearest first.
        known: Vec<String>,
    },
    /// The graph doesn't fit together, or not with this input.
    Graph(String),
    /// Numbers handed in have the wrong length or range.
    Input(String),
    /// A batch norm would take the statistics of a single value a channel: one image, one pixel.
    SingleValue {
        /// The norm.
        norm: String,
    },
    /// Weights that don't fit the network: a sentence for each parameter, with both shapes.
    Mismatch(Vec<String>),
    /// A weights file that isn't what it should be.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that couldn't be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The device failed, most likely for want of memory.
    Device(String),
}

impl NnError {
    pub(crate) fn device(error: impl fmt::Debug) -> NnError {
        NnError::Device(format!("{error:?}"))
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> NnError {
        NnError::File { path: path.to_owned(), reason: reason.into() }
    }

    /// An unknown name, with the known ones sorted so that the likeliest slip of the pen comes first.
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

impl fmt::Display for NnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NnError::Unknown { what, name, known } => {
                write!(f, "no {what} has the name `{name}`; there are {}", known.join(", "))
            }
            NnError::Graph(reason) | NnError::Input(reason) => f.write_str(reason),
            NnError::SingleValue { norm } => {
                write!(
                    f,
                    "{norm} would normalize over a single value a channel: batches of one image are too small here"
                )
            }
            NnError::Mismatch(list) => {
                let (count, more) = (list.len(), list.len().saturating_sub(8));
                write!(
                    f,
                    "{count} of the weights don't fit the network: {}",
                    list[..count - more].join("; ")
                )?;
                if more > 0 { write!(f, "; and {more} more") } else { Ok(()) }
            }
            NnError::File { path, reason } => write!(f, "{}: {reason}", path.display()),
            NnError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            NnError::Device(reason) => write!(f, "the device failed (out of memory?): {reason}"),
        }
    }
}

impl std::error::Error for NnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NnError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
