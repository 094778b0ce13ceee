//! The content-addressed store. An artifact is a folder of read-only files named by the digest of
//! its manifest; a cache key maps to the artifact that was built for it and the log of the build.
//! The store also holds the memo, the digests of files in external folders, and the records of
//! runs. It doesn't depend on pipelines or on what a file contains.
//!
//! ```text
//! cache/v1/                  the format's own folder: other formats get other folders
//!   format                   the format; a program refuses a newer one
//!   artifacts/ab/abcd…/      the files of an artifact, and manifest.json with the digest abcd…
//!   keys/ab/abcd…            key -> digest, and the log; sealed
//!   memo/, memo-locks/       the memo; its values are sealed
//!   listings/                digests of external files, one file per folder; sealed
//!   slots/                   artifacts being built
//!   jobs/                    job files of active runs, in a locked folder for each
//!   locks/                   one file per key, which says who holds its lock
//!   lock                     locked shared by users of the store, exclusively by gc
//!   damaged/                 quarantined artifacts, keys and other files
//!   runs/                    records of runs
//! ```
//!
//! | file | written by | if truncated or changed |
//! | --- | --- | --- |
//! | artifact | digests, manifest last, sync, rename | damaged: quarantined, reported, rebuilt |
//! | key | sealed (carries its own digest), sync, rename | damaged: quarantined, reported, rebuilt |
//! | memo, listings | sealed, rename | absent |
//!
//! Opening a store repairs its folders (`folders.rs`). A store that can only be read is opened without
//! writing anything.
//!
//! A lookup checks the manifest's digest and the presence, length and modification time of each
//! file. The files that a stage reads are digested before it starts, or checked by their reader;
//! `pipe cache verify` checks everything. A cache hit neither digests a file nor syncs.

mod artifact;
mod collection;
mod digest;
mod error;
mod fault;
mod folders;
mod holder;
mod leftovers;
mod listing;
mod lock;
mod maintenance;
mod manifest;
mod memo;
mod probe;
pub mod remote;
mod sealed;
mod slot;
mod suspects;

pub use artifact::Artifact;
pub use collection::{Collection, Exclusive, Item, Keep, Part, Removed};
pub use digest::{BLOCK, Digest, Hasher, ParseDigestError, digest_bytes, digest_file};
pub use error::{StoreError, is_full};
pub use folders::is_root;
pub use holder::Holder;
pub use leftovers::JobFolder;
pub use listing::{Listing, Scan, Skip, scan};
pub use lock::POLLS_PER_SECOND;
pub use maintenance::{DiskFile, Share, Usage, Verified, disk_files};
pub use manifest::{ListedFile, Manifest};
pub use memo::{Memo, MemoLock, MemoName, MemoSource};
pub use probe::Lacking;
pub use remote::RemoteArtifact;
pub use slot::{Entry, Slot};
pub use suspects::MadeFrom;

use artifact::ArtifactError;
use lock::{Lock, POLL};
use sealed::Sealed;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The content of the file `format`.
const FORMAT: &str = "pipe store 1\n";

/// How long opening a store waits for `gc`.
const GC_TIMEOUT: Duration = Duration::from_secs(5);

/// An open store, which holds the shared lock. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: PathBuf,
    root: PathBuf,
    memo: Memo,
    /// The shared lock, held while the store is open. Only `gc` releases it, to lock exclusively.
    lock: Mutex<Option<Lock>>,
    notes: Mutex<Vec<String>>,
}

/// The first line of a key's entry. The log follows.
#[derive(Serialize, Deserialize)]
struct KeyHeader {
    key: Digest,
    artifact: Digest,
    /// The kind of machine that built it, if it was built in this store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
    /// The artifacts that the stage read, if it was built in this store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    made_from: Vec<MadeFrom>,
}

/// Where and from what an artifact was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The kind of machine. None if it comes from elsewhere.
    pub machine: Option<String>,
    pub made_from: Vec<MadeFrom>,
}

/// The last build of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    pub artifact: Digest,
    /// The kind of machine that built it. None if it comes from elsewhere, or an earlier version of
    /// this program built it.
    pub machine: Option<String>,
}

