//! What can go wrong with a store, told where the facts are: which file, what was expected, what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A failure of the store.
#[derive(Debug)]
pub enum StoreError {
    /// The system refused something.
    Io {
        /// What was being done, as in "writing".
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Something is damaged and could not be set aside.
    Damaged {
        /// What is damaged.
        path: PathBuf,
        /// What was found, and what was expected.
        what: String,
    },
    /// The store was written by a newer program.
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// The format that it names.
        found: String,
    },
    /// Somebody else holds a lock that this needs.
    Locked {
        /// The lock's file.
        path: PathBuf,
        /// Who probably holds it, and what to do.
        by: &'static str,
    },
    /// A slot holds something that an artifact can't.
    Unfit {
        /// The offending file.
        path: PathBuf,
        /// Why it can't be in an artifact.
        what: String,
    },
    /// The caller asked to stop.
    Cancelled,
}

impl StoreError {
    /// Wraps what the system said with what was being done to which file.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |error| StoreError::Io { doing, path, error }
    }

    /// Whether the store itself is damaged, locked, or of a newer format: exit code 3.
    pub fn is_fault_of_store(&self) -> bool {
        matches!(
            self,
            StoreError::Damaged { .. } | StoreError::Newer { .. } | StoreError::Locked { .. }
        )
    }

    /// Whether there is no room left on the disk (or in the user's quota).
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::Io { error, .. } if is_full(error))
    }
}

/// Whether the system says that there is no room left.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Io { doing, path, error } => {
                write!(f, "{doing} {}: {error}", path.display())?;
                match is_full(error) {
                    true => f.write_str(
                        "; free some space (`pipe cache gc`), or use another disk with `--cache`",
                    ),
                    false => Ok(()),
                }
            }
            StoreError::Damaged { path, what } => {
                write!(
                    f,
                    "{} is damaged: {what}; move it away by hand and run again",
                    path.display()
                )
            }
            StoreError::Newer { path, found } => {
                let path = path.display();
                write!(
                    f,
                    "{path} says `{found}`: a newer `pipe` wrote this store; use that one, or another store with `--cache`"
                )
            }
            StoreError::Locked { path, by } => write!(f, "{} is locked: {by}", path.display()),
            StoreError::Unfit { path, what } => {
                write!(f, "{} can't be in an artifact: {what}", path.display())
            }
            StoreError::Cancelled => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}
