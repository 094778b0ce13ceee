//! Leftovers of killed processes, slots and job folders: each is locked as long as its process
//! lives, so a run removes those that nobody holds.

use super::digest::Digest;
use super::lock::Lock;
use super::maintenance::children;
use super::{Store, StoreError};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// The lock in a folder of job files.
const LOCK: &str = "lock";

/// After this time a folder of job files without a lock is a leftover: of a process that was killed
/// before it locked it, or of an earlier version.
const UNLOCKED_FOR: Duration = Duration::from_secs(24 * 3600);

/// The length of a digest as text.
const DIGITS: usize = 64;

/// A folder for the job files of a run, removed when dropped.
#[derive(Debug)]
pub struct JobFolder {
    folder: tempfile::TempDir,
    _lock: Lock,
}

impl JobFolder {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Store {
    /// Creates a folder for the job files of a run.
    pub fn job_folder(&self) -> Result<JobFolder, StoreError> {
        let parent = self.root().join("jobs");
        let failed = |error| StoreError::io("creating a folder in", &parent)(error);
        loop {
            std::fs::create_dir_all(&parent).map_err(failed)?;
            // Its mode depends on the umask: another user of the store may have to remove it.
            let folder = tempfile::Builder::new()
                .prefix("run-")
                .permissions(Permissions::from_mode(0o777))
                .tempdir_in(&parent)
                // Without the name that was tried.
                .map_err(|error| failed(error.kind().into()))?;
            let lock = folder.path().join(LOCK);
            // Another run that clears leftovers may hold the lock, or have removed it by now.
            if let Some(_lock) = Lock::try_exclusive(&lock).map_err(failed)?
                && lock.exists()
            {
                return Ok(JobFolder { folder, _lock });
            }
        }
    }

    /// Removes slots and job folders that no live process holds. On a file system without locks
    /// nothing is known, and nothing is removed.
    pub fn clear_leftovers(&self) {
        for slot in children(&self.root().join("slots")) {
            let name = slot.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let key = name.get(..DIGITS).and_then(|key| key.parse::<Digest>().ok());
            let lock = key.map(|key| self.root().join("locks").join(key.to_string()));
            // Others are of `gc`, which doesn't run while this store is open.
            match lock {
                Some(lock) => remove_if_free(&lock, &slot),
                None => drop(std::fs::remove_dir_all(&slot)),
            }
        }
        for folder in children(&self.root().join("jobs")) {
            let lock = folder.join(LOCK);
            if lock.exists() {
                remove_if_free(&lock, &folder);
            } else if is_old(&folder) {
                let _ = std::fs::remove_dir_all(&folder);
            }
        }
    }
}

/// Removes a folder while holding its lock, unless another process holds it.
fn remove_if_free(lock: &Path, folder: &Path) {
    if let Ok(Some(lock)) = Lock::try_exclusive(lock)
        && lock.is_held()
    {
        let _ = std::fs::remove_dir_all(folder);
    }
}

fn is_old(folder: &Path) -> bool {
    let modified = std::fs::symlink_metadata(folder).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > UNLOCKED_FOR))
}
