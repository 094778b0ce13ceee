//! Atomic replacement of files: readers see the old content or the new content, never a part.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes `bytes` to a temporary file beside `path`, syncs it and renames it to `path`. An existing
/// file keeps its permissions, and a link to one leads to the new content. Anything but a regular
/// file, such as a pipe, is written to directly.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            rename_over(&fs::canonicalize(path)?, bytes, Some(metadata.permissions()))
        }
        Ok(_) => fs::write(path, bytes),
        Err(_) => rename_over(path, bytes, None),
    }
}

fn rename_over(path: &Path, bytes: &[u8], permissions: Option<Permissions>) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_file_name(format!(".pipe-{}-{count}", std::process::id()));
    let written =
        write_new(&temporary, bytes, permissions).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8], permissions: Option<Permissions>) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn files_are_replaced_and_links_and_devices_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        replace_file(&path("page"), b"one").unwrap();
        // A reader that opened the file before goes on reading what it was.
        let before = File::open(path("page")).unwrap();
        fs::set_permissions(path("page"), Permissions::from_mode(0o600)).unwrap();
        symlink("page", path("link")).unwrap();
        replace_file(&path("link"), b"two").unwrap();
        assert_eq!(fs::read(path("page")).unwrap(), b"two");
        assert_eq!(io::read_to_string(before).unwrap(), "one");
        assert!(path("link").is_symlink());
        assert_eq!(fs::metadata(path("page")).unwrap().permissions().mode() & 0o777, 0o600);
        symlink("/dev/null", path("null")).unwrap();
        replace_file(&path("null"), b"three").unwrap();
        assert!(replace_file(folder.path(), b"").is_err());
        assert!(replace_file(&path("no/page"), b"").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left over");
    }
}
