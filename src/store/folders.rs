//! The folders of a store when they are damaged: a file or a link that leads nowhere in place of
//! one, or permissions that keep even its owner out. Opening a store repairs what it can; the
//! content is a cache, so an empty folder is as good as the one that is gone.

use super::Inner;
use std::fs::{self, DirEntry, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The folders in the root.
const FOLDERS: [&str; 10] = [
    // First: others are moved there.
    "damaged",
    "artifacts",
    "jobs",
    "keys",
    "listings",
    "locks",
    "memo",
    "memo-locks",
    "runs",
    "slots",
];

/// The files in the root.
const FILES: [&str; 2] = ["format", "lock"];

/// The access to a folder that its owner needs to read it, and all that an owner can have, which is
/// what is restored. A store whose owner made it read-only stays that.
pub(super) const READ: u32 = 0o500;
pub(super) const ALL: u32 = 0o700;

/// The name of the store's root, and the number of folders above a path up to it.
const ROOT: &str = "v1";
const DEPTH: usize = 4;

/// Moves whatever stands in place of a folder or file of the store to `damaged/`, and restores the
/// permissions of its folders. Returns a sentence for each. Damage that can't be repaired is left to
/// the functions that read the store.
pub(super) fn repair(root: &Path) -> Vec<String> {
    let mut notes = Vec::new();
    for name in FOLDERS {
        let path = root.join(name);
        if is_wrong(&path, Metadata::is_dir) {
            notes.extend(move_aside(root, &path, "it isn't a folder"));
        } else if fs::symlink_metadata(&path).is_ok_and(|found| restore_one(&path, &found, READ)) {
            notes.push(format!("the permissions of {} were restored", path.display()));
        }
    }
    for name in FILES {
        let path = root.join(name);
        if is_wrong(&path, Metadata::is_file) {
            notes.extend(move_aside(root, &path, "it isn't a file"));
        }
    }
    let memo = root.join("memo");
    let buckets = entries(&memo).map(|bucket| bucket.path());
    for folder in
        [root.join("artifacts"), root.join("keys"), memo.clone()].into_iter().chain(buckets)
    {
        for entry in entries(&folder).filter(is_no_folder) {
            notes.extend(move_aside(root, &entry.path(), "it isn't a folder"));
        }
    }
    notes
}

/// Whether a folder is the root of a store.
pub fn is_root(folder: &Path) -> bool {
    folder.ends_with(ROOT) && folder.join(FILES[0]).is_file()
}

fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// Whether there is something else at `path` than what `is_right` accepts, or a link that leads
/// nowhere. False if nothing is there, which another process may be about to create, and where it
/// isn't known.
fn is_wrong(path: &Path, is_right: fn(&Metadata) -> bool) -> bool {
    let Ok(found) = fs::symlink_metadata(path) else { return false };
    if !found.file_type().is_symlink() {
        return !is_right(&found);
    }
    match fs::metadata(path) {
        Ok(target) => !is_right(&target),
        Err(error) => {
            error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ELOOP)
        }
    }
}

/// Whether an entry is neither a folder nor a link to one.
fn is_no_folder(entry: &DirEntry) -> bool {
    let is_unfinished =
        || entry.file_name().as_encoded_bytes().starts_with(super::sealed::UNFINISHED.as_bytes());
    !entry.file_type().is_ok_and(|kind| kind.is_dir())
        && !fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir())
        && !is_unfinished()
}

/// Moves `path` to the folder of damaged files, if it is there, and says so.
fn move_aside(root: &Path, path: &Path, reason: &str) -> Option<String> {
    fs::symlink_metadata(path).ok()?;
    let target = aside(root, path).ok()?;
    fs::rename(path, &target).ok()?;
    Some(format!("{} was damaged ({reason}); it was moved to {}", path.display(), target.display()))
}

/// A free name for `path` in the folder of damaged files, which is created.
pub(super) fn aside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let damaged = root.join("damaged");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = match fs::create_dir_all(&damaged) {
        Ok(()) => damaged,
        // That folder itself is in the way.
        Err(_) if path == damaged => root.to_owned(),
        Err(error) => return Err(error),
    };
    let mut free = (0..).map(|number: u64| folder.join(format!("{name}-{number}")));
    free.find(|path| fs::symlink_metadata(path).is_err())
        .ok_or_else(|| io::ErrorKind::AlreadyExists.into())
}

/// Gives the owner back the access `needed` to the folders of the store above `path`, and to `path`
/// itself. Returns whether anything changed: then it is worth trying again.
pub(super) fn restore(path: &Path, needed: u32) -> bool {
    let mut folders = Vec::new();
    for folder in path.ancestors().take(DEPTH + 1) {
        folders.push(folder);
        if folder.ends_with(ROOT) {
            break;
        }
    }
    let restored = |path: &&&Path| {
        fs::symlink_metadata(path).is_ok_and(|metadata| restore_one(path, &metadata, needed))
    };
    folders.iter().rev().filter(restored).count() > 0
}

fn restore_one(path: &Path, metadata: &Metadata, needed: u32) -> bool {
    let (needed, restored) = if metadata.is_dir() { (needed, ALL) } else { (0o400, 0o400) };
    let mode = metadata.mode() & 0o7777;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    let is_link = metadata.file_type().is_symlink();
    !is_link
        && is_ours
        && mode & needed != needed
        && fs::set_permissions(path, Permissions::from_mode(mode | restored)).is_ok()
        // Some file systems ignore it.
        && fs::symlink_metadata(path).is_ok_and(|found| found.mode() & needed == needed)
}

/// Removes a file, a link or a folder; nothing if it is missing.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Inner {
    /// Whether this process may not write to the store.
    pub(super) fn is_read_only(&self) -> bool {
        is_read_only(&self.root)
    }
}

/// Whether a folder can't be written: by its permissions, or since its file system is read-only.
pub(super) fn is_read_only(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_err()
}
