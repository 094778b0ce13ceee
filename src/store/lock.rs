//! The kernel's locks on files of their own. They save work and keep `gc` away; correctness rests on renames, so on a
//! file system without locks everything goes on without them. Nothing ever has to be unlocked by hand.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// A lock, held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: Option<File>,
}

/// The file of a lock, made where it is missing.
fn open(path: &Path) -> io::Result<File> {
    let open = || File::options().create(true).append(true).open(path);
    match (open(), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder)?;
            open()
        }
        (result, _) => result,
    }
}

/// Whether the file system says that it has no locks: then there is nobody to wait for.
fn has_none(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(libc::ENOLCK)
}

impl Lock {
    /// Takes the lock for itself, or None where somebody has it.
    pub(super) fn try_exclusive(path: &Path) -> io::Result<Option<Lock>> {
        Lock::taken(path, File::try_lock)
    }

    /// Takes the lock together with others, or None where somebody has it for itself.
    pub(super) fn try_shared(path: &Path) -> io::Result<Option<Lock>> {
        Lock::taken(path, File::try_lock_shared)
    }

    fn taken(path: &Path, take: fn(&File) -> Result<(), TryLockError>) -> io::Result<Option<Lock>> {
        let file = open(path)?;
        match take(&file) {
            Ok(()) => Ok(Some(Lock { file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if has_none(&error) => Ok(Some(Lock { file: None })),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Waits for the lock.
    pub(super) fn wait(path: &Path) -> io::Result<Lock> {
        let file = open(path)?;
        match file.lock() {
            Ok(()) => Ok(Lock { file: Some(file) }),
            Err(error) if has_none(&error) => Ok(Lock { file: None }),
            Err(error) => Err(error),
        }
    }

    /// Whether the kernel really holds it: false on a file system without locks.
    pub(super) fn is_held(&self) -> bool {
        self.file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_or_many_sharers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks/one");
        let first = Lock::try_exclusive(&path).unwrap().unwrap();
        assert!(first.is_held());
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        assert!(Lock::try_shared(&path).unwrap().is_none());
        drop(first);
        let shared =
            (Lock::try_shared(&path).unwrap().unwrap(), Lock::try_shared(&path).unwrap().unwrap());
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(shared);
        drop(Lock::wait(&path).unwrap());
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }
}
