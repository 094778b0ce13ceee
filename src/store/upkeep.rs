//! Looking after a store: how much room what takes, whether everything is still what was committed, and removing what
//! nobody asks for any more. Runs are a record, not a cache: nothing here touches them.

use super::artifact::Flaw;
use super::digest::Digest;
use super::error::StoreError;
use super::lock::Lock;
use super::sealed::{self, Sealed};
use super::{Store, shared, split_entry};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};
use walkdir::WalkDir;

/// How many things, and how many bytes on the disk. A file that several things share counts where it is met first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// How many artifacts, keys, runs, or files.
    pub count: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// How much room what takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Artifacts.
    pub artifacts: Share,
    /// Keys and their logs.
    pub keys: Share,
    /// The memo, by bucket.
    pub memo: BTreeMap<String, Share>,
    /// What is known of folders outside.
    pub listings: Share,
    /// Records of runs.
    pub runs: Share,
    /// Artifacts in the making, or left over by a kill.
    pub slots: Share,
    /// What was set aside.
    pub damaged: Share,
}

impl Usage {
    /// Bytes of everything.
    pub fn total(&self) -> u64 {
        let parts = [self.artifacts, self.keys, self.listings, self.runs, self.slots, self.damaged];
        parts.iter().chain(self.memo.values()).map(|share| share.bytes).sum()
    }
}

/// What reading everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Artifacts that were read.
    pub artifacts: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What was damaged, and set aside: a sentence each.
    pub damaged: Vec<String>,
}

/// What `gc` is not to remove.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// Artifacts, such as those that recorded runs name.
    pub digests: HashSet<Digest>,
    /// Keys, with their logs and artifacts.
    pub keys: HashSet<Digest>,
    /// What was made or used within this time.
    pub younger_than: Duration,
}

/// What `gc` removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Artifacts.
    pub artifacts: Share,
    /// Everything else: keys, memo, leftovers of kills, what was set aside.
    pub other: Share,
}

impl Store {
    /// How much room what takes.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let mut seen = HashSet::new();
        let mut usage = Usage {
            artifacts: share(&self.root().join("artifacts"), 2, &mut seen),
            keys: share(&self.root().join("keys"), 2, &mut seen),
            listings: share(&self.root().join("listings"), 1, &mut seen),
            runs: share(&self.runs_folder(), 1, &mut seen),
            slots: share(&self.root().join("slots"), 1, &mut seen),
            damaged: share(&self.root().join("damaged"), 1, &mut seen),
            ..Usage::default()
        };
        for bucket in children(&self.root().join("memo")) {
            let name = bucket
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .trim_end_matches('_')
                .to_owned();
            usage.memo.insert(name, share(&bucket, 2, &mut seen));
        }
        Ok(usage)
    }

    /// Reads every artifact and key. What is damaged is set aside. `watch` is told each artifact's bytes before it is
    /// read, and says whether to go on.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`] once `watch` says no; where the system refuses something.
    pub fn verify(&self, watch: &mut dyn FnMut(u64) -> bool) -> Result<Verified, StoreError> {
        let mut verified = Verified::default();
        self.take_notes();
        for (path, digest) in self.named_by_digest("artifacts") {
            let Some(artifact) = self.artifact(&digest)? else { continue };
            if !watch(artifact.size()) {
                return Err(StoreError::Cancelled);
            }
            match artifact.compare() {
                Ok(()) | Err(Flaw::Absent) => {}
                Err(Flaw::Refused(error)) => return Err(error),
                Err(Flaw::Damaged(what)) => {
                    self.set_aside(&path, &format!("artifact {}", digest.short()), &what)?
                }
            }
            verified.artifacts += 1;
            verified.bytes += artifact.size();
        }
        for (_, key) in self.named_by_digest("keys") {
            self.read_key(&key)?;
        }
        verified.damaged = self.take_notes();
        Ok(verified)
    }

    /// Removes what `keep` doesn't name and nobody used lately. With `dry_run` only says what that is.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while anybody else uses the store.
    pub fn gc(&self, keep: &Keep, dry_run: bool) -> Result<Collected, StoreError> {
        let path = self.root().join("lock");
        let mut held = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        *held = None;
        let exclusive = Lock::try_exclusive(&path).map_err(StoreError::io("locking", &path));
        let result = match exclusive {
            Err(error) => Err(error),
            Ok(Some(lock)) if lock.is_held() => self.collect(keep, dry_run),
            Ok(_) => {
                let by = "a run uses the store (or its file system has no locks); tidy up when it is done";
                Err(StoreError::Locked { path: path.clone(), by })
            }
        };
        *held = Some(shared(&path)?);
        result
    }

    /// The exclusive lock is held: whatever looks unfinished here is a leftover.
    fn collect(&self, keep: &Keep, dry_run: bool) -> Result<Collected, StoreError> {
        let mut sweep =
            Sweep { now: SystemTime::now(), keep, dry_run, trash: self.root().join("slots/trash") };
        let mut collected = Collected::default();
        let other = &mut collected.other;
        let kept = self.collect_keys(&mut sweep, other)?;
        for (path, digest) in self.named_by_digest("artifacts") {
            if !kept.contains(&digest) && !sweep.is_young(&path.join(super::manifest::NAME)) {
                sweep.remove(&path, &mut collected.artifacts)?;
            }
        }
        for bucket in children(&self.root().join("memo")) {
            for file in children(&bucket).iter().flat_map(|shelf| children(shelf)) {
                sweep.remove_memo(&file, other)?;
            }
        }
        for listing in children(&self.root().join("listings")) {
            sweep.remove_old(&listing, other)?;
        }
        for folder in ["slots", "jobs", "locks", "memo-locks"] {
            for leftover in children(&self.root().join(folder)) {
                sweep.remove(&leftover, other)?;
            }
        }
        for damaged in children(&self.root().join("damaged")) {
            sweep.remove_old(&damaged, other)?;
        }
        Ok(collected)
    }

    /// Removes keys that aren't kept, and returns the artifacts that are: those named, and those of the keys that stay.
    fn collect_keys(
        &self,
        sweep: &mut Sweep,
        removed: &mut Share,
    ) -> Result<HashSet<Digest>, StoreError> {
        let mut kept = sweep.keep.digests.clone();
        for (path, key) in self.named_by_digest("keys") {
            let artifact = match sealed::read(&path).map_err(StoreError::io("reading", &path))? {
                Sealed::Whole(payload) => split_entry(&key, payload).map(|(artifact, _)| artifact),
                _ => None,
            };
            match artifact {
                Some(artifact) if sweep.keep.keys.contains(&key) || sweep.is_young(&path) => {
                    kept.insert(artifact);
                }
                // Its artifact stays for another reason, and so may it: it is small, and makes a hit.
                Some(artifact) if sweep.keep.digests.contains(&artifact) => {}
                _ => sweep.remove(&path, removed)?,
            }
        }
        Ok(kept)
    }

    /// What lies in a folder with a shelf for each first byte, sorted; other names are passed over.
    fn named_by_digest(&self, folder: &str) -> Vec<(PathBuf, Digest)> {
        let shelves = children(&self.root().join(folder));
        let named = |path: PathBuf| {
            let digest = path.file_name()?.to_str()?.parse().ok()?;
            Some((path, digest))
        };
        shelves.iter().flat_map(|shelf| children(shelf)).filter_map(named).collect()
    }
}

