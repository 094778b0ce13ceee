//! The folder of an export: written beside its place and renamed when it is complete, so that a
//! failed export leaves nothing.

use crate::cli::failure::Failure;
use crate::cli::shared::shown;
use crate::model::{CONFIG, ExportedFile, ONNX, SAFETENSORS};
use crate::store::Hasher;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The description of the export, for programs.
pub(super) const EXPORT: &str = "export.json";
/// The model card.
pub(super) const CARD: &str = "MODEL.md";

/// The files of an export.
const FILES: [&str; 5] = [SAFETENSORS, CONFIG, ONNX, EXPORT, CARD];

/// Bytes per read.
const READ: usize = 128 << 10;

/// A folder that is being written. Removed when it is dropped before it was finished.
pub(super) struct Folder {
    out: PathBuf,
    written: TempDir,
}

impl Folder {
    /// Begins a folder for `out`.
    ///
    /// # Errors
    /// If `out` is there: without `force`, or if it isn't the folder of an export.
    pub(super) fn at(out: &Path, force: bool) -> Result<Folder, Failure> {
        if out.symlink_metadata().is_ok() {
            check_replaced(out, force)?;
        }
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|error| unwritten(parent, &error))?;
        let written = tempfile::Builder::new()
            .prefix(".pipe-export-")
            .permissions(fs::Permissions::from_mode(0o777))
            .tempdir_in(parent)
            .map_err(|error| unwritten(parent, &error))?;
        Ok(Folder { out: out.to_owned(), written })
    }

    /// Where files are written until the folder is finished.
    pub(super) fn path(&self) -> &Path {
        self.written.path()
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path().join(name);
        fs::write(&path, text).map_err(|error| unwritten(&path, &error))
    }

    /// Moves the folder to its place. An earlier export there is removed, but for files that aren't
    /// of an export.
    ///
    /// # Errors
    /// If it can't be moved, then the earlier export stays; if other files came to the earlier one.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| unwritten(&self.out, &error);
        if !self.out.exists() {
            fs::rename(self.written.path(), &self.out).map_err(failed)?;
            // There is nothing left to remove.
            let _ = self.written.keep();
            return Ok(());
        }
        let out = fs::canonicalize(&self.out).map_err(failed)?;
        let earlier = out.with_file_name(format!(".pipe-export-{}.earlier", std::process::id()));
        fs::rename(&out, &earlier).map_err(failed)?;
        if let Err(error) = fs::rename(self.written.path(), &out) {
            let _ = fs::rename(&earlier, &out);
            return Err(failed(error));
        }
        let _ = self.written.keep();
        FILES.iter().for_each(|name| drop(fs::remove_file(earlier.join(name))));
        fs::remove_dir(&earlier).map_err(|error| {
            Failure::failed(format!("failed to remove `{}`: {error}", shown(&earlier)))
                .help("other files came to the earlier export meanwhile: they are there")
        })
    }
}

/// Refuses to replace anything but an earlier export.
fn check_replaced(out: &Path, force: bool) -> Result<(), Failure> {
    if !force {
        let message = format!("`{}` is there already", shown(out));
        return Err(Failure::invalid(message)
            .help("name another folder with `--out`, or replace the export with `--force`"));
    }
    if !out.is_dir() {
        let message = format!("`{}` is no folder", shown(out));
        return Err(Failure::invalid(message).help("name another one with `--out`"));
    }
    let names = fs::read_dir(out).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<Vec<String>>>()
    });
    let names = names.map_err(|error| unwritten(out, &error).into_invalid())?;
    let other = names.into_iter().filter(|name| !FILES.contains(&name.as_str())).min();
    let reason = match other {
        Some(name) => format!("it has `{name}`"),
        None if !out.join(EXPORT).is_file() => format!("it has no `{EXPORT}`"),
        None => return Ok(()),
    };
    let message = format!("`{}` is no export, and isn't replaced: {reason}", shown(out));
    Err(Failure::invalid(message).help("name another folder with `--out`"))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("failed to write `{}`: {error}", shown(path)))
}

/// A file of the folder, with its length and SHA-256.
pub(super) fn described(folder: &Path, name: &str) -> Result<ExportedFile, Failure> {
    let path = folder.join(name);
    let digest = || -> std::io::Result<(u64, String)> {
        let (mut file, mut hasher, mut length) = (File::open(&path)?, Hasher::new(), 0);
        let mut buffer = vec![0; READ];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok((length, hasher.finish().to_string())),
                count => {
                    hasher.update(&buffer[..count]);
                    length += count as u64;
                }
            }
        }
    };
    let (bytes, sha256) = digest()
        .map_err(|error| Failure::failed(format!("failed to read `{}`: {error}", shown(&path))))?;
    Ok(ExportedFile { name: name.to_owned(), bytes, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "abc").unwrap();
        let file = described(folder.path(), "a").unwrap();
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((file.bytes, file.sha256.as_str()), (3, sha256));
    }

    #[test]
    fn an_unfinished_folder_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("a/out");
        let folder = Folder::at(&out, false).unwrap();
        folder.write(CARD, "x").unwrap();
        drop(folder);
        assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 0);
        let folder = Folder::at(&out, false).unwrap();
        folder.write(EXPORT, "x").unwrap();
        folder.finish().unwrap();
        assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 1);
    }
}
