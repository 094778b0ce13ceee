//! A record that comes from another store. It is built beside the records, and becomes one of them
//! by a rename once every file is what its seal says.

use super::record::{RUN, Record, RunId};
use super::{Labels, RunsError, SealedFile, files};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The largest record and the largest labels that are taken, in bytes.
pub const MAX_RECORD: u64 = 64 << 20;

/// A record on its way into a store.
pub struct Incoming {
    runs: PathBuf,
    folder: tempfile::TempDir,
    pub record: Record,
}

impl Incoming {
    /// Begins with the text of `run.json`.
    ///
    /// # Errors
    /// If it isn't the record of that run, isn't sealed or has no end, or can't be written.
    pub fn new(runs: &Path, id: &RunId, text: &[u8]) -> Result<Incoming, RunsError> {
        fs::create_dir_all(runs).map_err(|error| RunsError::io("create", runs, error))?;
        let folder = tempfile::Builder::new()
            .prefix(".incoming-")
            // Its mode depends on the umask, as that of other records.
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(runs)
            .map_err(|error| RunsError::io("create a folder in", runs, error))?;
        let path = folder.path().join(RUN);
        files::write(&path, text).map_err(|error| RunsError::io("write", &path, error))?;
        let unreadable = |problem: String| RunsError::Unreadable { id: id.clone(), problem };
        let in_words = |problem: String| problem.replace(&path.display().to_string(), "it");
        let written = Record::read(folder.path()).map_err(|why| unreadable(in_words(why)))?;
        let problem = match &written {
            record if record.id != *id => Some("it is that of another run"),
            record if !record.is_sealed() => Some("it has no seal: an earlier version wrote it"),
            record if record.outcome.is_none() => Some("the run hasn't ended"),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(unreadable(problem.to_owned()));
        }
        let record = Record::load(folder.path(), id.clone()).readable()?;
        Ok(Incoming { runs: runs.to_owned(), folder, record })
    }

    /// The folder that its files have to be written to.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The files that it has beside `run.json`, apart from those that would lie elsewhere.
    pub fn files(&self) -> impl Iterator<Item = (&str, &SealedFile)> {
        self.record.sealed_files()
    }

    /// Sets the labels, as they are written.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn set_labels(&self, text: &[u8]) -> Result<(), RunsError> {
        match serde_json::from_slice::<Labels>(text) {
            Ok(labels) => labels.save(self.folder.path()),
            Err(_) => Ok(()),
        }
    }

    /// Makes it a record.
    ///
    /// # Errors
    /// If a file isn't what the seal says, or it can't be renamed.
    pub fn install(self) -> Result<(), RunsError> {
        let Incoming { runs, folder, record } = self;
        let id = record.id.clone();
        let now = Record::load(folder.path(), id.clone()).readable()?;
        let damaged = now.damaged_files();
        if let Some(name) = damaged.first() {
            let problem = format!("{name} is missing or differs from its recorded digest");
            return Err(RunsError::Unreadable { id, problem });
        }
        let target = runs.join(id.as_str());
        fs::rename(folder.path(), &target)
            .map_err(|error| RunsError::io("create", &target, error))?;
        // The folder is at its place, and nothing is left to remove.
        let _ = folder.keep();
        Ok(())
    }
}

/// The text of the record of a run, if it is on record.
pub fn text_of(runs: &Path, id: &RunId) -> Option<Vec<u8>> {
    files::read_small(&runs.join(id.as_str()).join(RUN), MAX_RECORD)
}
