//! Maintenance of a store: disk usage, verification of every file, and garbage collection. Run
//! records are not a cache: nothing here removes them.

use super::artifact::ArtifactError;
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

/// A number of entries and their bytes on disk. A file shared by several entries counts once, for
/// the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Artifacts, keys, runs, or files.
    pub count: u64,
    pub bytes: u64,
}

/// The disk usage of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub artifacts: Share,
    /// Keys with their logs.
    pub keys: Share,
    /// The memo by bucket.
    pub memo: BTreeMap<String, Share>,
    /// Digests of files in external folders.
    pub listings: Share,
    pub runs: Share,
    /// Artifacts being built, or left by a killed process.
    pub slots: Share,
    /// Quarantined artifacts and keys.
    pub damaged: Share,
}

impl Usage {
    /// The total number of bytes.
    pub fn total(&self) -> u64 {
        let parts = [self.artifacts, self.keys, self.listings, self.runs, self.slots, self.damaged];
        parts.iter().chain(self.memo.values()).map(|share| share.bytes).sum()
    }
}

/// A file on disk: links to it are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DiskFile {
    device: u64,
    inode: u64,
    /// Its length.
    pub bytes: u64,
}

/// The result of verifying a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The number of artifacts.
    pub artifacts: u64,
    /// Their size.
    pub bytes: u64,
    /// The damage that was found, one sentence each.
    pub damaged: Vec<String>,
}

/// The rule by which `gc` keeps artifacts.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// Artifacts, such as those of recorded runs.
    pub digests: HashSet<Digest>,
    /// Keys with their logs and artifacts.
    pub keys: HashSet<Digest>,
    /// Everything created or used within this time.
    pub younger_than: Duration,
}

/// The artifacts that `gc` removed or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    pub artifacts: Share,
    /// Keys, memo entries, leftovers of killed processes, quarantined files.
    pub other: Share,
}

impl Store {
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
            let name = bucket.file_name().expect("an entry of a folder has a name");
            let name = name.to_string_lossy().trim_end_matches('_').to_owned();
            usage.memo.insert(name, share(&bucket, 2, &mut seen));
        }
        Ok(usage)
    }

    /// The artifacts in the store, sorted.
    pub fn artifacts(&self) -> Vec<Digest> {
        self.named_by_digest("artifacts").into_iter().map(|(_, digest)| digest).collect()
    }

    /// The files of an artifact as they are on disk; none if it isn't in the store.
    pub fn disk_files(&self, artifact: &Digest) -> Vec<DiskFile> {
        disk_files(&self.artifact_path(artifact))
    }

    /// Reads every artifact and key, and quarantines the damaged ones. `watch` is called with the
    /// size of each artifact before it is read, and returns whether to continue.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`] if `watch` returns false, or if an I/O operation fails.
    pub fn verify(&self, watch: &mut dyn FnMut(u64) -> bool) -> Result<Verified, StoreError> {
        let mut verified = Verified::default();
        self.take_notes();
        for (path, digest) in self.named_by_digest("artifacts") {
            let Some(artifact) = self.artifact(&digest)? else { continue };
            if !watch(artifact.size()) {
                return Err(StoreError::Cancelled);
            }
            match artifact.check_content() {
                Ok(()) | Err(ArtifactError::Missing) => {}
                Err(ArtifactError::Store(error)) => return Err(error),
                Err(ArtifactError::Damaged(reason)) => {
                    self.set_aside(&path, &format!("artifact {}", digest.short()), &reason)?
                }
            }
            for stray in artifact.strays() {
                let reason = "it wasn't committed";
                let sentence =
                    format!("{} isn't part of artifact {}", stray.display(), digest.short());
                self.put_aside(&path.join(&stray), &sentence, reason)?;
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

    /// Removes everything that `keep` doesn't protect. With `dry_run`, only counts it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process uses the store.
    pub fn gc(&self, keep: &Keep, dry_run: bool) -> Result<Collected, StoreError> {
        let path = self.root().join("lock");
        let mut held = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        *held = None;
        let exclusive = Lock::try_exclusive(&path).map_err(StoreError::io("locking", &path));
        let result = match exclusive {
            Err(error) => Err(error),
            Ok(Some(lock)) if lock.is_held() => self.collect(keep, dry_run),
            Ok(_) => {
                let help =
                    "a run uses the store, or its file system has no locks; collect after the run";
                Err(StoreError::Locked { path: path.clone(), help })
            }
        };
        *held = Some(shared(&path)?);
        result
    }

    /// Requires the exclusive lock: unfinished files are then leftovers.
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
            for file in children(&bucket).iter().flat_map(|shard| children(shard)) {
                sweep.remove_memo(&file, other)?;
            }
        }
        for listing in children(&self.root().join("listings")) {
            sweep.remove_unless_young(&listing, other)?;
        }
        for folder in ["slots", "jobs", "locks", "memo-locks"] {
            for leftover in children(&self.root().join(folder)) {
                sweep.remove(&leftover, other)?;
            }
        }
        for damaged in children(&self.root().join("damaged")) {
            sweep.remove_unless_young(&damaged, other)?;
        }
        Ok(collected)
    }

    /// Removes the keys that aren't kept, and returns the artifacts to keep: those that `keep`
    /// names, and those of the remaining keys.
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
                // The artifact is kept anyway; with its small key it stays a cache hit.
                Some(artifact) if sweep.keep.digests.contains(&artifact) => {}
                _ => sweep.remove(&path, removed)?,
            }
        }
        Ok(kept)
    }

    /// The sorted entries of a sharded folder. Names that aren't digests are skipped.
    fn named_by_digest(&self, folder: &str) -> Vec<(PathBuf, Digest)> {
        let shards = children(&self.root().join(folder));
        let named = |path: PathBuf| {
            let digest = path.file_name()?.to_str()?.parse().ok()?;
            Some((path, digest))
        };
        shards.iter().flat_map(|shard| children(shard)).filter_map(named).collect()
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
        // So is one with a time in the future.
        modified.is_ok_and(|time| {
            self.now.duration_since(time).map_or(true, |age| age < self.keep.younger_than)
        })
    }

    fn remove_unless_young(&mut self, path: &Path, removed: &mut Share) -> Result<(), StoreError> {
        if self.is_young(path) { Ok(()) } else { self.remove(path, removed) }
    }

    /// The time of a linked file is constant, so that of its `length` file counts.
    fn remove_memo(&mut self, path: &Path, removed: &mut Share) -> Result<(), StoreError> {
        let is_linked = path.extension().is_some_and(|extension| extension == "file");
        if is_linked && self.is_young(&path.with_extension("length")) {
            Ok(())
        } else {
            self.remove_unless_young(path, removed)
        }
    }

    /// Renames a folder before it is emptied, so that a kill doesn't leave half of an artifact.
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

/// The sorted entries of a folder. None if it is missing.
pub(super) fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

/// The files below a folder; none if it is missing.
pub fn disk_files(folder: &Path) -> Vec<DiskFile> {
    let metadata = WalkDir::new(folder).into_iter().flatten().filter_map(|one| one.metadata().ok());
    let files = metadata.filter(Metadata::is_file);
    let file = |one: Metadata| DiskFile { device: one.dev(), inode: one.ino(), bytes: one.len() };
    files.map(file).collect()
}

/// Counts the entries at `depth` below a folder, and the bytes of all files below it that aren't in
/// `seen`.
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