impl Store {
    /// Opens the store in the folder `base`, which is created if it is missing.
    ///
    /// # Errors
    /// If a newer program wrote it, `gc` keeps it locked for several seconds, or an I/O
    /// operation fails.
    pub fn open(base: &Path) -> Result<Store, StoreError> {
        let base = std::path::absolute(base).map_err(StoreError::io("opening the store", base))?;
        let root = base.join("v1");
        let is_read_only = root.exists() && folders::is_read_only(&root);
        let notes = if is_read_only { Vec::new() } else { folders::repair(&root) };
        check_format(&root.join("format"))?;
        let lock = shared(&root.join("lock"))?;
        let memo = Memo::new(root.join("memo"), root.join("memo-locks"));
        let (lock, notes) = (Mutex::new(Some(lock)), Mutex::new(notes));
        Ok(Store(Arc::new(Inner { base, root, memo, lock, notes })))
    }

    /// Whether processes can lock files of the store. Without that it still works, but nothing keeps
    /// two runs from doing the same work, or `gc` from removing what a run uses.
    pub fn has_locks(&self) -> bool {
        let lock = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        lock.as_ref().is_none_or(|lock| lock.is_held())
    }

    /// Whether this process may not write to the store.
    pub fn is_read_only(&self) -> bool {
        self.0.is_read_only()
    }

    /// The folder passed to [`open`](Self::open), absolute.
    pub fn base(&self) -> &Path {
        &self.0.base
    }

    /// The folder of this format.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// The artifact of `key`, if there is one and it passes the quick checks. A damaged one is
    /// quarantined and counts as missing.
    pub fn lookup(&self, key: &Digest) -> Result<Option<Artifact>, StoreError> {
        match self.read_key(key)? {
            Some((digest, _)) => {
                memo::touch(&self.key_path(key));
                self.artifact(&digest)
            }
            None => Ok(None),
        }
    }

    /// The artifact of this digest, if there is one and it passes the quick checks. A damaged one
    /// is quarantined and counts as missing.
    pub fn artifact(&self, digest: &Digest) -> Result<Option<Artifact>, StoreError> {
        let path = self.artifact_path(digest);
        match Artifact::read(&path, digest) {
            Ok(artifact) => Ok(Some(artifact)),
            Err(ArtifactError::Missing) => Ok(None),
            Err(ArtifactError::Store(error)) => Err(error),
            Err(ArtifactError::Damaged(reason)) => {
                self.set_aside(&path, &format!("artifact {}", digest.short()), &reason)?;
                Ok(None)
            }
        }
    }

    /// Reads files of an artifact and compares their digests: those in `reads` (none means all),
    /// apart from those in `except`; folders have a `/` at their end. A damaged artifact is
    /// quarantined. Returns whether it is intact.
    pub fn check(
        &self,
        artifact: &Artifact,
        reads: &[&str],
        except: &[&str],
    ) -> Result<bool, StoreError> {
        let is_wanted = |path: &str| {
            (reads.is_empty() || manifest::is_among(path, reads))
                && !manifest::is_among(path, except)
        };
        match artifact.check_content_of(is_wanted) {
            Ok(()) => Ok(true),
            Err(ArtifactError::Missing) => Ok(false),
            Err(ArtifactError::Store(error)) => Err(error),
            Err(ArtifactError::Damaged(reason)) => {
                let name = format!("artifact {}", artifact.digest.short());
                self.set_aside(&artifact.path, &name, &reason)?;
                Ok(false)
            }
        }
    }

