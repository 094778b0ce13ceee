//! The body of a PUT request: bytes or a file, whose digest is known before it is sent, so that the
//! request can be signed and sent again.

use super::transfer::digest_of;
use super::{DownloadError, hashes::hex};
use crate::events::{CancellationToken, Task};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes per second below which an upload is given up.
const SLOWEST: u64 = 20_000;

/// A body.
pub(super) struct Upload {
    content: Content,
    pub length: u64,
    /// In hexadecimal digits.
    pub sha256: String,
    task: Arc<Task>,
    /// The bytes that were sent in the attempt that came farthest.
    reached: AtomicU64,
}

enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Upload {
    pub(super) fn of_bytes(bytes: Vec<u8>, task: Arc<Task>) -> Upload {
        let (length, sha256) = (bytes.len() as u64, hex(&Sha256::digest(&bytes)));
        Upload { content: Content::Bytes(bytes), length, sha256, task, reached: AtomicU64::new(0) }
    }

    /// # Errors
    /// If the file can't be read, or it is cancelled.
    pub(super) fn of_file(
        path: &Path,
        task: Arc<Task>,
        cancel: &CancellationToken,
    ) -> Result<Upload, DownloadError> {
        let length = path.metadata().map_err(DownloadError::io(path))?.len();
        let sha256 = digest_of(path, cancel).map_err(DownloadError::io(path))?;
        if cancel.is_cancelled() {
            return Err(DownloadError::Cancelled);
        }
        let content = Content::File(path.to_owned());
        Ok(Upload { content, length, sha256, task, reached: AtomicU64::new(0) })
    }

    /// How long sending may take at most.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.length / SLOWEST)
    }

    /// Reads the body from its start.
    pub(super) fn reader(&self) -> Result<impl Read + '_, String> {
        let inner: Box<dyn Read + '_> = match &self.content {
            Content::Bytes(bytes) => Box::new(Cursor::new(bytes)),
            Content::File(path) => {
                let file = File::open(path);
                Box::new(file.map_err(|error| format!("opening {}: {error}", path.display()))?)
            }
        };
        Ok(Counted { inner, upload: self, position: 0 })
    }
}

/// Counts the bytes that are sent, those of a second attempt once.
struct Counted<'a> {
    inner: Box<dyn Read + 'a>,
    upload: &'a Upload,
    position: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        let before = self.upload.reached.fetch_max(self.position, Ordering::Relaxed);
        self.upload.task.advance(self.position.saturating_sub(before));
        Ok(count)
    }
}
