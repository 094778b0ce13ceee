//! Small files that carry their own digest, and writing a file so that it is either there whole or not at all. A sealed
//! file that was cut short, or changed in any bit, reads as damaged, never as other content.
//!
//! The form: `pipe sealed 1 ` + 64 hexadecimal digits + newline, then the payload that they digest.

use super::digest::Digest;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const MARK: &[u8] = b"pipe sealed 1 ";

/// Begins the names of files that aren't finished; what a kill leaves of them is collected by `gc`.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// What was found where a sealed file was looked for.
pub(super) enum Sealed {
    /// Its payload.
    Whole(Vec<u8>),
    /// A file that isn't what was written.
    Damaged,
    /// Nothing.
    Absent,
}

/// Payload -> bytes of a sealed file.
pub(super) fn seal(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MARK.len() + 65 + payload.len());
    bytes.extend_from_slice(MARK);
    bytes.extend_from_slice(Digest::of(payload).to_string().as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(payload);
    bytes
}

/// Bytes of a sealed file -> payload, if they are whole.
fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (digest, payload) = bytes.strip_prefix(MARK)?.split_at_checked(64)?;
    let payload = payload.strip_prefix(b"\n")?;
    let digest: Digest = std::str::from_utf8(digest).ok()?.parse().ok()?;
    (digest == Digest::of(payload)).then_some(payload)
}

/// Reads a sealed file. An error is one of the system's; damage is not an error.
pub(super) fn read(path: &Path) -> io::Result<Sealed> {
    match std::fs::read(path) {
        Ok(bytes) => {
            Ok(unseal(&bytes).map_or(Sealed::Damaged, |payload| Sealed::Whole(payload.to_vec())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Sealed::Absent),
        Err(error) => Err(error),
    }
}

/// Writes `bytes` under a name of its own and renames: whoever reads `path` sees the old content or the new, whole.
/// Makes the folder where it is missing. `durable` also waits for the disk, for what must outlive a power failure.
pub(super) fn write(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = match unfinished(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder)?;
            unfinished(folder)?
        }
        other => other?,
    };
    file.write_all(bytes)?;
    if durable {
        file.as_file().sync_all()?;
    }
    file.persist(path)?;
    if durable { sync_folder(folder) } else { Ok(()) }
}

/// A new file in `folder` that vanishes unless it is persisted. Its mode is left to the user's umask.
pub(super) fn unfinished(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

/// Waits until the names in `folder` are on the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_truncation_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/sealed");
        let bytes = seal(b"some payload\nof two lines\n");
        write(&path, &bytes, true).unwrap();
        assert!(
            matches!(read(&path).unwrap(), Sealed::Whole(payload) if payload == b"some payload\nof two lines\n")
        );
        for length in 0..bytes.len() {
            write(&path, &bytes[..length], false).unwrap();
            assert!(matches!(read(&path).unwrap(), Sealed::Damaged), "{length}");
        }
        assert!(matches!(read(&folder.path().join("none")).unwrap(), Sealed::Absent));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_no_changed_bit_passes(
            payload in proptest::collection::vec(any::<u8>(), 0..200), place in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            prop_assert!(unseal(&payload).is_none());
            let mut bytes = seal(&payload);
            prop_assert_eq!(unseal(&bytes), Some(&payload[..]));
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
            prop_assert_eq!(unseal(&bytes), None);
        }
    }
}
