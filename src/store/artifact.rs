//! A committed folder: read-only files and their manifest, named by the manifest's digest. Knows how to tell whether it
//! is still what was committed, quickly or by reading everything; what is to be done about damage, its store decides.

use super::digest::{Digest, digest_file};
use super::error::StoreError;
use super::manifest::{self, ListedFile, Manifest, Parsed};
use rayon::prelude::*;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The modification time that every file of an artifact gets (2000-01-01): whoever writes to one afterwards is found out
/// without reading it, and no record of times has to be kept.
const SETTLED: u64 = 946_684_800;

/// Below this many files one thread looks at them.
const FEW: usize = 500;

/// A stage's committed output.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its folder.
    pub path: PathBuf,
    /// Its files.
    pub manifest: Manifest,
}

/// Why a folder isn't the artifact that it should be.
pub(super) enum Flaw {
    /// It isn't there.
    Absent,
    /// It isn't what was committed: a sentence.
    Damaged(String),
    /// It can't be looked at, or isn't ours to read.
    Refused(StoreError),
}

impl Artifact {
    /// Looks at the artifact `digest` in `path`: the manifest's own digest, each file's presence, length and time.
    pub(super) fn read(path: &Path, digest: &Digest) -> Result<Artifact, Flaw> {
        let file = path.join(manifest::NAME);
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Flaw::Refused(StoreError::io("reading", &file)(error)));
            }
            Err(_) if path.exists() => {
                return Err(Flaw::Damaged(format!("{} is missing", manifest::NAME)));
            }
            Err(_) => return Err(Flaw::Absent),
        };
        if Digest::of(&bytes) != *digest {
            return Err(Flaw::Damaged(format!(
                "{} isn't the one that was committed",
                manifest::NAME
            )));
        }
        let manifest = match Manifest::parse(&bytes) {
            Parsed::Manifest(manifest) => manifest,
            Parsed::Newer(format) => {
                return Err(Flaw::Refused(StoreError::Newer {
                    path: file,
                    found: format!("format {format}"),
                }));
            }
            Parsed::Nothing => {
                return Err(Flaw::Damaged(format!("{} can't be read", manifest::NAME)));
            }
        };
        let artifact = Artifact { digest: *digest, path: path.to_owned(), manifest };
        artifact.look()?;
        Ok(artifact)
    }

    /// Looks at each file's presence, length and time.
    fn look(&self) -> Result<(), Flaw> {
        let files = &self.manifest.files;
        let flaw = match files.len() {
            // Starting a pool takes as long as some hundred looks.
            0..FEW => files.iter().find_map(|file| self.look_at(file).err()),
            _ => files.par_iter().filter_map(|file| self.look_at(file).err()).find_first(|_| true),
        };
        flaw.map_or(Ok(()), Err)
    }

    fn look_at(&self, file: &ListedFile) -> Result<(), Flaw> {
        let path = self.path.join(&file.path);
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Flaw::Damaged(format!("{} is missing", file.path)));
            }
            Err(error) => return Err(Flaw::Refused(StoreError::io("looking at", &path)(error))),
        };
        if !metadata.is_file() || metadata.len() != file.len {
            let (found, wanted) = (metadata.len(), file.len);
            return Err(Flaw::Damaged(format!(
                "{} has {found} bytes, {wanted} were committed",
                file.path
            )));
        }
        if is_settled(&metadata) {
            return Ok(());
        }
        // Another time may only mean that the store was copied: the content decides.
        read_and_compare(&path, file)?;
        // Where this fails, the content is compared again next time.
        let _ = File::open(&path).and_then(|file| settle(&file));
        Ok(())
    }

    /// The digest of the files that `reads` names alone (folders with a `/` at their end; none means all): what a reader
    /// of those files depends on. A file that isn't there doesn't count.
    pub fn part(&self, reads: &[&str]) -> Digest {
        if reads.is_empty() { self.digest } else { self.manifest.part(reads) }
    }

    /// The path of one of its files, by its path in the manifest.
    pub fn file(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// Reads every file and compares it with the manifest. The error names the first that isn't what was committed.
    pub fn verify(&self) -> Result<(), StoreError> {
        match self.compare() {
            Ok(()) => Ok(()),
            Err(Flaw::Refused(error)) => Err(error),
            Err(Flaw::Absent) => {
                Err(StoreError::Damaged { path: self.path.clone(), what: "it is gone".to_owned() })
            }
            Err(Flaw::Damaged(what)) => Err(StoreError::Damaged { path: self.path.clone(), what }),
        }
    }

    pub(super) fn compare(&self) -> Result<(), Flaw> {
        self.look()?;
        self.manifest
            .files
            .iter()
            .try_for_each(|file| read_and_compare(&self.path.join(&file.path), file))
    }

    /// Bytes of its files.
    pub fn size(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.len).sum()
    }
}

fn read_and_compare(path: &Path, file: &ListedFile) -> Result<(), Flaw> {
    match digest_file(path) {
        Ok(digest) if digest == file.digest => Ok(()),
        Ok(_) => {
            Err(Flaw::Damaged(format!("the content of {} isn't what was committed", file.path)))
        }
        Err(error) => Err(Flaw::Refused(StoreError::io("reading", path)(error))),
    }
}

fn is_settled(metadata: &Metadata) -> bool {
    metadata.mtime() == SETTLED as i64 && metadata.mtime_nsec() == 0
}

/// Makes a file read-only and gives it the time of committed files. One that is linked from another artifact has both.
pub(super) fn settle(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    let mut permissions = metadata.permissions();
    if metadata.mode() & 0o222 != 0 {
        permissions.set_readonly(true);
        file.set_permissions(permissions)?;
    }
    if !is_settled(&metadata) {
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(SETTLED))?;
    }
    Ok(())
}
