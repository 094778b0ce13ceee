//! Errors about image data, as sentences with the file that they concern and, where known, what to
//! do.

use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum DataError {
    #[error("cancelled")]
    Cancelled,
    /// A failed file operation: `failed` is "failed to read /data/a.jpg".
    #[error("{failed}: {source}")]
    Io { failed: String, source: io::Error },
    /// A file written by this program that is incomplete or was changed.
    #[error("{} is damaged: {reason}", file.display())]
    Damaged { file: PathBuf, reason: String },
    /// An image that can't be decoded or resized: the reason.
    #[error("{0}")]
    Unreadable(String),
    /// Images or values that don't allow the operation.
    #[error("{message}")]
    Invalid { message: String, help: Option<String> },
}

impl DataError {
    pub fn invalid(message: impl Into<String>, help: impl Into<String>) -> DataError {
        DataError::Invalid { message: message.into(), help: Some(help.into()) }
    }

    /// A failed operation on `path`; `action` is a verb, such as "read".
    pub fn io(action: &str, path: &Path, source: io::Error) -> DataError {
        DataError::Io { failed: format!("failed to {action} {}", path.display()), source }
    }

    pub fn damaged(file: &Path, reason: impl Into<String>) -> DataError {
        DataError::Damaged { file: file.to_owned(), reason: reason.into() }
    }

    /// The remedy, if it is known.
    pub fn help(&self) -> Option<&str> {
        match self {
            DataError::Invalid { help, .. } => help.as_deref(),
            DataError::Damaged { .. } => {
                Some("run `pipe cache verify`, then run the pipeline again")
            }
            _ => None,
        }
    }
}
