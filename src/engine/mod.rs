//! From a pipeline to committed artifacts: what a kind of stage has to say about itself, fingerprints and keys, the plan,
//! and the executor that runs what is needed in child processes. Knows no kind by name.
//!
//! ```text
//! config::Pipeline --graph--> Graph --plan--> Plan --execute--> Report, and events on the way
//!                                                  |
//!                        a job file, `pipe stage JOB`, and lines of JSON back
//! ```
//!
//! - [`graph`] finds every mistake, and lets each [`Kind`] turn presets into values.
//! - [`plan`] makes each stage's [`Fingerprint`] and asks the store for its key. It may read folders outside; it writes
//!   nothing but what the store remembers of them.
//! - [`execute`] starts what isn't there. Keys are made of content, so a stage below one that ran is asked again once its
//!   inputs are there, and may be a hit after all.
//! - [`run_job`] is the other side: one stage in a process of its own, from the key's lock to the commit.

mod context;
mod error;
mod execute;
mod fingerprint;
mod graph;
mod job;
mod kind;
mod launch;
mod perform;
mod plan;
mod process;
mod run_job;

pub use context::{Context, Device, InputArtifact};
pub use error::{EngineError, OrFail, StageError};
pub use execute::{Report, StageReport, execute, execute_with};
pub use fingerprint::{FORMAT, Fingerprint};
pub use graph::{Graph, Stage, graph};
pub use job::{Ending, Job, JobInput, Line};
pub use kind::{Complaints, Feed, Input, Kind, Kinds, Pin};
pub use launch::{InProcess, Launcher, Running};
pub use plan::{Force, History, NoHistory, Options, Plan, Planned, State, plan};
pub use process::Processes;
pub use run_job::run_job;

use crate::config::{DefaultValue, KeyDecl, Type};

/// Keys that every stage has, beside `kind` and `needs`. None of them affects an output.
pub const COMMON: &[KeyDecl] = &[KeyDecl::new(
    "timeout",
    Type::Number { min: f64::MIN_POSITIVE, max: f64::INFINITY },
    DefaultValue::Absent,
    "Seconds after which the stage is stopped and counts as failed. No limit by default.",
)
.execution()];

#[cfg(test)]
mod tests;
