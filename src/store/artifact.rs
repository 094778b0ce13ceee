//! A committed artifact: a folder of read-only files and their manifest. Checks whether it is still
//! what was committed, quickly or by reading every file; the store handles damage.

use super::digest::{Digest, digest_file};
use super::error::StoreError;
use super::folders;
use super::manifest::{self, ListedFile, Manifest, Parsed};
use rayon::prelude::*;
use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use walkdir::WalkDir;

/// The modification time of every file of an artifact (2000-01-01): a later write shows without
/// reading the file, and no times have to be recorded.
const COMMITTED_TIME: u64 = 946_684_800;

/// From this many files on, the quick check runs in parallel.
const MANY: usize = 500;

/// A committed artifact.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The digest of the manifest.
    pub digest: Digest,
    pub path: PathBuf,
    pub manifest: Manifest,
}

/// Why an artifact can't be read.
pub(super) enum ArtifactError {
    Missing,
    /// It isn't what was committed; with the reason.
    Damaged(String),
    /// An I/O operation failed, or a newer program wrote it.
    Store(StoreError),
}

impl Artifact {
    /// Reads the artifact `digest` in `path` and does the quick check: the digest of the manifest,
    /// and the presence, length and modification time of each file.
    pub(super) fn read(path: &Path, digest: &Digest) -> Result<Artifact, ArtifactError> {
        let file = path.join(manifest::NAME);
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    && folders::restore(&file, folders::READ) =>
            {
                return Artifact::read(path, digest);
            }
            Err(error) if !is_missing(&error) => {
                return Err(ArtifactError::Store(StoreError::io("reading", &file)(error)));
            }
            // Even a link that leads nowhere is in the way of a new one.
            Err(_) if std::fs::symlink_metadata(path).is_ok() => {
                return Err(ArtifactError::Damaged(format!("{} is missing", manifest::NAME)));
            }
            Err(_) => return Err(ArtifactError::Missing),
        };
        if Digest::of(&bytes) != *digest {
            return Err(ArtifactError::Damaged(format!(
                "the digest of {} doesn't match",
                manifest::NAME
            )));
        }
        let manifest = match Manifest::parse(&bytes) {
            Parsed::Manifest(manifest) => manifest,
            Parsed::Newer(format) => {
                return Err(ArtifactError::Store(StoreError::Newer {
                    path: file,
                    found: format!("format {format}"),
                }));
            }
            Parsed::Invalid => {
                return Err(ArtifactError::Damaged(format!("{} can't be parsed", manifest::NAME)));
            }
        };
        let artifact = Artifact { digest: *digest, path: path.to_owned(), manifest };
        artifact.check_quickly()?;
        Ok(artifact)
    }

    /// The artifact `digest` in `path`, of which the manifest alone is checked.
    pub(super) fn remains(path: &Path, digest: &Digest) -> Option<Artifact> {
        let bytes = std::fs::read(path.join(manifest::NAME)).ok()?;
        match Manifest::parse(&bytes) {
            Parsed::Manifest(manifest) if Digest::of(&bytes) == *digest => {
                Some(Artifact { digest: *digest, path: path.to_owned(), manifest })
            }
            _ => None,
        }
    }

    /// Checks the presence, length and modification time of each file.
    fn check_quickly(&self) -> Result<(), ArtifactError> {
        let files = &self.manifest.files;
        let error = match files.len() {
            // Starting the thread pool takes as long as some hundred checks.
            0..MANY => files.iter().find_map(|file| self.check_file(file).err()),
            _ => {
                files.par_iter().filter_map(|file| self.check_file(file).err()).find_first(|_| true)
            }
        };
        error.map_or(Ok(()), Err)
    }

    fn check_file(&self, file: &ListedFile) -> Result<(), ArtifactError> {
        let path = self.path.join(&file.path);
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if is_missing(&error) || is_shut(&error, &self.path) => {
                return Err(ArtifactError::Damaged(format!("{} is missing", file.path)));
            }
            Err(error) => {
                return Err(ArtifactError::Store(
                    StoreError::io("reading the metadata of", &path)(error),
                ));
            }
        };
        if !metadata.is_file() || metadata.len() != file.len {
            let (found, wanted) = (metadata.len(), file.len);
            return Err(ArtifactError::Damaged(format!(
                "{} has {found} bytes instead of {wanted}",
                file.path
            )));
        }
        if has_committed_time(&metadata) {
            return Ok(());
        }
        // The time also changes when the store is copied, so the content decides.
        check_content_of(&path, file)?;
        // If this fails, the next check compares the content again.
        let _ = File::open(&path).and_then(|file| mark_committed(&file));
        Ok(())
    }

    /// [`Manifest::part_of`] this artifact.
    pub fn part(&self, reads: &[&str]) -> Digest {
        self.manifest.part_of(&self.digest, reads)
    }

    /// The text of its manifest.
    pub fn manifest_text(&self) -> Vec<u8> {
        self.manifest.text().into_bytes()
    }

    /// The absolute path of a file, given its path in the manifest.
    pub fn file(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// Reads every file and compares digests.
    ///
    /// # Errors
    /// The first difference.
    pub fn verify(&self) -> Result<(), StoreError> {
        match self.check_content() {
            Ok(()) => Ok(()),
            Err(ArtifactError::Store(error)) => Err(error),
            Err(ArtifactError::Missing) => Err(StoreError::Damaged {
                path: self.path.clone(),
                reason: "it is missing".to_owned(),
            }),
            Err(ArtifactError::Damaged(reason)) => {
                Err(StoreError::Damaged { path: self.path.clone(), reason })
            }
        }
    }

    pub(super) fn check_content(&self) -> Result<(), ArtifactError> {
        self.check_quickly()?;
        self.check_content_of(|_| true)
    }

    /// Reads the files of a wanted path and compares digests.
    pub(super) fn check_content_of(
        &self,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<(), ArtifactError> {
        let files = self.manifest.files.iter().filter(|file| is_wanted(&file.path));
        files.into_iter().try_for_each(|file| check_content_of(&self.path.join(&file.path), file))
    }

    /// The paths of the files that aren't what was committed, or can't be read.
    pub(super) fn damaged_files(&self) -> Vec<String> {
        let is_damaged =
            |file: &&ListedFile| check_content_of(&self.file(&file.path), file).is_err();
        self.manifest.files.iter().filter(is_damaged).map(|file| file.path.clone()).collect()
    }

    /// The absolute path of a file, if the artifact has it and its content is what was committed.
    pub fn intact(&self, path: &str) -> Option<PathBuf> {
        let file = self.manifest.files.iter().find(|file| file.path == path)?;
        let path = self.file(path);
        check_content_of(&path, file).is_ok().then_some(path)
    }

    /// The relative paths of files, links and folders that weren't committed. Of a folder without a
    /// committed file, the folder alone.
    pub(super) fn strays(&self) -> Vec<PathBuf> {
        let files = self.manifest.files.iter().map(|file| Path::new(file.path.as_str()));
        let known: HashSet<&Path> =
            files.flat_map(Path::ancestors).chain([Path::new(manifest::NAME)]).collect();
        let mut strays = Vec::new();
        let mut walk = WalkDir::new(&self.path).min_depth(1).sort_by_file_name().into_iter();
        while let Some(entry) = walk.next() {
            let Ok(entry) = entry else { continue };
            let Ok(path) = entry.path().strip_prefix(&self.path) else { continue };
            if !known.contains(path) {
                strays.push(path.to_owned());
                if entry.file_type().is_dir() {
                    walk.skip_current_dir();
                }
            }
        }
        strays
    }

    /// The total length of the files in bytes.
    pub fn size(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.len).sum()
    }
}

