//! Kernel file locks. They prevent duplicate work and concurrent `gc`; correctness relies on
//! renames alone, so a file system without locks works too, with a warning. The kernel releases the
//! locks of a killed process.

use super::folders;
use super::holder::Holder;
use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// How often a taken lock is tried again.
pub const POLLS_PER_SECOND: u64 = 50;

pub(super) const POLL: Duration = Duration::from_millis(1000 / POLLS_PER_SECOND);

/// A lock, held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    /// None on a file system without locks.
    file: Option<File>,
    /// Whether the file says who holds it.
    has_line: Cell<bool>,
}

impl Lock {
    fn of(file: Option<File>) -> Lock {
        Lock { file, has_line: Cell::new(false) }
    }
}

/// Opens the file of a lock, which is created if it is missing. One that can't be written is opened
/// for reading: the kernel locks it as well.
fn open(path: &Path) -> io::Result<File> {
    let create = || File::options().create(true).append(true).open(path);
    let error = match create() {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    match (error.kind(), path.parent()) {
        (io::ErrorKind::NotFound, Some(folder)) => {
            std::fs::create_dir_all(folder)?;
            // A link that leads nowhere is in its place.
            if path.is_symlink() {
                folders::remove(path)?;
            }
            create()
        }
        (io::ErrorKind::IsADirectory, _) => {
            folders::remove(path)?;
            create()
        }
        _ if is_not_writable(&error) => match File::open(path) {
            Ok(file) => Ok(file),
            Err(_) if folders::restore(path, folders::READ) => create(),
            Err(opening) if opening.kind() == io::ErrorKind::NotFound => Err(error),
            Err(opening) => Err(opening),
        },
        _ => Err(error),
    }
}

/// Whether something can't be written by this user, or by nobody.
pub(super) fn is_not_writable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Whether the file system doesn't support locks.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(libc::ENOLCK)
}

impl Lock {
    /// Locks exclusively. None if the lock is taken.
    pub(super) fn try_exclusive(path: &Path) -> io::Result<Option<Lock>> {
        Lock::try_with(path, File::try_lock)
    }

    /// Locks shared. None if the lock is taken exclusively.
    pub(super) fn try_shared(path: &Path) -> io::Result<Option<Lock>> {
        Lock::try_with(path, File::try_lock_shared)
    }

    /// The shared lock of a store that is only read: without one where its file is missing and can't
    /// be created.
    pub(super) fn try_shared_if_possible(path: &Path) -> io::Result<Option<Lock>> {
        match Lock::try_shared(path) {
            Err(error) if is_not_writable(&error) => Ok(Some(Lock::of(None))),
            result => result,
        }
    }

    fn try_with(
        path: &Path,
        take: fn(&File) -> Result<(), TryLockError>,
    ) -> io::Result<Option<Lock>> {
        let file = open(path)?;
        match take(&file) {
            Ok(()) => Ok(Some(Lock::of(Some(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(Some(Lock::of(None))),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Locks exclusively. While the lock is taken, `keep_waiting` is called several times a second;
    /// none once it returns false.
    pub(super) fn watched(
        path: &Path,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> io::Result<Option<Lock>> {
        loop {
            match Lock::try_exclusive(path)? {
                Some(lock) => {
                    lock.write_holder();
                    return Ok(Some(lock));
                }
                None if keep_waiting() => std::thread::sleep(POLL),
                None => return Ok(None),
            }
        }
    }

    /// Locks exclusively, waiting as long as the lock is taken.
    pub(super) fn wait(path: &Path) -> io::Result<Lock> {
        let file = open(path)?;
        match file.lock() {
            Ok(()) => Ok(Lock::of(Some(file))),
            Err(error) if is_unsupported(&error) => Ok(Lock::of(None)),
            Err(error) => Err(error),
        }
    }

    /// Writes to the lock's file who holds it. Best effort: it only helps those who wait.
    pub(super) fn write_holder(&self) {
        if let Some(file) = &self.file {
            let line = serde_json::to_vec(&Holder::this()).unwrap_or_default();
            self.has_line.set(true);
            let _ = file.set_len(0).and_then(|()| (&*file).write_all(&line));
        }
    }

    /// False on a file system without locks.
    pub(super) fn is_held(&self) -> bool {
        self.file.is_some()
    }
}

/// A lock that is free has an empty file.
impl Drop for Lock {
    fn drop(&mut self) {
        if let (true, Some(file)) = (self.has_line.get(), &self.file) {
            let _ = file.set_len(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_exclusive_or_shared() {
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
