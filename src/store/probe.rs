//! Whether the file system of a store does what a store relies on: locks, if there are any, that
//! exclude each other, and renames that replace a file and move a folder. Some network file systems
//! don't.

use super::Store;
use super::error::StoreError;
use super::lock::is_unsupported;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

/// A demand that a file system doesn't meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// It grants a lock that another process holds.
    Exclusion,
    /// Renaming a file to a name that is taken fails, or doesn't replace the file there.
    Replacing,
    /// Folders can't be renamed.
    MovingFolders,
}

impl Lacking {
    /// The end of a sentence about the file system.
    pub(super) fn words(self) -> &'static str {
        match self {
            Lacking::Exclusion => "grants the same lock twice",
            Lacking::Replacing => "doesn't replace a file when another is renamed to its name",
            Lacking::MovingFolders => "can't rename folders",
        }
    }
}

/// The calls that are tried.
struct Calls {
    try_lock: fn(&File) -> Result<(), TryLockError>,
    rename: fn(&Path, &Path) -> io::Result<()>,
}

const SYSTEM: Calls = Calls { try_lock: File::try_lock, rename: |from, to| fs::rename(from, to) };

impl Store {
    /// Tries whether the file system has locks and renames, in a folder that is removed again. Takes a
    /// few calls: a run does it once, before its first stage. Nothing is tried in a store that is only
    /// read.
    ///
    /// # Errors
    /// [`StoreError::FileSystem`] if it lacks something. Any other failure is left to who writes next.
    pub fn check_file_system(&self) -> Result<(), StoreError> {
        self.check_with(&SYSTEM)
    }

