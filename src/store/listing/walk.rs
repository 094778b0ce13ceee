//! Walks a folder by all threads, level by level: each file costs one `stat` of its name in an open
//! folder, which is most of what a rerun with nothing to do takes. Links are followed, hidden names
//! left out. The result is in no order.

use super::{Found, Identity, Skip};
use crate::store::StoreError;
use rayon::prelude::*;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, open, statat};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// From this many files on, all threads read the metadata of a folder's files.
const MANY: usize = 200;

/// From this many folders on, all threads read them: starting the threads takes as long as a few.
const FEW: usize = 8;

/// A folder of this size, in bytes as the file system counts them, is one of thousands of names, so
/// that reading it takes longer than starting the threads.
const LARGE: i64 = 256 * 1024;

/// What is below a folder.
#[derive(Default)]
pub(super) struct Contents {
    pub found: Vec<Found>,
    /// Folders, with those in which there is nothing.
    pub folders: Vec<String>,
    pub skipped: Vec<(String, Skip)>,
}

/// A folder to be read.
struct Folder {
    /// Its path relative to the root; empty for the root.
    path: Vec<u8>,
    /// The folders around it.
    around: Option<Arc<Around>>,
}

/// A folder with those around it.
struct Around {
    identity: (u64, u64),
    around: Option<Arc<Around>>,
}

impl Around {
    fn has(&self, identity: (u64, u64)) -> bool {
        let mut next = Some(self);
        while let Some(folder) = next {
            if folder.identity == identity {
                return true;
            }
            next = folder.around.as_deref();
        }
        false
    }
}

/// One level: its contents, and the folders of the next.
#[derive(Default)]
struct Level {
    contents: Contents,
    next: Vec<Folder>,
}

impl Level {
    fn and(mut self, other: Level) -> Level {
        self.contents.found.extend(other.contents.found);
        self.contents.folders.extend(other.contents.folders);
        self.contents.skipped.extend(other.contents.skipped);
        self.next.extend(other.next);
        self
    }

    fn skip(&mut self, path: &[u8], reason: Skip) {
        self.contents.skipped.push((shown(path), reason));
    }
}

/// Walks `root`; the folder `own` is left out.
///
/// # Errors
/// If `root` can't be read.
pub(super) fn walk(root: &Path, own: Option<(u64, u64)>) -> Result<Contents, StoreError> {
    let first = Folder { path: Vec::new(), around: None };
    // The root's own error is one of the listing, not of a part of it.
    let opened = open_folder(root, &first.path).map_err(StoreError::io("listing", root))?;
    let mut level = read(root, own, &first, opened);
    let mut all = Contents::default();
    loop {
        let next = std::mem::take(&mut level.next);
        all.found.append(&mut level.contents.found);
        all.folders.append(&mut level.contents.folders);
        all.skipped.append(&mut level.contents.skipped);
        if next.is_empty() {
            return Ok(all);
        }
        let one = |folder: &Folder| match open_folder(root, &folder.path) {
            Ok(opened) => read(root, own, folder, opened),
            Err(error) => unreadable(folder, &error),
        };
        let threads = next.len() >= FEW || next.iter().any(|folder| is_large(root, folder));
        level = match threads {
            true => next.par_iter().map(one).reduce(Level::default, Level::and),
            false => next.iter().map(one).fold(Level::default(), Level::and),
        };
    }
}

fn is_large(root: &Path, folder: &Folder) -> bool {
    let path = root.join(OsStr::from_bytes(&folder.path));
    rustix::fs::stat(&path).is_ok_and(|found| found.st_size >= LARGE)
}

