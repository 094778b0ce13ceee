//! Arguments and helpers shared by several commands: the pipeline file with its overrides, the
//! store, and the names of stages.

use super::failure::Failure;
use crate::common::nearest;
use crate::common::words::and_list;
use crate::config::{self, DeviceChoice, Pipeline};
use crate::engine::{self, Fingerprint, Graph, History, RemoteCaches};
use crate::runs::{self, Record, RunId, StageRecord};
use crate::stages::{self, ChosenDevice, KINDS, Remotes};
use crate::store::{Artifact, Digest, Store, StoreError, is_full};
use crate::ui;
use clap::Args;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The store's folder by default, in the current directory.
const DEFAULT_STORE: &str = "cache";

/// A pipeline file and its overrides.
#[derive(Args)]
pub(super) struct PipelineArguments {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Override a key of the file, such as `stages.train.epochs=3` or `vars.model=resnet18`
    /// (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) overrides: Vec<String>,
}

impl PipelineArguments {
    /// Reads and checks the whole file.
    pub(super) fn read(&self) -> Result<(Pipeline, Graph), Failure> {
        let pipeline = config::load(&self.file, &self.overrides)?;
        let graph = engine::graph(&pipeline, KINDS)?;
        Ok((pipeline, graph))
    }
}

/// The choice of a device.
#[derive(Args)]
pub(super) struct DeviceArguments {
    /// What computes networks: auto, cpu, cuda or cuda:N [default: `pipeline.device` in the file, else
    /// auto: the first GPU that can be used, else the processor]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoice>,
}

impl DeviceArguments {
    /// The device of a run of `pipeline`, before anything is loaded to look at it. A GPU that is
    /// asked for is looked at.
    ///
    /// # Errors
    /// An invalid request if it can't be used.
    pub(super) fn assumed(&self, pipeline: &Pipeline) -> Result<ChosenDevice, Failure> {
        match self.device.unwrap_or(pipeline.device) {
            DeviceChoice::Cuda(_) => self.of(pipeline),
            choice => Ok(stages::assume_device(choice)),
        }
    }

    /// The device of a run of `pipeline`.
    ///
    /// # Errors
    /// An invalid request if it can't be used.
    pub(super) fn of(&self, pipeline: &Pipeline) -> Result<ChosenDevice, Failure> {
        chosen_device(self.device.unwrap_or(pipeline.device))
    }
}

/// The device of a choice; warns of a GPU that is there and can't be used.
///
/// # Errors
/// An invalid request if a GPU that is asked for can't be used.
pub(super) fn chosen_device(choice: DeviceChoice) -> Result<ChosenDevice, Failure> {
    let chosen =
        stages::choose_device(choice).map_err(|error| Failure::from(error).into_invalid())?;
    if let Some(note) = &chosen.note {
        ui::warning(note);
    }
    Ok(chosen)
}

/// Starts the diagnostic log if `PIPE_LOG` asks for one.
pub(super) fn start_diagnostic_log() -> Result<(), Failure> {
    ui::start_diagnostic_log().map_err(|log| {
        let path = log.path.display();
        Failure::invalid(format!("the diagnostic log `{path}` can't be written: {}", log.error))
            .help("set `PIPE_LOG` to a file in an existing folder, or not at all")
    })
}

/// A name for a run, for clap: it must not be taken for a number or an id.
pub(super) fn run_name(text: &str) -> Result<String, String> {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_.".contains(letter);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(is_plain) {
        return Err(
            "a name has letters, digits, `-`, `_` and `.`, and doesn't begin with `-`".to_owned()
        );
    }
    match RunId::parse(text) {
        Some(_) => Err("it looks like the id of a run; use another name".to_owned()),
        None => Ok(text.to_owned()),
    }
}

