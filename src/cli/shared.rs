//! What several commands ask for alike: the pipeline file with its overrides, and the store. Knows how each is opened and
//! what to say where that fails.

use super::failure::Failure;
use crate::config::{self, Pipeline};
use crate::engine::{self, Fingerprint, Graph, History};
use crate::runs;
use crate::stages::KINDS;
use crate::store::Store;
use clap::Args;
use std::path::{Path, PathBuf};

/// Where the store lies unless something else is said.
const DEFAULT_STORE: &str = "cache";

/// A pipeline file and what is changed about it.
#[derive(Args)]
pub(super) struct PipelineArguments {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Set a key of the file, such as `stages.train.epochs=3` or `vars.model=resnet18`; may be given often
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) overrides: Vec<String>,
}

impl PipelineArguments {
    /// Reads the file and checks all of it.
    pub(super) fn read(&self) -> Result<(Pipeline, Graph), Failure> {
        let pipeline = config::load(&self.file, &self.overrides)?;
        let graph = engine::graph(&pipeline, KINDS)?;
        Ok((pipeline, graph))
    }
}

/// Which store is meant.
#[derive(Args)]
pub(super) struct StoreArguments {
    /// The store's folder [default: $PIPE_CACHE, else `cache` where you stand]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl StoreArguments {
    /// The store's folder.
    pub(super) fn root(&self) -> PathBuf {
        let variable =
            || std::env::var_os("PIPE_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from);
        self.cache.clone().or_else(variable).unwrap_or_else(|| PathBuf::from(DEFAULT_STORE))
    }

    /// Opens the store; makes it where there is none.
    pub(super) fn open(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.root())?)
    }

    /// Opens a store that must be there, so that a question asked in the wrong folder doesn't leave an empty store behind.
    pub(super) fn open_existing(&self) -> Result<Store, Failure> {
        let root = self.root();
        if !root.is_dir() {
            let message = format!("there is no store at {}", root.display());
            return Err(Failure::wrong(message)
                .help("stand where you ran `pipe run`, or name the store with --cache"));
        }
        self.open()
    }
}

/// `path` as it is shown to the user: relative to where they stand if it lies below.
pub(super) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
    relative.unwrap_or(path).display().to_string()
}

/// What earlier runs of a store were made of, in the engine's words.
pub(super) struct Earlier(runs::History);

impl Earlier {
    /// The history of a store's runs. Reads nothing until it is asked.
    pub(super) fn of(store: &Store) -> Earlier {
        Earlier(runs::History::new(&store.runs_folder()))
    }
}

impl History for Earlier {
    fn earlier(&self, stage: &str, kind: &str) -> Vec<(String, Fingerprint)> {
        // A fingerprint of another version of the program may not read: then it explains nothing.
        let earlier = self.0.earlier(stage, kind).into_iter();
        earlier
            .filter_map(|(name, value)| Some((name, serde_json::from_value(value).ok()?)))
            .collect()
    }
}
