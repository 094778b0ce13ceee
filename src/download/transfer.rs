//! Downloads a URL to a file: resumes a partial download, retries, reports progress, and computes
//! the digest on the fly.

use super::request::{Failure, Response, RetryPolicy, Version, get, is_temporary};
use super::{Address, DownloadError};
use crate::events::{CancellationToken, EventSink, Task};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

pub(super) struct Transfer<'a> {
    pub address: &'a Address,
    /// The version to download; empty if the digest is known.
    pub version: &'a Version,
    /// Whether the caller verifies a known digest; if so, a download is resumed even without a
    /// validator.
    pub has_digest: bool,
    pub retry: &'a RetryPolicy,
    pub events: &'a EventSink,
    pub cancel: &'a CancellationToken,
}

/// The part that was downloaded so far, and its digest.
struct Partial<'a> {
    path: &'a Path,
    file: File,
    length: u64,
    digest: Sha256,
    /// Created with the first successful response.
    task: Option<Task>,
}

/// The outcome of an attempt that may be followed by another.
enum Attempt {
    Done,
    /// A temporary failure: the reason.
    Failed(String),
}

impl Transfer<'_> {
    /// Downloads to `path`, which may contain a partial download. Returns the SHA-256 in
    /// hexadecimal digits, and whether the download was resumed.
    pub(super) fn run(&self, path: &Path) -> Result<(String, bool), DownloadError> {
        let mut partial = Partial::open(path, self.cancel)?;
        let was_resumed = partial.length > 0;
        let mut failures = 0;
        loop {
            let before = partial.length;
            let Attempt::Failed(reason) = self.attempt(&mut partial)? else { break };
            failures = if partial.length > before { 1 } else { failures + 1 };
            if failures >= self.retry.attempts {
                return Err(DownloadError::Unreachable { url: self.url(), reason });
            }
            self.events.info(format!("retrying: {reason}"));
            self.retry.pause(failures, self.cancel)?;
        }
        partial.file.sync_all().map_err(DownloadError::io(path))?;
        Ok((hex(&partial.digest.finalize()), was_resumed))
    }

    fn url(&self) -> String {
        self.address.as_str().to_owned()
    }

    fn attempt(&self, partial: &mut Partial) -> Result<Attempt, DownloadError> {
        let validator = self.version.validator();
        if validator.is_none() && !self.has_digest {
            partial.restart()?;
        }
        let response = match get(self.address, partial.length, validator, self.retry, self.cancel) {
            Ok(response) => response,
            Err(failure) => return self.failed(failure),
        };
        if let Some(end) = self.begin(&response, partial)? {
            return Ok(end);
        }
        loop {
            match response.next(self.cancel) {
                Ok(Some(bytes)) => partial.append(&bytes)?,
                Ok(None) => break,
                Err(failure) => return self.failed(failure),
            }
        }
        match response.version.length {
            Some(length) if partial.length < length => Ok(Attempt::Failed(format!(
                "the connection was closed after {} of {length} bytes",
                partial.length
            ))),
            _ => Ok(Attempt::Done),
        }
    }

    /// Checks the head of a response and prepares for its body. Returns an outcome if there is no
    /// body to read.
    fn begin(
        &self,
        response: &Response,
        partial: &mut Partial,
    ) -> Result<Option<Attempt>, DownloadError> {
        let status = response.status;
        if is_temporary(status) {
            return Ok(Some(Attempt::Failed(format!("the server responded with status {status}"))));
        }
        if status == 416 && partial.length > 0 {
            if response.version.length == Some(partial.length) {
                return Ok(Some(Attempt::Done));
            }
            partial.restart()?;
            return Ok(Some(Attempt::Failed("the partial download doesn't match".to_owned())));
        }
        if status != 200 && status != 206 {
            return Err(DownloadError::of_status(self.url(), status));
        }
        if self.version.differs(&response.version) {
            partial.restart()?;
            return Err(DownloadError::Changed { url: self.url() });
        }
        if response.from != partial.length {
            partial.restart()?;
            if response.from != 0 {
                return Ok(Some(Attempt::Failed(
                    "the server sent a different range than requested".to_owned(),
                )));
            }
        }
        partial.task.get_or_insert_with(|| {
            let task = self.events.task("download", response.version.length, "bytes");
            task.advance(partial.length);
            task
        });
        Ok(None)
    }

    fn failed(&self, failure: Failure) -> Result<Attempt, DownloadError> {
        match failure {
            Failure::Cancelled => Err(DownloadError::Cancelled),
            Failure::Temporary(reason) => Ok(Attempt::Failed(reason)),
            Failure::Permanent(reason) => {
                Err(DownloadError::Unreachable { url: self.url(), reason })
            }
        }
    }
}

impl Partial<'_> {
    /// Opens a partial download and computes its digest.
    fn open<'a>(path: &'a Path, cancel: &CancellationToken) -> Result<Partial<'a>, DownloadError> {
        let open =
            || File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open().map_err(DownloadError::io(path))?;
        let mut digest = Sha256::new();
        let length =
            digest_rest(&mut file, &mut digest, cancel).map_err(DownloadError::io(path))?;
        if cancel.is_cancelled() {
            return Err(DownloadError::Cancelled);
        }
        Ok(Partial { path, file, length, digest, task: None })
    }

    /// Discards the content.
    fn restart(&mut self) -> Result<(), DownloadError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(DownloadError::io(self.path))?;
        (self.length, self.digest, self.task) = (0, Sha256::new(), None);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        self.file.write_all(bytes).map_err(DownloadError::io(self.path))?;
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        if let Some(task) = &self.task {
            task.advance(bytes.len() as u64);
        }
        Ok(())
    }
}

/// The SHA-256 of a file in hexadecimal digits, as `sha256sum` prints it.
pub(super) fn digest_of(path: &Path, cancel: &CancellationToken) -> io::Result<String> {
    let mut digest = Sha256::new();
    digest_rest(&mut File::open(path)?, &mut digest, cancel)?;
    Ok(hex(&digest.finalize()))
}

/// Digests the rest of a file, unless it is cancelled. Returns its length.
fn digest_rest(
    file: &mut File,
    digest: &mut Sha256,
    cancel: &CancellationToken,
) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    while !cancel.is_cancelled() {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        digest.update(buffer.get(..count).unwrap_or_default());
        length += count as u64;
    }
    Ok(length)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
