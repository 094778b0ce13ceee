//! Sealed files, which carry their own digest, and atomic writes. A truncated or changed sealed
//! file reads as damaged, never as other content.
//!
//! Format: `pipe sealed 1 `, the payload's digest as 64 hexadecimal digits, a newline, the payload.

use super::digest::{Digest, Hasher};
use super::folders;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const MARK: &[u8] = b"pipe sealed 1 ";

/// The prefix of the names of unfinished files. `gc` removes those left by a killed process.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// The result of reading a sealed file.
pub(super) enum Sealed {
    /// With the payload.
    Whole(Vec<u8>),
    Damaged,
    Absent,
}

/// The bytes before the payload.
pub(super) const HEADER: usize = MARK.len() + 64 + 1;

/// The content of a sealed file with this payload.
pub(super) fn seal(payload: &[u8]) -> Vec<u8> {
    [header(&[payload]).as_slice(), payload].concat()
}

/// The beginning of a sealed file with the payload that these parts make.
fn header(parts: &[&[u8]]) -> Vec<u8> {
    let mut digest = Hasher::new();
    parts.iter().for_each(|part| digest.update(part));
    [MARK, digest.finish().to_string().as_bytes(), b"\n"].concat()
}

/// Writes a sealed file with the payload that these parts make, as [`write()`] does. Neither is
/// copied: a payload may be a hundred megabytes.
pub(super) fn write_sealed(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let header = header(parts);
    let all: Vec<&[u8]> = std::iter::once(header.as_slice()).chain(parts.iter().copied()).collect();
    write_parts(path, &all, false)
}

/// The payload of a sealed file. None if it is damaged.
pub(super) fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (digest, payload) = bytes.strip_prefix(MARK)?.split_at_checked(64)?;
    let payload = payload.strip_prefix(b"\n")?;
    let digest: Digest = std::str::from_utf8(digest).ok()?.parse().ok()?;
    (digest == Digest::of(payload)).then_some(payload)
}

/// Reads a sealed file. Damage is not an error.
pub(super) fn read(path: &Path) -> io::Result<Sealed> {
    match std::fs::read(path) {
        Ok(mut bytes) => {
            let Some(payload) = unseal(&bytes) else { return Ok(Sealed::Damaged) };
            let start = bytes.len() - payload.len();
            bytes.drain(..start);
            Ok(Sealed::Whole(bytes))
        }
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Sealed::Absent),
            io::ErrorKind::IsADirectory => Ok(Sealed::Damaged),
            io::ErrorKind::PermissionDenied if folders::restore(path, folders::READ) => read(path),
            _ if error.raw_os_error() == Some(libc::ELOOP) => Ok(Sealed::Damaged),
            _ => Err(error),
        },
    }
}

/// Writes a file atomically, by renaming a temporary one: a reader sees the old or the new content.
/// Creates a missing folder. `durable` also syncs, for files that must survive a power failure.
pub(super) fn write(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    write_parts(path, &[bytes], durable)
}

fn write_parts(path: &Path, parts: &[&[u8]], durable: bool) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = match unfinished(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder)?;
            unfinished(folder)?
        }
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied
                && folders::restore(folder, folders::READ) =>
        {
            unfinished(folder)?
        }
        other => other?,
    };
    parts.iter().try_for_each(|part| file.write_all(part))?;
    if durable {
        file.as_file().sync_all()?;
    }
    if let Err(failed) = file.persist(path) {
        // A file doesn't replace a folder.
        if !path.is_dir() {
            return Err(failed.error);
        }
        folders::remove(path)?;
        failed.file.persist(path)?;
    }
    if durable { sync_folder(folder) } else { Ok(()) }
}

/// A new file in `folder` that is removed unless it is persisted. Its mode depends on the umask.
pub(super) fn unfinished(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

/// Syncs the entries of a folder.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_truncated_file_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/sealed");
        let bytes = seal(b"some payload\nof two lines\n");
        write(&path, &bytes, true).unwrap();
        assert!(
            matches!(read(&path).unwrap(), Sealed::Whole(payload) if payload == b"some payload\nof two lines\n")
        );
        write_sealed(&path, &[b"some payload\n", b"of two lines\n"]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        for length in 0..bytes.len() {
            write(&path, &bytes[..length], false).unwrap();
            assert!(matches!(read(&path).unwrap(), Sealed::Damaged), "{length}");
        }
        assert!(matches!(read(&folder.path().join("none")).unwrap(), Sealed::Absent));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn every_changed_bit_is_noticed_and_any_bytes_are_handled(
            payload in proptest::collection::vec(any::<u8>(), 0..200), position in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            prop_assert!(unseal(&payload).is_none());
            let mut bytes = seal(&payload);
            prop_assert_eq!(unseal(&bytes), Some(&payload[..]));
            let position = position.index(bytes.len());
            bytes[position] ^= 1 << bit;
            prop_assert_eq!(unseal(&bytes), None);
        }
    }
}
