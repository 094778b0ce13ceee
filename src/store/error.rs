//! The errors of the store. Messages name the file and say what to do.

use super::holder::Holder;
use super::probe::Lacking;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An I/O operation failed.
    #[error("{doing} {}: {error}{}", .path.display(), help(.error))]
    Io {
        /// The operation, such as "writing".
        doing: &'static str,
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// Something is damaged and can't be moved to the folder of damaged files.
    #[error("{} is damaged: {reason}; move it away by hand and run again", .path.display())]
    Damaged { path: PathBuf, reason: String },
    /// A newer program wrote the store.
    #[error(
        "{} says `{found}`: a newer `pipe` wrote this store; use that one, or another store with `--cache`",
        .path.display()
    )]
    Newer {
        path: PathBuf,
        /// The format that the file names.
        found: String,
    },
    /// Another process holds a lock.
    #[error("{} is locked{}: {help}", .path.display(), by(.holder))]
    Locked {
        path: PathBuf,
        /// The process that has the lock alone, if it is known.
        holder: Option<Holder>,
        /// The probable holder, and what to do.
        help: &'static str,
    },
    /// The file system can't hold a store that is written to.
    #[error(
        "the file system of {}{} {}, so a store can't be written there; put it on a local disk with \
         `--cache` or `PIPE_CACHE`",
        .path.display(),
        .kind.map_or(String::new(), |kind| format!(" ({kind})")),
        .lacking.words()
    )]
    FileSystem {
        /// The folder of the store.
        path: PathBuf,
        /// The name of the file system, if it is a known one that may lack something.
        kind: Option<&'static str>,
        lacking: Lacking,
    },
    /// A file in a slot can't be part of an artifact.
    #[error("{} can't be part of an artifact: {reason}", .path.display())]
    Unfit { path: PathBuf, reason: String },
    #[error("cancelled")]
    Cancelled,
}

impl StoreError {
    /// Adds the operation and the path to an I/O error.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |error| StoreError::Io { doing, path, error }
    }

    /// Whether the store itself is damaged, locked, of a newer format, or on a file system that can't
    /// hold it: exit code 3.
    pub fn is_fault_of_store(&self) -> bool {
        matches!(
            self,
            StoreError::Damaged { .. }
                | StoreError::Newer { .. }
                | StoreError::Locked { .. }
                | StoreError::FileSystem { .. }
        )
    }
}

fn by(holder: &Option<Holder>) -> String {
    holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default()
}

/// Whether an I/O operation failed because the disk or the user's quota is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn help(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if is_full(error) => {
            "; free some space (`pipe cache gc`), or use another disk with `--cache`"
        }
        io::ErrorKind::FileTooLarge => "; raise the limit on the size of files (`ulimit -f`)",
        io::ErrorKind::ReadOnlyFilesystem => "; use a store that can be written with `--cache`",
        io::ErrorKind::PermissionDenied => {
            "; restore its permissions, ask its owner, or use another store with `--cache`"
        }
        io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported => {
            "; the file system can't do what a store needs: use another disk with `--cache`"
        }
        _ => "",
    }
}
