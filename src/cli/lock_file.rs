//! `pipe.lock` beside the pipeline file: read before planning, so that a clone of a repository gets
//! the same data, and written after a run that used remote sources.

use super::failure::Failure;
use super::shared::shown;
use crate::engine::{EngineError, Graph, SourceLock};
use crate::store::Store;
use crate::ui;
use std::io::Write as _;
use std::path::{Path, PathBuf};

const NAME: &str = "pipe.lock";

/// The lock of a pipeline.
pub(super) struct LockFile {
    path: PathBuf,
    lock: SourceLock,
    /// Whether the file is there.
    exists: bool,
}

impl LockFile {
    /// Reads the lock beside a pipeline file, if there is one.
    pub(super) fn beside(pipeline: &Path) -> Result<LockFile, Failure> {
        let path = pipeline.with_file_name(NAME);
        let help = "restore it from the repository, or delete it to pin the current versions";
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(LockFile { path, lock: SourceLock::default(), exists: false });
            }
            Err(error) => {
                let message = format!("failed to read `{}`: {error}", shown(&path));
                return Err(Failure::invalid(message).help(help));
            }
        };
        let lock = SourceLock::parse(&text).map_err(|reason| {
            Failure::invalid(format!("`{}` can't be used: {reason}", shown(&path))).help(help)
        })?;
        Ok(LockFile { path, lock, exists: true })
    }

    /// Pins the sources of a pipeline to what the lock says.
    pub(super) fn apply(&self, graph: &Graph, store: &Store) -> Result<(), Failure> {
        for stage in graph.stages.iter().filter(|_| self.exists) {
            stage.kind.adopt(&stage.values, &self.lock, store).map_err(|error| {
                EngineError::Stage { stage: stage.name.clone(), is_local: true, error }
            })?;
        }
        Ok(())
    }

    /// Refuses a pipeline with a remote source that the lock doesn't have.
    pub(super) fn check_complete(&self, graph: &Graph) -> Result<(), Failure> {
        for stage in &graph.stages {
            for source in stage.kind.remote_sources(&stage.values) {
                if self.lock.get(&source).is_none() {
                    let what =
                        if self.exists { "has no entry for" } else { "is missing, which pins" };
                    let message = format!("`{}` {what} `{source}`", shown(&self.path));
                    return Err(Failure::failed(message)
                        .in_stage(&stage.name)
                        .help("run once without --locked to write it"));
                }
            }
        }
        Ok(())
    }

    /// Refuses sources that are pinned to something else than the lock says.
    pub(super) fn check_same(&self, graph: &Graph, store: &Store) -> Result<(), Failure> {
        for stage in &graph.stages {
            for found in stage.kind.locked(&stage.values, store) {
                let Some(locked) = self.lock.get(&found.source) else { continue };
                if !locked.is_same(&found) {
                    let message = format!(
                        "`{}` is at {found}, but `{}` says {locked}",
                        found.source,
                        shown(&self.path)
                    );
                    return Err(Failure::failed(message)
                        .in_stage(&stage.name)
                        .help("run with --refresh and without --locked to update the lock"));
                }
            }
        }
        Ok(())
    }

    /// Writes what the sources of a pipeline are pinned to, unless it is locked, and returns the text
    /// with the pins of this pipeline alone; none without remote sources. Failing is a warning: the
    /// lock is optional, and the folder may be read-only.
    pub(super) fn update(
        mut self,
        graph: &Graph,
        store: &Store,
        is_locked: bool,
    ) -> Option<String> {
        let mut pins = SourceLock::default();
        for stage in &graph.stages {
            stage.kind.locked(&stage.values, store).into_iter().for_each(|found| pins.set(found));
        }
        let pins = (pins != SourceLock::default()).then(|| pins.text());
        if !is_locked {
            self.update_file(graph, store);
        }
        pins
    }

    fn update_file(&mut self, graph: &Graph, store: &Store) {
        let before = self.lock.clone();
        for stage in &graph.stages {
            for found in stage.kind.locked(&stage.values, store) {
                self.lock.set(found);
            }
        }
        if self.lock == before {
            return;
        }
        if let Err(error) = self.write() {
            ui::warning(&format!("failed to write `{}`: {error}", shown(&self.path)));
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".pipe.lock-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)?;
        file.write_all(self.lock.text().as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }
}