    fn check_with(&self, calls: &Calls) -> Result<(), StoreError> {
        if self.is_read_only() {
            return Ok(());
        }
        match tried(&self.root().join("jobs"), calls) {
            Ok(Some(lacking)) => Err(StoreError::FileSystem {
                path: self.base().to_owned(),
                kind: kind(self.root()),
                lacking,
            }),
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

/// The first demand that isn't met in a new folder below `parent`.
fn tried(parent: &Path, calls: &Calls) -> io::Result<Option<Lacking>> {
    fs::create_dir_all(parent)?;
    let folder = tempfile::Builder::new().prefix("probe-").tempdir_in(parent)?;
    let folder = folder.path();
    let lacking = match locks(&folder.join("lock"), calls)? {
        None if !replaces(folder, calls)? => Some(Lacking::Replacing),
        None if !moves_folders(folder, calls)? => Some(Lacking::MovingFolders),
        lacking => lacking,
    };
    Ok(lacking)
}

fn locks(path: &Path, calls: &Calls) -> io::Result<Option<Lacking>> {
    let [one, other] = [File::create(path)?, File::options().append(true).open(path)?];
    match (calls.try_lock)(&one) {
        Ok(()) => {}
        // One process at a time can use such a store; opening it warned.
        Err(TryLockError::Error(error)) if is_unsupported(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    Ok((calls.try_lock)(&other).is_ok().then_some(Lacking::Exclusion))
}

fn replaces(folder: &Path, calls: &Calls) -> io::Result<bool> {
    let [old, new] = [folder.join("old"), folder.join("new")];
    fs::write(&old, "old")?;
    fs::write(&new, "new")?;
    let renamed = (calls.rename)(&new, &old);
    Ok(is_possible(renamed)? && fs::read(&old)? == b"new" && !new.exists())
}

fn moves_folders(folder: &Path, calls: &Calls) -> io::Result<bool> {
    let [from, to] = [folder.join("from"), folder.join("to")];
    fs::create_dir(&from)?;
    fs::write(from.join("file"), "")?;
    let renamed = (calls.rename)(&from, &to);
    Ok(is_possible(renamed)? && to.join("file").is_file() && !from.exists())
}

/// Whether the file system renamed, or refused to. A full or failing disk says nothing about it.
fn is_possible(renamed: io::Result<()>) -> io::Result<bool> {
    match renamed {
        Ok(()) => Ok(true),
        Err(error) if super::is_full(&error) => Err(error),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::ESTALE)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// The kind of the file system, if it is one that may lack something.
#[cfg(target_os = "linux")]
fn kind(folder: &Path) -> Option<&'static str> {
    let found = rustix::fs::statfs(folder).ok()?;
    // Of a signed number of some width, the lower half is the magic number.
    named((found.f_type as u64 & 0xffff_ffff) as u32)
}

#[cfg(not(target_os = "linux"))]
fn kind(_folder: &Path) -> Option<&'static str> {
    None
}

/// The name of a file system by its magic number in Linux.
#[cfg(target_os = "linux")]
fn named(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0102_1997 => "9p",
        0x6573_5546 => "FUSE",
        0x4d44 => "FAT",
        0x2011_bab0 => "exFAT",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x5346_414f => "AFS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Home, names};
    use super::*;

    fn unsupported() -> io::Error {
        io::Error::from_raw_os_error(libc::EOPNOTSUPP)
    }

    /// Renames as on a file system that leaves the file with the name that is taken.
    fn keeps_files(from: &Path, to: &Path) -> io::Result<()> {
        if to.is_file() { fs::remove_file(from) } else { fs::rename(from, to) }
    }

    /// Moves a folder as on a file system that copies it.
    fn leaves_a_folder(from: &Path, to: &Path) -> io::Result<()> {
        if from.is_dir() { fs::create_dir(to) } else { fs::rename(from, to) }
    }

    fn refuses_folders(from: &Path, to: &Path) -> io::Result<()> {
        if from.is_dir() { Err(unsupported()) } else { fs::rename(from, to) }
    }

    fn found(calls: &Calls) -> Option<Lacking> {
        let home = Home::new();
        let store = home.open();
        let checked = store.check_with(calls);
        assert!(names(&store.root().join("jobs")).is_empty(), "nothing is left behind");
        match checked {
            Ok(()) => None,
            Err(StoreError::FileSystem { path, lacking, .. }) => {
                assert_eq!(path, store.base());
                Some(lacking)
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn each_missing_demand_is_recognized() {
        assert_eq!(found(&SYSTEM), None);
        for code in [libc::ENOLCK, libc::EOPNOTSUPP, libc::ENOSYS] {
            assert!(is_unsupported(&io::Error::from_raw_os_error(code)), "{code}");
        }
        let no_locks =
            |_: &File| Err(TryLockError::Error(io::Error::from_raw_os_error(libc::ENOLCK)));
        assert_eq!(found(&Calls { try_lock: no_locks, ..SYSTEM }), None, "a warning suffices");
        assert_eq!(found(&Calls { try_lock: |_| Ok(()), ..SYSTEM }), Some(Lacking::Exclusion));
        let refuses = |_: &Path, _: &Path| Err(io::ErrorKind::AlreadyExists.into());
        for rename in [refuses, keeps_files] {
            assert_eq!(found(&Calls { rename, ..SYSTEM }), Some(Lacking::Replacing));
        }
        for rename in [refuses_folders, leaves_a_folder] {
            assert_eq!(found(&Calls { rename, ..SYSTEM }), Some(Lacking::MovingFolders));
        }
    }

    #[test]
    fn a_full_disk_is_no_lack_of_the_file_system() {
        let full = |_: &Path, _: &Path| Err(io::ErrorKind::StorageFull.into());
        assert_eq!(found(&Calls { rename: full, ..SYSTEM }), None);
        let failing = |_: &Path, _: &Path| Err(io::Error::from_raw_os_error(libc::EIO));
        assert_eq!(found(&Calls { rename: failing, ..SYSTEM }), None);
    }

    #[test]
    fn the_sentence_names_the_folder_and_the_kind_of_file_system() {
        let text = |kind, lacking| {
            StoreError::FileSystem { path: "/home/me/cache".into(), kind, lacking }.to_string()
        };
        assert_eq!(
            text(Some("NFS"), Lacking::Replacing),
            "the file system of /home/me/cache (NFS) doesn't replace a file when another is renamed to its name, so a store can't be written there; \
             put it on a local disk with `--cache` or `PIPE_CACHE`"
        );
        assert_eq!(
            text(None, Lacking::MovingFolders),
            "the file system of /home/me/cache can't rename folders, so a store can't be written there; \
             put it on a local disk with `--cache` or `PIPE_CACHE`"
        );
        let error =
            StoreError::FileSystem { path: "/x".into(), kind: None, lacking: Lacking::Exclusion };
        assert!(error.is_fault_of_store());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn file_systems_are_known_by_their_numbers() {
        let names = [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x6573_5546, 0x4d44].map(named);
        assert_eq!(names.map(Option::unwrap), ["NFS", "SMB", "SMB", "9p", "FUSE", "FAT"]);
        // ext4, tmpfs
        assert_eq!([named(0xef53), named(0x0102_1994)], [None, None]);
        let home = Home::new();
        drop(home.open());
        assert!(kind(&home.folder.path().join("v1")).is_none_or(|name| !name.is_empty()));
    }
}