    /// Locks `key`, then looks it up again: an artifact that another process built meanwhile is a
    /// hit, unless `force`. While another process holds the lock, `keep_waiting` is called several
    /// times a second.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`] if `keep_waiting` returns false.
    pub fn enter(
        &self,
        key: &Digest,
        force: bool,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<Entry, StoreError> {
        let path = self.lock_path(key);
        let lock = Lock::watched(&path, keep_waiting).map_err(StoreError::io("locking", &path))?;
        let lock = lock.ok_or(StoreError::Cancelled)?;
        match if force { None } else { self.lookup(key)? } {
            Some(artifact) => Ok(Entry::Hit(artifact)),
            None => Slot::new(self, key, &self.root().join("slots"), lock).map(Entry::Miss),
        }
    }

    fn lock_path(&self, key: &Digest) -> PathBuf {
        self.root().join("locks").join(key.to_string())
    }

    /// The process that builds the artifact of `key` at this moment.
    pub fn holder(&self, key: &Digest) -> Option<Holder> {
        Holder::of(&self.lock_path(key))
    }

    /// The last build of `key`, whether or not its artifact is in the store.
    pub fn last_build(&self, key: &Digest) -> Result<Option<Build>, StoreError> {
        let path = self.key_path(key);
        let header = match sealed::read(&path).map_err(StoreError::io("reading", &path))? {
            Sealed::Whole(payload) => header_of(key, &payload).map(|(header, _)| header),
            Sealed::Absent | Sealed::Damaged => None,
        };
        Ok(header.map(|header| Build { artifact: header.artifact, machine: header.machine }))
    }

    /// The artifact of this digest where it is, or where it was put aside: its manifest is whole, its
    /// files may not be.
    pub fn remains(&self, digest: &Digest) -> Option<Artifact> {
        let name = digest.to_string();
        let is_it = |path: &PathBuf| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file.strip_prefix(&name).is_some_and(|rest| rest.starts_with('-'))
        };
        let aside = maintenance::children(&self.root().join("damaged")).into_iter().filter(is_it);
        let mut places = std::iter::once(self.artifact_path(digest)).chain(aside);
        places.find_map(|path| Artifact::remains(&path, digest))
    }

    /// The log of the build of `key`, as JSON lines. Empty if the key has no entry.
    pub fn log(&self, key: &Digest) -> Result<Vec<u8>, StoreError> {
        Ok(self.read_key(key)?.map(|(_, log)| log).unwrap_or_default())
    }

    pub fn memo(&self) -> &Memo {
        &self.0.memo
    }

    /// Lists an external folder. Only new and changed files are read.
    pub fn folder_listing(&self, folder: &Path) -> Result<Listing, StoreError> {
        self.folder_listing_watched(folder, &|_| true, &|_, _| true)
    }

    /// The same for the files with a `wanted` path; others aren't read. With a callback, called from
    /// several threads with the number of bytes read and in total.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`] if `watch` returns false. If `folder` is not a folder or
    /// can't be read.
    pub fn folder_listing_watched(
        &self,
        folder: &Path,
        wanted: &dyn Fn(&str) -> bool,
        watch: &(dyn Fn(u64, u64) -> bool + Sync),
    ) -> Result<Listing, StoreError> {
        let memo = listing::memo_path(&self.root().join("listings"), folder);
        listing::list(folder, &memo, self.base(), SystemTime::now(), wanted, watch)
    }

    /// The digest of an external file, which is read only if it is new or changed.
    pub fn file_digest(&self, path: &Path) -> Result<Digest, StoreError> {
        let memo = listing::memo_path(&self.root().join("listings"), path);
        listing::digest_one(path, &memo, SystemTime::now())
    }

    /// The bytes that can be written to the store's disk. None if the system doesn't say.
    pub fn free_bytes(&self) -> Option<u64> {
        let found = rustix::fs::statvfs(self.root()).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// The folder of run records.
    pub fn runs_folder(&self) -> PathBuf {
        self.root().join("runs")
    }

    /// The damage found since the last call, one sentence each.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, note: String) {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    fn artifact_path(&self, digest: &Digest) -> PathBuf {
        sharded(&self.root().join("artifacts"), digest)
    }

    fn key_path(&self, key: &Digest) -> PathBuf {
        sharded(&self.root().join("keys"), key)
    }

    /// The artifact digest and the log of a key.
    fn read_key(&self, key: &Digest) -> Result<Option<(Digest, Vec<u8>)>, StoreError> {
        let path = self.key_path(key);
        let parsed = match sealed::read(&path).map_err(StoreError::io("reading", &path))? {
            Sealed::Absent => return Ok(None),
            Sealed::Damaged => None,
            Sealed::Whole(payload) => split_entry(key, payload),
        };
        if parsed.is_none() {
            let name = format!("the entry of key {}", key.short());
            self.set_aside(&path, &name, "its digest doesn't match")?;
        }
        Ok(parsed)
    }

