//! What happened: every run that ran something, as a folder under the store's `runs/`. The record, the index over all of
//! them, and the difference between two. Knows no kind by name, only the names of the few small results that it keeps a
//! copy of, so that a run stays readable when its artifacts are collected. Times and ids live here and nowhere else.
//!
//! A run's folder:
//!
//! | file | what it is | written |
//! | --- | --- | --- |
//! | `run.json` | the [`Record`] | whole, by rename, at the start, after each stage and at the end |
//! | `events.jsonl` | every event but progress, a line each | appended while the run lasts |
//! | `pipeline.json` | the texts of the pipeline file and of what it extends, the overrides | once |
//! | `results/STAGE/FILE` | copies of small results: metrics, history, exploration, predictions | once, at the end |
//! | `lock` | empty; locked by the kernel while the run's process lives | once |
//!
//! A run without an outcome whose lock is free has died. Nothing has to be cleaned up for that to be seen.

pub mod diff;
mod events;
mod files;
mod history;
mod index;
mod machine;
mod record;
mod recorder;
mod results;
#[cfg(test)]
mod tests;
mod time;

pub use diff::{Diff, TrainingSide, diff};
pub use events::{Events, events};
pub use history::History;
pub use index::{equal, find, list};
pub use machine::Machine;
pub use record::{FORMAT, Record, RunId, Source, StageFacts, StageState, Status};
pub use recorder::{Recorder, RunFacts};
pub use results::{Asked, Results};
pub use time::Timestamp;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong with the records of runs. Each says what to do.
#[derive(Debug)]
pub enum RunsError {
    /// There is no run at all.
    NoRuns,
    /// No run answers to this name; the latest few are offered.
    NotFound {
        /// What was asked for.
        wanted: String,
        /// Lines that describe runs which do exist, newest first.
        candidates: Vec<String>,
    },
    /// Several runs begin with this prefix.
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// Lines that describe the runs it fits, newest first.
        candidates: Vec<String>,
    },
    /// The record is there and can't be read.
    Unreadable {
        /// The run.
        id: RunId,
        /// Why.
        problem: String,
    },
    /// Reading or writing failed.
    Io {
        /// What was being done: "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RunsError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> RunsError {
        RunsError::Io { action, path: path.to_path_buf(), source }
    }
}

impl fmt::Display for RunsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, head: String, candidates: &[String]| {
            write!(f, "{head}")?;
            candidates.iter().try_for_each(|candidate| write!(f, "\n  {candidate}"))
        };
        match self {
            RunsError::NoRuns => write!(f, "there is no run yet; `pipe run FILE` makes one"),
            RunsError::NotFound { wanted, candidates } => {
                list(f, format!("no run is called `{wanted}`; the latest are:"), candidates)
            }
            RunsError::Ambiguous { wanted, candidates } => list(
                f,
                format!("`{wanted}` fits {} runs; add a letter or two:", candidates.len()),
                candidates,
            ),
            RunsError::Unreadable { id, problem } => {
                write!(f, "the record of run {id} can't be read: {problem}")
            }
            RunsError::Io { action, path, source } => {
                write!(f, "could not {action} {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for RunsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunsError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