/// The choice of a store.
#[derive(Args)]
pub(super) struct StoreArguments {
    /// The store's folder [default: $PIPE_CACHE, else `cache` in the current directory]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl StoreArguments {
    fn root(&self) -> PathBuf {
        let variable =
            || std::env::var_os("PIPE_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from);
        self.cache.clone().or_else(variable).unwrap_or_else(|| PathBuf::from(DEFAULT_STORE))
    }

    /// Opens the store, creating it if it doesn't exist.
    ///
    /// # Errors
    /// An invalid request where there is none and none can be created.
    pub(super) fn open(&self) -> Result<Store, Failure> {
        let root = self.root();
        let own = root.join("v1");
        let is_there = own.is_dir();
        if !is_there && own.symlink_metadata().is_ok() {
            let message = format!("`{}` isn't a folder", shown(&own));
            return Err(Failure::invalid(message).help("move it away and run again"));
        }
        let store = Store::open(&root).map_err(|error| match error {
            StoreError::Io { error, .. } if !is_there && !is_full(&error) => {
                let message =
                    format!("no store can be created at `{}`: {}", shown(&root), error.kind());
                Failure::invalid(message).help("name another folder with `--cache`")
            }
            error => Failure::from(error),
        })?;
        if !store.has_locks() && !store.is_read_only() {
            let place = shown(&root);
            ui::warning(&format!(
                "the file system of `{place}` has no locks: use the store from one process at a time"
            ));
        }
        Ok(store)
    }

    /// Opens the store for a plan that isn't executed. Where there is none, the plan is made with an
    /// empty temporary one: looking creates nothing.
    pub(super) fn open_for_plan(&self) -> Result<PlanStore, Failure> {
        if self.root().exists() {
            return Ok(PlanStore { store: self.open()?, _temporary: None });
        }
        let temporary = tempfile::tempdir().map_err(|error| {
            Failure::failed(format!("failed to create a temporary folder: {error}"))
        })?;
        Ok(PlanStore { store: Store::open(temporary.path())?, _temporary: Some(temporary) })
    }

    /// Opens a store that must exist: a query in the wrong directory doesn't create an empty one.
    pub(super) fn open_existing(&self) -> Result<Store, Failure> {
        let root = self.root();
        if !root.is_dir() {
            let message = format!("there is no store at `{}`", root.display());
            return Err(Failure::invalid(message)
                .help("change to the directory in which you ran `pipe run`, or name the store with `--cache`"));
        }
        let store = self.open()?;
        store.take_notes().iter().for_each(|note| ui::warning(note));
        Ok(store)
    }
}

/// The choice of caches elsewhere.
#[derive(Args)]
pub(super) struct RemoteArguments {
    /// Take outputs from a cache elsewhere that is only read: a folder, `https://HOST/PATH` or
    /// `s3://BUCKET/PREFIX` (repeatable) [default: $PIPE_CACHE_FROM, separated by blanks]
    #[arg(long, value_name = "PLACE")]
    cache_from: Vec<String>,
}

impl RemoteArguments {
    /// The caches, which are asked for nothing yet.
    ///
    /// # Errors
    /// An invalid request if a place is none.
    pub(super) fn caches(&self) -> Result<Option<Arc<dyn RemoteCaches>>, Failure> {
        let places = match self.cache_from.as_slice() {
            [] => {
                let text = std::env::var("PIPE_CACHE_FROM").unwrap_or_default();
                text.split_whitespace().map(str::to_owned).collect()
            }
            places => places.to_vec(),
        };
        if places.is_empty() {
            return Ok(None);
        }
        let caches = Remotes::at(&places).map_err(|error| Failure::from(error).into_invalid())?;
        Ok(Some(Arc::new(caches)))
    }
}

/// A store to plan with.
pub(super) struct PlanStore {
    store: Store,
    /// Removes the folder of a temporary store when dropped.
    _temporary: Option<tempfile::TempDir>,
}

impl From<Store> for PlanStore {
    fn from(store: Store) -> PlanStore {
        PlanStore { store, _temporary: None }
    }
}

impl Deref for PlanStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// `path` as shown to the user: relative to the current directory if it is inside.
pub(super) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
    relative.unwrap_or(path).display().to_string()
}

/// `path` as a word of a shell command: quoted if it has to be.
pub(super) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    // A name that begins with `-` would be an option.
    let text = if text.starts_with('-') { format!("./{text}") } else { text };
    let is_plain = |letter: char| letter.is_alphanumeric() || "_./+:@%,=-".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The run called `wanted`, with a warning for each file of its record that differs from its recorded digest:
/// nothing of those is shown or used.
pub(super) fn find_run(store: &Store, wanted: &str) -> Result<Record, Failure> {
    let record = runs::find(&store.runs_folder(), wanted)?;
    warn_of_damage(&record);
    Ok(record)
}

/// A warning for each file of a record that differs from its recorded digest.
pub(super) fn warn_of_damage(record: &Record) {
    warn_of_files(record, &record.damaged_files());
}

/// A warning for each of these files of a record, which differ from their recorded digests.
pub(super) fn warn_of_files(record: &Record, names: &[&str]) {
    for name in names {
        let id = &record.id;
        ui::warning(&format!(
            "{name} of run {id} differs from its recorded digest; `pipe cache verify` restores it if its artifact is still there"
        ));
    }
}

/// The stage of a run that the user named.
pub(super) fn stage_of<'a>(record: &'a Record, name: &str) -> Result<&'a StageRecord, Failure> {
    record.stage(name).ok_or_else(|| {
        let names = || record.stages.iter().map(|stage| stage.stage.as_str());
        let help = match nearest(name, names()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("its stages are {}", and_list(names())),
        };
        Failure::invalid(format!("run {} has no stage `{name}`", record.id)).help(help)
    })
}

/// An artifact of which the files `reads` (none means all) were checked, if the store has it. A
/// damaged one is quarantined, with a warning.
pub(super) fn intact(
    store: &Store,
    digest: &Digest,
    reads: &[&str],
) -> Result<Option<Artifact>, Failure> {
    let artifact = store.artifact(digest)?;
    let artifact = match artifact {
        Some(artifact) if store.check(&artifact, reads, &[])? => Some(artifact),
        _ => None,
    };
    store.take_notes().iter().for_each(|note| ui::warning(note));
    Ok(artifact)
}

/// The fingerprints of a pipeline's earlier runs, for the engine.
pub(super) struct Earlier(runs::FingerprintHistory);

impl Earlier {
    /// Reads nothing until the engine asks for a stage.
    pub(super) fn of(graph: &Graph, store: &Store) -> Earlier {
        Earlier(runs::FingerprintHistory::new(&store.runs_folder(), &graph.name))
    }
}

impl History for Earlier {
    fn earlier(&self, stage: &str, kind: &str) -> Vec<(String, Fingerprint)> {
        // Fingerprints of other versions of the program may not parse; they explain nothing then.
        let earlier = self.0.earlier(stage, kind).into_iter();
        earlier
            .filter_map(|(name, value)| Some((name, serde_json::from_value(value).ok()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        for (path, word) in [
            ("pets.toml", "pets.toml"),
            ("a/über_1-2.toml", "a/über_1-2.toml"),
            ("my pets.toml", "'my pets.toml'"),
            ("it's $HOME.toml", r"'it'\''s $HOME.toml'"),
            ("-x.toml", "./-x.toml"),
            ("~.toml", "'~.toml'"),
        ] {
            assert_eq!(shell_word(Path::new(path)), word);
        }
    }
}
