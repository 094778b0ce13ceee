//! The slot: a private folder in which an artifact is built, and its commit. The commit digests the
//! files, writes the manifest last, syncs, renames the folder to the artifact, and then writes the
//! key. A kill between any two steps leaves no artifact or the complete one.

use super::artifact::{Artifact, ArtifactError, mark_committed};
use super::digest::{Digest, digest_open};
use super::error::StoreError;
use super::fault;
use super::lock::Lock;
use super::manifest::{self, ListedFile, Manifest};
use super::{Origin, Store, sealed};
use rayon::prelude::*;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Above this number of files, syncing the whole file system is cheaper than syncing each file.
const SYNC_EACH_MAX: usize = 32;

/// How often a commit tries to take the place of an artifact that isn't intact.
const TRIES: u32 = 3;

/// The result of [`Store::enter`].
pub enum Entry {
    /// The artifact exists.
    Hit(Artifact),
    /// The artifact has to be built in the slot.
    Miss(Slot),
}

/// A folder in which an artifact is built. Holds the key's lock. Dropped without a commit, it
/// leaves nothing behind.
pub struct Slot {
    store: Store,
    key: Digest,
    path: PathBuf,
    /// Where and from what it is filled.
    origin: Origin,
    _lock: Lock,
}

impl Slot {
    /// Creates an empty folder in `folder`. Slots of the same key are leftovers of killed
    /// processes, since this process holds the lock, and are removed.
    pub(super) fn new(
        store: &Store,
        key: &Digest,
        folder: &Path,
        lock: Lock,
    ) -> Result<Slot, StoreError> {
        std::fs::create_dir_all(folder).map_err(StoreError::io("creating", folder))?;
        let name = key.to_string();
        if lock.is_held() {
            remove_leftovers(folder, &name);
        }
        let mut number = 0;
        loop {
            let path = folder.join(format!("{name}-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    return Ok(Slot {
                        store: store.clone(),
                        key: *key,
                        path,
                        origin: Origin::default(),
                        _lock: lock,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(StoreError::io("creating", &path)(error)),
            }
        }
    }

    /// Records where and from what it is filled.
    pub fn built_by(mut self, origin: Origin) -> Slot {
        self.origin = origin;
        self
    }

    /// The folder to build in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Commits the content of the folder as the artifact of the slot's key, with the log of the
    /// build.
    ///
    /// # Errors
    /// If the folder contains something that an artifact can't (a link, a name that isn't
    /// UTF-8), or an I/O operation fails. Then there is no artifact, and the slot is
    /// removed.
    pub fn commit(self, log: &[u8]) -> Result<Artifact, StoreError> {
        let committed = self.commit_if(log, |_| true)?;
        Ok(committed.expect("every digest is accepted"))
    }

    /// The same if the artifact has a digest that is accepted; otherwise there is none, and the slot
    /// is removed.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub(super) fn commit_if(
        self,
        log: &[u8],
        accept: impl FnOnce(&Digest) -> bool,
    ) -> Result<Option<Artifact>, StoreError> {
        let failed = |doing| StoreError::io(doing, &self.path);
        let Contents { files, folders } = contents(&self.path)?;
        fault::step().map_err(failed("finishing"))?;
        let files = finish_files(&self.path, &files)?;
        fault::step().map_err(failed("finishing"))?;
        sync(&self.path, &files).map_err(failed("syncing"))?;
        let manifest = Manifest { files };
        let text = manifest.text();
        let digest = Digest::of(text.as_bytes());
        if !accept(&digest) {
            return Ok(None);
        }
        write_manifest(&self.path.join(manifest::NAME), &text)
            .map_err(failed("writing the manifest of"))?;
        folders
            .iter()
            .try_for_each(|folder| sealed::sync_folder(folder))
            .map_err(failed("syncing"))?;
        fault::step().map_err(failed("finishing"))?;
        let artifact = self.move_into_place(digest)?;
        fault::step().map_err(failed("finishing"))?;
        self.store.write_key(&self.key, &artifact.digest, &self.origin, log)?;
        Ok(Some(artifact))
    }