    /// Makes `key` lead to an artifact that another key's build made, with a log that says so.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn link(&self, key: &Digest, artifact: &Digest, log: &[u8]) -> Result<(), StoreError> {
        self.write_key(key, artifact, &Origin::default(), log)
    }

    fn write_key(
        &self,
        key: &Digest,
        artifact: &Digest,
        origin: &Origin,
        log: &[u8],
    ) -> Result<(), StoreError> {
        let path = self.key_path(key);
        let Origin { machine, made_from } = origin.clone();
        let header = KeyHeader { key: *key, artifact: *artifact, machine, made_from };
        let header = serde_json::to_string(&header).expect("digests and text serialize to JSON");
        let payload = [header.as_bytes(), b"\n", log].concat();
        sealed::write(&path, &sealed::seal(&payload), true)
            .map_err(StoreError::io("writing", &path))
    }

    /// Moves a damaged file or folder of the store to `damaged/` and notes it; nothing if it is gone.
    /// In a store that is only read it stays, with a note.
    ///
    /// # Errors
    /// If it can't be moved.
    pub fn set_aside(&self, path: &Path, name: &str, reason: &str) -> Result<(), StoreError> {
        self.put_aside(path, &format!("{name} was damaged ({reason})"), reason)
    }

    /// The same with a whole sentence.
    fn put_aside(&self, path: &Path, sentence: &str, reason: &str) -> Result<(), StoreError> {
        if self.is_read_only() {
            self.note(format!("{sentence}; it stays, since the store can't be written"));
            return Ok(());
        }
        let failed = || StoreError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
        let target = folders::aside(self.root(), path).map_err(|_| failed())?;
        let moved = match std::fs::rename(path, &target) {
            // A folder that its owner can't write can't be moved.
            Err(error) if lock::is_not_writable(&error) && folders::restore(path, folders::ALL) => {
                std::fs::rename(path, &target)
            }
            moved => moved,
        };
        match moved {
            Ok(()) => self.note(format!("{sentence}; it was moved to {}", target.display())),
            // Another process quarantined it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => return Err(failed()),
        }
        Ok(())
    }
}

/// The path of an entry in a folder with a subfolder for each first byte, so that none gets too
/// large.
fn sharded(folder: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    folder.join(&name[..2]).join(name)
}

fn split_entry(key: &Digest, payload: Vec<u8>) -> Option<(Digest, Vec<u8>)> {
    let (header, log) = header_of(key, &payload)?;
    Some((header.artifact, log.to_vec()))
}

/// The first line of the entry of `key`, and the log.
fn header_of<'a>(key: &Digest, payload: &'a [u8]) -> Option<(KeyHeader, &'a [u8])> {
    let end = payload.iter().position(|&byte| byte == b'\n')?;
    let header: KeyHeader = serde_json::from_slice(payload.get(..end)?).ok()?;
    (header.key == *key).then(|| (header, payload.get(end + 1..).unwrap_or_default()))
}

/// Refuses a newer format. A missing or truncated format file is written.
fn check_format(path: &Path) -> Result<(), StoreError> {
    match std::fs::read_to_string(path) {
        Ok(text) if text == FORMAT => Ok(()),
        Ok(text) if text.starts_with("pipe store ") && text.ends_with('\n') => {
            Err(StoreError::Newer { path: path.to_owned(), found: text.trim_end().to_owned() })
        }
        _ => sealed::write(path, FORMAT.as_bytes(), true)
            .map_err(StoreError::io("creating the store", path)),
    }
}

fn shared(path: &Path) -> Result<Lock, StoreError> {
    let start = Instant::now();
    loop {
        let lock = Lock::try_shared_if_possible(path);
        match lock.map_err(StoreError::io("locking", path))? {
            Some(lock) => return Ok(lock),
            None if start.elapsed() < GC_TIMEOUT => std::thread::sleep(POLL),
            None => {
                let help = "`pipe cache gc` is probably running; run again when it is done";
                let holder = Holder::of(path);
                return Err(StoreError::Locked { path: path.to_owned(), holder, help });
            }
        }
    }
}

#[cfg(test)]
mod tests;
