//! Recorded runs. Every run that executes a stage has a folder under the store's `runs/`; this
//! module writes it, finds it and compares two of them. It knows the file names of a few small
//! results, which it copies so that a run stays readable after its artifacts are collected, and no
//! stage kind. Times and run ids occur in no other room.
//!
//! A run's folder:
//!
//! | file | content | written |
//! | --- | --- | --- |
//! | `run.json` | the [`Record`] | at the start, after each stage and at the end; replaced by rename |
//! | `events.jsonl` | every event except progress, one per line | appended during the run |
//! | `pipeline.json` | the [`PipelineInput`] | once, at the start |
//! | `results/STAGE/FILE` | copies of small results: metrics, history, exploration, predictions | once, at the end |
//! | `results/STAGE/events.out.tfevents.pipe` | the scalars of a stage that ran, for TensorBoard | appended during the run |
//! | `labels.json` | the user's name, note and tags | at the start if given, and at any time |
//! | `pipe.lock` | the pins of remote sources | once, at the end |
//! | `lock` | empty; locked while the run's process lives | once, at the start |
//!
//! A run without an outcome whose lock is free has died: its state needs no cleanup by the process
//! that died. `run.json` carries its own digest and those of the other files, apart from `labels.json`,
//! `lock` and pages (`seal.rs`): the rename that writes the outcome seals the record.

pub mod diff;
mod events;
mod files;
mod history;
mod incoming;
mod index;
mod labels;
mod machine;
mod query;
mod record;
mod recorder;
mod repository;
mod results;
mod samples;
mod seal;
mod tensorboard;
#[cfg(test)]
mod tests;
mod throughput;
mod timestamp;
mod unfinished;

pub use diff::{Diff, TrainingSummary, diff};
pub use events::{Events, FILE as EVENTS, events};
pub use history::FingerprintHistory;
pub use incoming::{Incoming, MAX_RECORD, text_of};
pub use index::{
    Entry, find, find_identical, find_readable_or_not, find_showing, list, read_all, records,
};
pub use labels::{FILE as LABELS, Labels, remove, set_labels};
pub use machine::Machine;
pub use query::{FIELDS, Filter, is_known, sort};
pub use record::{Accepted, Attempt, FORMAT, RUN, Record, RunId, StageRecord, StageState, Status};
pub use recorder::{Recorder, RunInfo};
pub use repository::Repository;
pub use results::{LeakRow, PipelineFile, PipelineInput, Results, recorded_names};
pub use samples::SampleRow;
pub use seal::{Checked, SealedFile, check_records};
pub use timestamp::Timestamp;

use std::io;
use std::path::{Path, PathBuf};

/// Errors of finding, reading and writing runs.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    #[error("there is no run yet; `pipe run FILE` makes one")]
    NoRuns,
    #[error("no run is called `{wanted}`; the latest are:{}", lines(candidates))]
    NotFound {
        wanted: String,
        /// A line for each of the latest runs, newest first.
        candidates: Vec<String>,
    },
    #[error("`{wanted}` matches {} runs; type more of the id:{}", candidates.len(), lines(candidates))]
    Ambiguous {
        wanted: String,
        /// A line for each run that matches, newest first.
        candidates: Vec<String>,
    },
    #[error("the record of run {id} can't be read: {problem}")]
    Unreadable { id: RunId, problem: String },
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// "write".
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl RunsError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> RunsError {
        RunsError::Io { action, path: path.to_path_buf(), source }
    }
}

fn lines(texts: &[String]) -> String {
    texts.iter().map(|text| format!("\n  {text}")).collect()
}