fn open_folder(root: &Path, path: &[u8]) -> io::Result<OwnedFd> {
    let whole = root.join(OsStr::from_bytes(path));
    Ok(open(&whole, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn unreadable(folder: &Folder, error: &io::Error) -> Level {
    let mut level = Level::default();
    level.contents.folders.push(shown(&folder.path));
    level.skip(&folder.path, Skip::Unreadable(error.to_string()));
    level
}

/// The entries of an open folder.
fn read(root: &Path, own: Option<(u64, u64)>, folder: &Folder, opened: OwnedFd) -> Level {
    let identity = match fstat(&opened) {
        Ok(found) => identity(&found),
        Err(error) => return unreadable(folder, &error.into()),
    };
    if own == Some(identity) {
        return Level::default();
    }
    let mut level = Level::default();
    if !folder.path.is_empty() {
        level.contents.folders.push(shown(&folder.path));
    }
    let entries = match entries(&opened) {
        Ok(entries) => entries,
        Err(error) => return unreadable(folder, &error),
    };
    let around = Arc::new(Around { identity, around: folder.around.clone() });
    let here = Here { root, opened: &opened, path: &folder.path, around: &around };
    let one = |(name, kind): &(CString, FileType)| here.entry(name, *kind);
    let read = match entries.len() {
        0..MANY => entries.iter().map(one).fold(Level::default(), Entry::add),
        _ => entries
            .par_iter()
            .map(one)
            .fold(Level::default, Entry::add)
            .reduce(Level::default, Level::and),
    };
    level.and(read)
}

fn entries(opened: &OwnedFd) -> io::Result<Vec<(CString, FileType)>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(opened)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            entries.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(entries)
}

/// An entry of a folder.
enum Entry {
    File(Found),
    Folder(Folder),
    Skipped(String, Skip),
}

impl Entry {
    fn add(mut level: Level, entry: Entry) -> Level {
        match entry {
            Entry::File(found) => level.contents.found.push(found),
            Entry::Folder(folder) => level.next.push(folder),
            Entry::Skipped(path, reason) => level.contents.skipped.push((path, reason)),
        }
        level
    }
}

/// The folder whose entries are read.
struct Here<'a> {
    root: &'a Path,
    opened: &'a OwnedFd,
    path: &'a [u8],
    around: &'a Arc<Around>,
}

impl Here<'_> {
    fn entry(&self, name: &CString, kind: FileType) -> Entry {
        let path = match self.path {
            [] => name.to_bytes().to_vec(),
            folder => [folder, b"/", name.to_bytes()].concat(),
        };
        if name.to_bytes().starts_with(b".") {
            return self.hidden(name, kind, &path);
        }
        if kind == FileType::Directory {
            return Entry::Folder(Folder { path, around: Some(Arc::clone(self.around)) });
        }
        match statat(self.opened.as_fd(), name, AtFlags::empty()) {
            Ok(found) => self.found(path, &found),
            Err(error) => Entry::Skipped(shown(&path), self.missing(&path, error.into())),
        }
    }

    fn hidden(&self, name: &CString, kind: FileType, path: &[u8]) -> Entry {
        let is_folder = || match kind {
            FileType::Directory => true,
            FileType::RegularFile => false,
            _ => statat(self.opened.as_fd(), name, AtFlags::empty())
                .is_ok_and(|found| kind_of(&found) == FileType::Directory),
        };
        let slash = if is_folder() { "/" } else { "" };
        Entry::Skipped(shown(path) + slash, Skip::Hidden)
    }

    /// A file, or what a link leads to.
    fn found(&self, path: Vec<u8>, found: &Stat) -> Entry {
        match kind_of(found) {
            FileType::Directory if self.around.has(identity(found)) => {
                Entry::Skipped(shown(&path), Skip::Loop)
            }
            FileType::Directory => {
                Entry::Folder(Folder { path, around: Some(Arc::clone(self.around)) })
            }
            FileType::RegularFile => match String::from_utf8(path) {
                Ok(path) => Entry::File(Found { path, identity: Identity::of(found) }),
                Err(error) => Entry::Skipped(shown(error.as_bytes()), Skip::NotUtf8),
            },
            _ => Entry::Skipped(shown(&path), Skip::NotAFile),
        }
    }

    /// Why an entry has no metadata.
    fn missing(&self, path: &[u8], error: io::Error) -> Skip {
        let target = std::fs::read_link(self.root.join(OsStr::from_bytes(path)));
        match target {
            Ok(target) if error.kind() == io::ErrorKind::NotFound => {
                Skip::Dangling(target.to_string_lossy().into_owned())
            }
            _ => Skip::Unreadable(error.to_string()),
        }
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn kind_of(found: &Stat) -> FileType {
    FileType::from_raw_mode(found.st_mode)
}

/// The device and the inode.
pub(super) fn identity(found: &Stat) -> (u64, u64) {
    let Identity { device, inode, .. } = Identity::of(found);
    (device, inode)
}