fn check_content_of(path: &Path, file: &ListedFile) -> Result<(), ArtifactError> {
    match digest_file(path) {
        Ok(digest) if digest == file.digest => Ok(()),
        Ok(_) => Err(ArtifactError::Damaged(format!("the content of {} changed", file.path))),
        Err(error) if is_missing(&error) => {
            Err(ArtifactError::Damaged(format!("{} is missing", file.path)))
        }
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied
                && folders::restore(path, folders::READ) =>
        {
            check_content_of(path, file)
        }
        Err(error) => Err(ArtifactError::Store(StoreError::io("reading", path)(error))),
    }
}

/// Whether there is nothing, or something else in place of a file or of a folder above it.
fn is_missing(error: &io::Error) -> bool {
    let kinds =
        [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory, io::ErrorKind::IsADirectory];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(libc::ELOOP)
}

/// Whether a folder in our own artifact can't be opened.
fn is_shut(error: &io::Error, artifact: &Path) -> bool {
    let owner = || std::fs::metadata(artifact).map(|metadata| metadata.uid());
    error.kind() == io::ErrorKind::PermissionDenied
        && owner().is_ok_and(|owner| owner == rustix::process::geteuid().as_raw())
}

fn has_committed_time(metadata: &Metadata) -> bool {
    metadata.mtime() == COMMITTED_TIME as i64 && metadata.mtime_nsec() == 0
}

/// Makes a file read-only and sets its time to [`COMMITTED_TIME`]. A file linked from another
/// artifact has both already.
pub(super) fn mark_committed(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    let mut permissions = metadata.permissions();
    if metadata.mode() & 0o222 != 0 {
        permissions.set_readonly(true);
        file.set_permissions(permissions)?;
    }
    if !has_committed_time(&metadata) {
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(COMMITTED_TIME))?;
    }
    Ok(())
}
