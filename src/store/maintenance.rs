//! Maintenance of a store: disk usage and verification of every file.

use super::Store;
use super::artifact::{Artifact, ArtifactError};
use super::digest::Digest;
use super::error::StoreError;
use super::suspects::Doubtful;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
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
    pub(super) device: u64,
    pub(super) inode: u64,
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
    /// The artifacts that were made from damaged ones, one sentence each.
    pub suspects: Vec<String>,
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

    /// Reads every artifact and key, and quarantines the damaged ones with what was made from them.
    /// `watch` is called with the size of each artifact before it is read, and returns whether to
    /// continue.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`] if `watch` returns false, or if an I/O operation fails.
    pub fn verify(&self, watch: &mut dyn FnMut(u64) -> bool) -> Result<Verified, StoreError> {
        let mut verified = Verified::default();
        let mut damaged = Vec::new();
        self.take_notes();
        for (path, digest) in self.named_by_digest("artifacts") {
            let put_aside = |reason: &str| -> Result<Doubtful, StoreError> {
                let doubtful = Doubtful::of(&path, digest);
                self.set_aside(&path, &format!("artifact {}", digest.short()), reason)?;
                Ok(doubtful)
            };
            let artifact = match Artifact::read(&path, &digest) {
                Ok(artifact) => artifact,
                Err(ArtifactError::Missing) => continue,
                Err(ArtifactError::Store(error)) => return Err(error),
                Err(ArtifactError::Damaged(reason)) => {
                    damaged.push(put_aside(&reason)?);
                    continue;
                }
            };
            if !watch(artifact.size()) {
                return Err(StoreError::Cancelled);
            }
            match artifact.check_content() {
                Ok(()) | Err(ArtifactError::Missing) => {}
                Err(ArtifactError::Store(error)) => return Err(error),
                Err(ArtifactError::Damaged(reason)) => damaged.push(put_aside(&reason)?),
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
        self.put_suspects_aside(damaged)?;
        verified.suspects = self.take_notes();
        Ok(verified)
    }

    /// The sorted entries of a sharded folder. Names that aren't digests are skipped.
    pub(super) fn named_by_digest(&self, folder: &str) -> Vec<(PathBuf, Digest)> {
        let shards = children(&self.root().join(folder));
        let named = |path: PathBuf| {
            let digest = path.file_name()?.to_str()?.parse().ok()?;
            Some((path, digest))
        };
        shards.iter().flat_map(|shard| children(shard)).filter_map(named).collect()
    }
}

/// The sorted entries of a folder. None if it is missing.
pub(super) fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

/// The files below a folder, or the file at this path; none if it is missing.
pub fn disk_files(folder: &Path) -> Vec<DiskFile> {
    let metadata = WalkDir::new(folder).into_iter().flatten().filter_map(|one| one.metadata().ok());
    metadata.filter_map(|found| DiskFile::of(&found)).collect()
}

impl DiskFile {
    /// None of what isn't a file.
    pub(super) fn of(found: &Metadata) -> Option<DiskFile> {
        let file = || DiskFile { device: found.dev(), inode: found.ino(), bytes: found.len() };
        found.is_file().then(file)
    }
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