    /// Renames the folder to the artifact's path. If the artifact exists already and is intact, that
    /// one is used.
    fn move_into_place(&self, digest: Digest) -> Result<Artifact, StoreError> {
        let path = self.store.artifact_path(&digest);
        let folder = path.parent().expect("an artifact's path has a parent");
        std::fs::create_dir_all(folder).map_err(StoreError::io("creating", folder))?;
        let mut tries = 0;
        loop {
            if let Some(artifact) = self.store.artifact(&digest)?
                && self.store.check(&artifact, &[], &[])?
            {
                return Ok(artifact);
            }
            tries += 1;
            match std::fs::rename(&self.path, &path) {
                Ok(()) => break,
                // Another process committed the same artifact.
                Err(error)
                    if tries < TRIES
                        && matches!(
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
            Err(ArtifactError::Store(error)) => Err(error),
            Err(ArtifactError::Damaged(reason)) => Err(StoreError::Damaged { path, reason }),
            Err(ArtifactError::Missing) => {
                let reason = "it disappeared during the commit".to_owned();
                Err(StoreError::Damaged { path, reason })
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !fault::killed() {
            // After a commit the folder is gone. `gc` removes what can't be removed now.
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
    /// Absolute paths, the deepest first.
    folders: Vec<PathBuf>,
}

fn contents(root: &Path) -> Result<Contents, StoreError> {
    let mut contents = Contents { files: Vec::new(), folders: Vec::new() };
    for entry in WalkDir::new(root).contents_first(true) {
        let entry = entry.map_err(|error| StoreError::io("listing", root)(error.into()))?;
        let unfit = |reason: &str| {
            let path = entry.path().to_owned();
            StoreError::Unfit { path, reason: reason.to_owned() }
        };
        let kind = entry.file_type();
        if kind.is_dir() {
            contents.folders.push(entry.into_path());
            continue;
        }
        if !kind.is_file() {
            return Err(unfit("it is neither a file nor a folder"));
        }
        let relative = entry.path().strip_prefix(root).expect("the walk stays below its root");
        match relative.to_str() {
            None => return Err(unfit("its name isn't UTF-8")),
            Some(manifest::NAME) => {
                return Err(unfit("the name is reserved for the store's manifest"));
            }
            Some(path) => contents.files.push(path.to_owned()),
        }
    }
    contents.files.sort_unstable();
    Ok(contents)
}

/// Marks the files as committed and digests them, in parallel and in the given order.
fn finish_files(root: &Path, files: &[String]) -> Result<Vec<ListedFile>, StoreError> {
    let finish = |name: &String| {
        let path = root.join(name);
        let file = File::open(&path).map_err(StoreError::io("opening", &path))?;
        mark_committed(&file).map_err(StoreError::io("finishing", &path))?;
        let len = file.metadata().map_err(StoreError::io("reading the metadata of", &path))?.len();
        let digest = digest_open(&file, len).map_err(StoreError::io("reading", &path))?;
        Ok(ListedFile { path: name.clone(), len, digest })
    };
    match files {
        // Not worth starting the thread pool.
        [] | [_] => files.iter().map(finish).collect(),
        _ => files.par_iter().map(finish).collect(),
    }
}

/// Syncs the content of the files.
fn sync(root: &Path, files: &[ListedFile]) -> io::Result<()> {
    if files.len() > SYNC_EACH_MAX && sync_file_system(root)? {
        return Ok(());
    }
    files.iter().try_for_each(|file| File::open(root.join(&file.path))?.sync_all())
}

/// Syncs the file system of `folder`. Returns false if the platform has no such call.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "std has no call that syncs a file system")]
fn sync_file_system(folder: &Path) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let folder = File::open(folder)?;
    // SAFETY: the call takes only a file descriptor, and the file is open until after the call.
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
