//! An artifact in the making: a folder that nobody else sees, and its commit. Digests first, the manifest last, then the
//! disk is waited for, then one rename makes the artifact, and a second one its key. A kill between any two steps leaves
//! nothing or the whole artifact.

use super::artifact::{self, Artifact, Flaw};
use super::digest::{Digest, digest_open};
use super::error::StoreError;
use super::fault;
use super::lock::Lock;
use super::manifest::{self, ListedFile, Manifest};
use super::{Store, sealed};
use rayon::prelude::*;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Beyond this many files, one call for the whole file system is cheaper than one a file.
const FEW: usize = 32;

/// What entering a key finds.
pub enum Entry {
    /// The artifact is there.
    Hit(Artifact),
    /// It has to be made, by whoever holds the slot.
    Miss(Slot),
}

/// An artifact in the making. Holds its key's lock. Dropped without a commit, it leaves nothing.
pub struct Slot {
    store: Store,
    key: Digest,
    path: PathBuf,
    _lock: Lock,
}

impl Slot {
    /// An empty folder in `folder`. What a killed process left of the same key is removed, since the lock proves that
    /// nobody works on it.
    pub(super) fn new(
        store: &Store,
        key: &Digest,
        folder: &Path,
        lock: Lock,
    ) -> Result<Slot, StoreError> {
        std::fs::create_dir_all(folder).map_err(StoreError::io("making", folder))?;
        let name = key.to_string();
        if lock.is_held() {
            remove_leftovers(folder, &name);
        }
        for number in 0.. {
            let path = folder.join(format!("{name}-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Slot { store: store.clone(), key: *key, path, _lock: lock }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StoreError::io("making", &path)(error)),
            }
        }
        Err(StoreError::Cancelled)
    }

    /// The folder to fill.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes what is in the folder the artifact of the slot's key, with the log of how it was made.
    ///
    /// # Errors
    /// Where the folder holds something that an artifact can't (links, names that aren't UTF-8), or the system refuses
    /// something. There is no artifact then, and the slot is gone.
    pub fn commit(self, log: &[u8]) -> Result<Artifact, StoreError> {
        let failed = |doing| StoreError::io(doing, &self.path);
        let Contents { files, folders } = contents(&self.path)?;
        fault::step().map_err(failed("finishing"))?;
        let files = settle(&self.path, &files)?;
        fault::step().map_err(failed("finishing"))?;
        sync(&self.path, &files).map_err(failed("syncing"))?;
        let manifest = Manifest { files };
        let text = manifest.text();
        write_manifest(&self.path.join(manifest::NAME), &text)
            .map_err(failed("writing the manifest of"))?;
        folders
            .iter()
            .try_for_each(|folder| sealed::sync_folder(folder))
            .map_err(failed("syncing"))?;
        fault::step().map_err(failed("finishing"))?;
        let artifact = self.place(Digest::of(text.as_bytes()))?;
        fault::step().map_err(failed("finishing"))?;
        self.store.write_key(&self.key, &artifact.digest, log)?;
        Ok(artifact)
    }

    /// Renames the folder to where the artifact belongs. One that is there already, whole, is as good.
    fn place(&self, digest: Digest) -> Result<Artifact, StoreError> {
        let path = self.store.artifact_path(&digest);
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder).map_err(StoreError::io("making", folder))?;
        loop {
            if let Some(artifact) = self.store.artifact(&digest)? {
                return Ok(artifact);
            }
            match std::fs::rename(&self.path, &path) {
                Ok(()) => break,
                // Somebody else made the same just now.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                    ) => {}
                Err(error) => {
                    return Err(StoreError::io("moving a finished artifact to", &path)(error));
                }
            }
        }
        fault::step().map_err(StoreError::io("finishing", &path))?;
        sealed::sync_folder(folder).map_err(StoreError::io("syncing", folder))?;
        match Artifact::read(&path, &digest) {
            Ok(artifact) => Ok(artifact),
            Err(Flaw::Refused(error)) => Err(error),
            Err(Flaw::Damaged(what)) => Err(StoreError::Damaged { path, what }),
            Err(Flaw::Absent) => {
                Err(StoreError::Damaged { path, what: "it vanished while it was made".to_owned() })
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !fault::killed() {
            // After a commit there is nothing; what can't be removed now, `gc` removes.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn remove_leftovers(folder: &Path, name: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|other| other.starts_with(name)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

struct Contents {
    /// Relative paths, sorted.
    files: Vec<String>,
    /// Absolute ones, the deepest first.
    folders: Vec<PathBuf>,
}

fn contents(root: &Path) -> Result<Contents, StoreError> {
    let mut contents = Contents { files: Vec::new(), folders: Vec::new() };
    for entry in WalkDir::new(root).contents_first(true) {
        let entry = entry.map_err(|error| StoreError::io("listing", root)(error.into()))?;
        let unfit =
            |what: &str| StoreError::Unfit { path: entry.path().to_owned(), what: what.to_owned() };
        let kind = entry.file_type();
        if kind.is_dir() {
            contents.folders.push(entry.into_path());
            continue;
        }
        if !kind.is_file() {
            return Err(unfit("it is neither a file nor a folder"));
        }
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        match relative.to_str() {
            None => return Err(unfit("its name isn't UTF-8")),
            Some(manifest::NAME) => {
                return Err(unfit("the store itself writes a file of this name"));
            }
            Some(path) => contents.files.push(path.to_owned()),
        }
    }
    contents.files.sort_unstable();
    Ok(contents)
}

/// Makes files read-only, gives them their time, and digests them: in parallel, in the order given.
fn settle(root: &Path, files: &[String]) -> Result<Vec<ListedFile>, StoreError> {
    let settle = |name: &String| {
        let path = root.join(name);
        let file = File::open(&path).map_err(StoreError::io("opening", &path))?;
        artifact::settle(&file).map_err(StoreError::io("finishing", &path))?;
        let len = file.metadata().map_err(StoreError::io("looking at", &path))?.len();
        let digest = digest_open(&file, len).map_err(StoreError::io("reading", &path))?;
        Ok(ListedFile { path: name.clone(), len, digest })
    };
    match files {
        // The pool isn't worth starting.
        [] | [_] => files.iter().map(settle).collect(),
        _ => files.par_iter().map(settle).collect(),
    }
}

/// Waits until the files' contents are on the disk.
fn sync(root: &Path, files: &[ListedFile]) -> io::Result<()> {
    if files.len() > FEW && sync_file_system(root)? {
        return Ok(());
    }
    files.iter().try_for_each(|file| File::open(root.join(&file.path))?.sync_all())
}

/// Waits until everything written to the file system of `folder` is on the disk. False where there is no such call.
#[cfg(target_os = "linux")]
fn sync_file_system(folder: &Path) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let folder = File::open(folder)?;
    // SAFETY: the call takes a number only, that of a file which is open until after it.
    match unsafe { libc::syncfs(folder.as_raw_fd()) } {
        0 => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_folder: &Path) -> io::Result<bool> {
    Ok(false)
}

fn write_manifest(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    let mut file = File::create_new(path)?;
    fault::step()?;
    file.write_all(text.as_bytes())?;
    let mut permissions = file.metadata()?.permissions();
    permissions.set_readonly(true);
    file.set_permissions(permissions)?;
    file.sync_all()
}
