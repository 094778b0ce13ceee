//! Artifacts by content. A stage's output is a folder of read-only files named by the digest of its manifest; a cache key
//! names the artifact that was made for it and the log of how. Beside them the memo, what is known of folders outside,
//! and a place for the records of runs. Knows nothing of images, pipelines or what any file means.
//!
//! ```text
//! cache/v1/                  a versioned bucket: another format lives beside it, and is never misread
//!   format                   the format, so that an older program refuses what a newer one wrote
//!   artifacts/ab/abcd…/      the files of an artifact, and manifest.json; abcd… is the digest of the manifest
//!   keys/ab/abcd…            key -> digest, with the log; sealed
//!   memo/, memo-locks/       the memo; its values are sealed
//!   listings/                digests of files outside, a file a folder; sealed
//!   slots/                   artifacts in the making
//!   jobs/                    job files of runs that are going on
//!   locks/                   a file a key; empty
//!   lock                     shared by whoever uses the store, exclusive for gc; empty
//!   damaged/                 what was found damaged
//!   runs/                    records of runs
//! ```
//!
//! | written | how | cut short or changed, it reads as |
//! | --- | --- | --- |
//! | artifact | digests, manifest last, sync, rename | damaged: set aside, said, made again |
//! | key | sealed (carries its own digest), sync, rename | damaged: set aside, said, made again |
//! | memo, listings | sealed, rename | absent |
//!
//! What a hit checks: the manifest's own digest, each file's presence, length and time. Blocks are checked by those who
//! read them; `pipe cache verify` checks everything. The hit path neither digests a file nor waits for the disk.

mod artifact;
mod digest;
mod error;
mod fault;
mod listing;
mod lock;
mod manifest;
mod memo;
mod sealed;
mod slot;
mod upkeep;

pub use artifact::Artifact;
pub use digest::{BLOCK, Digest, Hasher, NotADigest, digest_bytes, digest_file};
pub use error::{StoreError, is_full};
pub use listing::Listing;
pub use manifest::{ListedFile, Manifest};
pub use memo::{Memo, MemoLock};
pub use slot::{Entry, Slot};
pub use upkeep::{Collected, Keep, Share, Usage, Verified};

use artifact::Flaw;
use lock::Lock;
use sealed::Sealed;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// What the file `format` says.
const FORMAT: &str = "pipe store 1\n";

/// How long somebody who tidies up is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a lock is asked for again.
const POLL: Duration = Duration::from_millis(20);

/// A store, and a share in its lock. Cheap to clone; usable from any thread.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: PathBuf,
    root: PathBuf,
    memo: Memo,
    /// Held as long as the store is open; only gc lets go of it, to take it for itself.
    lock: Mutex<Option<Lock>>,
    notes: Mutex<Vec<String>>,
}

/// The first line of a key's entry; the log follows it.
#[derive(Serialize, Deserialize)]
struct KeyHeader {
    key: Digest,
    artifact: Digest,
}

impl Store {
    /// Opens the store in the folder `base`, made where it is missing.
    ///
    /// # Errors
    /// Where a newer program wrote it, where `gc` is at work for longer than a few seconds, and where the system refuses.
    pub fn open(base: &Path) -> Result<Store, StoreError> {
        let base = std::path::absolute(base).map_err(StoreError::io("opening the store", base))?;
        let root = base.join("v1");
        check_format(&root.join("format"))?;
        let lock = shared(&root.join("lock"))?;
        let memo = Memo::new(root.join("memo"), root.join("memo-locks"));
        let (lock, notes) = (Mutex::new(Some(lock)), Mutex::default());
        Ok(Store(Arc::new(Inner { base, root, memo, lock, notes })))
    }

    /// The folder that it was opened in, absolute.
    pub fn base(&self) -> &Path {
        &self.0.base
    }

    /// Its versioned bucket.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// The artifact of `key`, if it is there and passes the quick checks. A damaged one is set aside, and is as absent.
    pub fn lookup(&self, key: &Digest) -> Result<Option<Artifact>, StoreError> {
        match self.read_key(key)? {
            Some((digest, _)) => {
                memo::renew(&self.key_path(key));
                self.artifact(&digest)
            }
            None => Ok(None),
        }
    }

    /// The artifact of this digest, if it is there and passes the quick checks. A damaged one is set aside, and is as
    /// absent.
    pub fn artifact(&self, digest: &Digest) -> Result<Option<Artifact>, StoreError> {
        let path = self.artifact_path(digest);
        match Artifact::read(&path, digest) {
            Ok(artifact) => Ok(Some(artifact)),
            Err(Flaw::Absent) => Ok(None),
            Err(Flaw::Refused(error)) => Err(error),
            Err(Flaw::Damaged(what)) => {
                self.set_aside(&path, &format!("artifact {}", digest.short()), &what)?;
                Ok(None)
            }
        }
    }

    /// Takes the lock of `key` and looks again: what somebody else made meanwhile is a hit, unless `force`. While
    /// somebody else holds it, `waiting` is asked several times a second whether to go on.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`] once `waiting` says no.
    pub fn enter(
        &self,
        key: &Digest,
        force: bool,
        waiting: &mut dyn FnMut() -> bool,
    ) -> Result<Entry, StoreError> {
        let path = self.root().join("locks").join(key.to_string());
        let lock = loop {
            match Lock::try_exclusive(&path).map_err(StoreError::io("locking", &path))? {
                Some(lock) => break lock,
                None if waiting() => std::thread::sleep(POLL),
                None => return Err(StoreError::Cancelled),
            }
        };
        match if force { None } else { self.lookup(key)? } {
            Some(artifact) => Ok(Entry::Hit(artifact)),
            None => Slot::new(self, key, &self.root().join("slots"), lock).map(Entry::Miss),
        }
    }