struct Sweep<'a> {
    now: SystemTime,
    keep: &'a Keep,
    dry_run: bool,
    trash: PathBuf,
}

impl Sweep<'_> {
    fn is_young(&self, path: &Path) -> bool {
        let modified = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
        // A time in the future is young.
        modified.is_ok_and(|time| {
            self.now.duration_since(time).map_or(true, |age| age < self.keep.younger_than)
        })
    }

    fn remove_old(&mut self, path: &Path, removed: &mut Share) -> Result<(), StoreError> {
        if self.is_young(path) { Ok(()) } else { self.remove(path, removed) }
    }

    /// A linked file's own time says nothing: that of its seal beside it counts.
    fn remove_memo(&mut self, path: &Path, removed: &mut Share) -> Result<(), StoreError> {
        let is_linked = path.extension().is_some_and(|extension| extension == "file");
        if is_linked && self.is_young(&path.with_extension("length")) {
            Ok(())
        } else {
            self.remove_old(path, removed)
        }
    }

    /// A folder is renamed before it is emptied, so that a kill leaves no half of an artifact.
    fn remove(&mut self, path: &Path, removed: &mut Share) -> Result<(), StoreError> {
        let Share { bytes, .. } = share(path, 0, &mut HashSet::new());
        removed.count += 1;
        removed.bytes += bytes;
        if self.dry_run {
            return Ok(());
        }
        let failed = StoreError::io("removing", path);
        let remove = || {
            if !path.is_dir() || path.parent() == self.trash.parent() {
                return if path.is_dir() {
                    std::fs::remove_dir_all(path)
                } else {
                    std::fs::remove_file(path)
                };
            }
            if let Some(slots) = self.trash.parent() {
                std::fs::create_dir_all(slots)?;
            }
            std::fs::rename(path, &self.trash)?;
            std::fs::remove_dir_all(&self.trash)
        };
        remove().map_err(failed)
    }
}

/// What lies in a folder, sorted; nothing where there is no such folder.
fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

/// Counts what lies at `depth` in a folder, and the bytes of all files below it that weren't seen before.
fn share(folder: &Path, depth: usize, seen: &mut HashSet<(u64, u64)>) -> Share {
    let mut share = Share::default();
    for entry in WalkDir::new(folder).into_iter().flatten() {
        share.count += u64::from(entry.depth() == depth);
        let new = |metadata: &Metadata| {
            metadata.is_file() && seen.insert((metadata.dev(), metadata.ino()))
        };
        share.bytes += entry.metadata().ok().filter(new).map_or(0, |metadata| metadata.len());
    }
    share
}
