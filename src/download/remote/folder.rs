//! A store in a folder, such as that of another user. Only regular files are read: a FIFO or a device
//! has no end.

use super::RemoteError;
use crate::events::{CancellationToken, Task};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes of a read.
const CHUNK: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn at(path: PathBuf) -> Folder {
        Folder(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The content of an object, if there is one.
    pub(super) fn read(&self, object: &str, limit: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        let read = || {
            let Some((file, length)) = self.open(object)? else { return Ok(None) };
            if length > limit {
                return Err(RemoteError::Refused(format!("has {length} bytes")));
            }
            let mut content = Vec::new();
            let read = file.take(limit).read_to_end(&mut content);
            read.map(|_| Some(content)).map_err(|error| unreadable(&error))
        };
        read().map_err(|error| match error {
            RemoteError::Refused(reason) => {
                RemoteError::Refused(format!("its `{object}` {reason}"))
            }
            error => error,
        })
    }

    /// Copies an object of a length to a file. False if there is none.
    pub(super) fn copy(
        &self,
        object: &str,
        length: u64,
        to: &Path,
        task: &Task,
        cancel: &CancellationToken,
    ) -> Result<bool, RemoteError> {
        let Some((file, found)) = self.open(object)? else { return Ok(false) };
        if found != length {
            return Err(RemoteError::Refused(format!("has {found} bytes instead of {length}")));
        }
        let mut writer = File::create(to).map_err(RemoteError::io(to))?;
        copy(&mut file.take(length), &mut writer, task, cancel)
            .map_err(RemoteError::io(to))
            .and_then(|()| match cancel.is_cancelled() {
                true => Err(RemoteError::Cancelled),
                false => Ok(true),
            })
    }

    /// A regular file and its length. None if there is none.
    fn open(&self, object: &str) -> Result<Option<(File, u64)>, RemoteError> {
        if !self.0.is_dir() {
            let message = format!("there is no folder `{}`", self.0.display());
            let help = "check the path, and whether its disk is mounted";
            return Err(RemoteError::Unusable(message, Some(help.to_owned())));
        }
        let path = self.0.join(object);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(&error)),
        };
        if !found.is_file() {
            return Err(RemoteError::Refused("isn't a file".to_owned()));
        }
        let file = File::open(&path).map_err(|error| unreadable(&error))?;
        Ok(Some((file, found.len())))
    }
}

fn unreadable(error: &io::Error) -> RemoteError {
    RemoteError::Refused(format!("can't be read: {error}"))
}

/// Copies until the end, or until it is cancelled.
fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    task: &Task,
    cancel: &CancellationToken,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while !cancel.is_cancelled() {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        to.write_all(buffer.get(..count).unwrap_or_default())?;
        task.advance(count as u64);
    }
    Ok(())
}