    /// What was told while the artifact of `key` was made: JSON lines. Empty where there is none.
    pub fn log(&self, key: &Digest) -> Result<Vec<u8>, StoreError> {
        Ok(self.read_key(key)?.map(|(_, log)| log).unwrap_or_default())
    }

    /// The memo.
    pub fn memo(&self) -> &Memo {
        &self.0.memo
    }

    /// What lies in a folder outside. Only what isn't known already is read.
    pub fn folder_listing(&self, folder: &Path) -> Result<Listing, StoreError> {
        self.folder_listing_watched(folder, &|_, _| true)
    }

    /// The same; `watch` is told how many bytes are read of how many, from several threads, and says whether to go on.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`] once `watch` says no. A folder that isn't one, or can't be read.
    pub fn folder_listing_watched(
        &self,
        folder: &Path,
        watch: &(dyn Fn(u64, u64) -> bool + Sync),
    ) -> Result<Listing, StoreError> {
        let memo = listing::memo_path(&self.root().join("listings"), folder);
        listing::list(folder, &memo, self.base(), SystemTime::now(), watch)
    }

    /// Where runs are recorded.
    pub fn runs_folder(&self) -> PathBuf {
        self.root().join("runs")
    }

    /// Where job files of runs that are going on lie.
    pub fn jobs_folder(&self) -> PathBuf {
        self.root().join("jobs")
    }

    /// What was found damaged since the last call, a sentence each.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, note: String) {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    fn artifact_path(&self, digest: &Digest) -> PathBuf {
        shelved(&self.root().join("artifacts"), digest)
    }

    fn key_path(&self, key: &Digest) -> PathBuf {
        shelved(&self.root().join("keys"), key)
    }

    /// The digest and the log that a key has.
    fn read_key(&self, key: &Digest) -> Result<Option<(Digest, Vec<u8>)>, StoreError> {
        let path = self.key_path(key);
        let parsed = match sealed::read(&path).map_err(StoreError::io("reading", &path))? {
            Sealed::Absent => return Ok(None),
            Sealed::Damaged => None,
            Sealed::Whole(payload) => split_entry(key, payload),
        };
        if parsed.is_none() {
            self.set_aside(
                &path,
                &format!("the entry of key {}", key.short()),
                "it isn't what was written",
            )?;
        }
        Ok(parsed)
    }

    fn write_key(&self, key: &Digest, artifact: &Digest, log: &[u8]) -> Result<(), StoreError> {
        let path = self.key_path(key);
        if let Some((earlier, _)) = self.read_key(key)?
            && earlier != *artifact
        {
            let (key, earlier, now) = (key.short(), earlier.short(), artifact.short());
            self.note(format!(
                "key {key} made other bytes this time ({now}) than before ({earlier})"
            ));
        }
        let header = serde_json::to_string(&KeyHeader { key: *key, artifact: *artifact })
            .unwrap_or_default();
        let payload = [header.as_bytes(), b"\n", log].concat();
        sealed::write(&path, &sealed::seal(&payload), true)
            .map_err(StoreError::io("writing", &path))
    }

    /// Moves what is damaged out of the way and notes it.
    fn set_aside(&self, path: &Path, name: &str, what: &str) -> Result<(), StoreError> {
        let folder = self.root().join("damaged");
        let failed = || StoreError::Damaged { path: path.to_owned(), what: what.to_owned() };
        std::fs::create_dir_all(&folder).map_err(|_| failed())?;
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let free = (0..)
            .map(|number| folder.join(format!("{file_name}-{number}")))
            .find(|path| !path.exists());
        let aside = free.ok_or_else(failed)?;
        match std::fs::rename(path, &aside) {
            Ok(()) => self
                .note(format!("{name} was damaged ({what}); it was moved to {}", aside.display())),
            // Somebody else was faster.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => return Err(failed()),
        }
        Ok(())
    }
}

/// A folder for each first byte, so that none gets too large.
fn shelved(folder: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    folder.join(name.get(..2).unwrap_or_default()).join(name)
}

fn split_entry(key: &Digest, mut payload: Vec<u8>) -> Option<(Digest, Vec<u8>)> {
    let end = payload.iter().position(|&byte| byte == b'\n')?;
    let header: KeyHeader = serde_json::from_slice(payload.get(..end)?).ok()?;
    (header.key == *key).then(|| (header.artifact, payload.split_off(end + 1)))
}

/// Refuses a newer format; writes ours where there is none, or none that anybody wrote whole.
fn check_format(path: &Path) -> Result<(), StoreError> {
    match std::fs::read_to_string(path) {
        Ok(text) if text == FORMAT => Ok(()),
        Ok(text) if text.starts_with("pipe store ") && text.ends_with('\n') => {
            Err(StoreError::Newer { path: path.to_owned(), found: text.trim_end().to_owned() })
        }
        _ => sealed::write(path, FORMAT.as_bytes(), true)
            .map_err(StoreError::io("making the store", path)),
    }
}

fn shared(path: &Path) -> Result<Lock, StoreError> {
    let start = Instant::now();
    loop {
        match Lock::try_shared(path).map_err(StoreError::io("locking", path))? {
            Some(lock) => return Ok(lock),
            None if start.elapsed() < PATIENCE => std::thread::sleep(POLL),
            None => {
                let by = "`pipe cache gc` is probably tidying up; run again when it is done";
                return Err(StoreError::Locked { path: path.to_owned(), by });
            }
        }
    }
}

#[cfg(test)]
mod tests;
