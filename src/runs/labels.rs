//! The name, note and tags that the user gives a run. In a file of its own, since they change at any
//! time, while the run is going on too.

use super::{Record, RunsError, files};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

pub const FILE: &str = "labels.json";

/// The largest file that is read, in bytes.
const MAX: u64 = 1 << 20;

/// The content of `labels.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Labels {
    /// Stands for the run in commands: the latest one of this name.
    pub name: String,
    pub note: String,
    pub tags: BTreeSet<String>,
}

impl Labels {
    /// Whether there is no name, note or tag.
    pub fn is_empty(&self) -> bool {
        *self == Labels::default()
    }

    /// Those of the run in `folder`; none where the file is missing or damaged.
    pub(super) fn load(folder: &Path) -> Labels {
        let bytes = files::read_small(&folder.join(FILE), MAX);
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub(super) fn save(&self, folder: &Path) -> Result<(), RunsError> {
        let path = folder.join(FILE);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| RunsError::io("write", &path, error.into()))?;
        text.push(b'\n');
        files::write(&path, &text).map_err(|error| RunsError::io("write", &path, error))
    }
}

/// Replaces the labels of a run.
pub fn set_labels(record: &Record, labels: &Labels) -> Result<(), RunsError> {
    labels.save(&record.folder)
}

/// Removes the record of a run. Its artifacts stay until they are collected.
pub fn remove(record: &Record) -> Result<(), RunsError> {
    // Under another name first: a half-removed folder would be listed as unreadable.
    let gone = record.folder.with_file_name(format!(".removed-{}", record.id));
    std::fs::rename(&record.folder, &gone)
        .and_then(|()| std::fs::remove_dir_all(&gone))
        .map_err(|error| RunsError::io("remove", &record.folder, error))
}
