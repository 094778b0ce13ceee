//! What can go wrong with images and with the files made of them, as sentences that say what to do. Knows nothing of
//! who shows them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why something could not be done with images.
#[derive(Debug)]
pub enum DataError {
    /// Somebody asked to stop.
    Cancelled,
    /// The system refused: which file, what was being done to it.
    Io {
        /// What was being done: "reading /data/a.jpg".
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file of ours isn't as it was written.
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was expected and found.
        what: String,
    },
    /// A image can't be read.
    Unreadable(String),
    /// The images, or what is asked of them, don't allow it.
    Invalid {
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
    },
}

impl DataError {
    /// Something asked for that these images don't allow, and what to do.
    pub fn invalid(message: impl Into<String>, help: impl Into<String>) -> DataError {
        DataError::Invalid { message: message.into(), help: Some(help.into()) }
    }

    /// A failed operation of the system on `path`; `doing` is a participle, such as "reading".
    pub fn io(doing: &str, path: &Path, source: io::Error) -> DataError {
        DataError::Io { doing: format!("{doing} {}", path.display()), source }
    }

    /// A file of ours that isn't as it was written.
    pub fn damaged(file: &Path, what: impl Into<String>) -> DataError {
        DataError::Damaged { file: file.to_owned(), what: what.into() }
    }

    /// What to do about it, where that is known.
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

impl fmt::Display for DataError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataError::Cancelled => write!(out, "cancelled"),
            DataError::Io { doing, source } => write!(out, "{doing}: {source}"),
            DataError::Damaged { file, what } => {
                write!(out, "{} is damaged: {what}", file.display())
            }
            DataError::Unreadable(reason) => write!(out, "{reason}"),
            DataError::Invalid { message, .. } => write!(out, "{message}"),
        }
    }
}

impl std::error::Error for DataError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DataError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
