//! The engine: checks a pipeline's stages against the kinds, computes fingerprints and cache keys,
//! plans which stages have to run, and runs them in child processes. Does not know any kind by
//! name.
//!
//! ```text
//! config::Pipeline --graph--> Graph --plan--> Plan --execute--> Report, and events on the way
//!                                                  |
//!                        a job file, `pipe stage JOB`, and lines of JSON back
//! ```
//!
//! - [`graph`](fn@graph) reports every error of the pipeline; each [`Kind`] resolves its presets to values.
//! - [`plan`](fn@plan) makes each stage's [`Fingerprint`] and looks its key up in the store. It reads sources
//!   outside the store and writes only what the store remembers of them.
//! - An output that is missing here may be in one of the [`RemoteCaches`]: its manifest suffices for
//!   the keys of the stages below, and its files are copied only if something needs them.
//! - [`execute`] starts the stages that aren't in the store. Keys are made of content, so a stage
//!   below one that ran is looked up again once its inputs exist, and may be a cache hit.
//! - [`run_job`] is the worker: it builds one artifact in its own process, from taking the key's
//!   lock to the commit.

mod acceptance;
mod context;
mod disk;
mod error;
mod executor;
mod fingerprint;
mod graph;
mod job;
mod kind;
mod launcher;
mod lookup;
mod panics;
mod plan;
mod reasons;
mod remote;
mod reproducibility;
mod resources;
mod retries;
mod source_lock;
mod subprocess;
mod worker;

pub use acceptance::Acceptance;
pub use context::{Context, Device, InputArtifact};
pub use disk::{Disk, Estimate, Known, KnownInput, TOO_LITTLE, disk};
pub use error::{EngineError, OrFail, StageError};
pub use executor::{Report, StageReport, execute, execute_with};
pub use fingerprint::{FORMAT, Fingerprint};
pub use graph::{Graph, Stage, graph};
pub use job::{Job, JobInput, JobOutcome, MAX_THREADS, WorkerMessage};
pub use kind::{FactChange, Feed, Input, Kind, KindRef, Kinds, Parts, Pin, Resolver, values_of};
pub use launcher::{InProcessLauncher, Launcher, RunningJob};
pub use lookup::Planned;
pub use panics::explain_panic;
pub use plan::{Force, History, NoHistory, Options, Plan, PlannedStage, Replay, plan};
pub use remote::RemoteCaches;
pub use resources::{GivenResources, Resources, check_resources, free_memory, gpus};
pub use retries::{GivenRetries, Retries};
pub use source_lock::{LockedSource, SourceLock};
pub use subprocess::SubprocessLauncher;
pub use worker::run_job;

use crate::config::WordOr;

crate::config::keys! {
    /// Keys that every stage has, beside `kind` and `needs`. None of them affects an output.
    pub struct Common / GivenCommon {
        /// Time limit in seconds, after which the stage is stopped and fails. No limit by default.
        timeout: Option<f64> = none above 0 affects Execution;
        /// What the stage takes of the machine. Stages start in an order in which those before the
        /// longest chain come first, as long as what they ask for is free. A stage that asks for
        /// nothing starts as soon as its inputs are there and fewer than `--jobs` run.
        resources: Resources = {} affects Execution;
        /// How often the stage is tried again after a failure that may pass: a server that can't be
        /// reached, a timeout, a process killed for its memory or by a signal from outside, a program
        /// that exits with an error. Errors of files, images and keys are final. A number, or a table.
        retries: WordOr<u32, Retries> = 0 affects Execution;
    }
}

#[cfg(test)]
mod tests;
