//! The bytes at an address into a file: gone on with where an earlier try broke off, counted, digested as they come. Knows
//! nothing of where the file belongs.

use super::request::{Answer, Failure, RetryPolicy, Version, get, is_passing};
use super::{Address, DownloadError};
use crate::events::{CancellationToken, EventSink, Task};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// A file that is to be brought.
pub(super) struct Transfer<'a> {
    pub address: &'a Address,
    /// What the server said of it when it was looked at; empty where its digest is known instead.
    pub version: &'a Version,
    /// Whether what came will be held against a known digest: then it may be gone on with whatever the server says.
    pub is_checked: bool,
    pub retry: &'a RetryPolicy,
    pub events: &'a EventSink,
    pub cancel: &'a CancellationToken,
}

/// What has come so far, and its digest.
struct Partial<'a> {
    path: &'a Path,
    file: File,
    length: u64,
    digest: Sha256,
    /// There from the moment that a server says how much will come.
    task: Option<Task>,
}

/// How a try ended.
enum Try {
    Done,
    /// It may go better another time: what happened.
    BrokeOff(String),
}

impl Transfer<'_> {
    /// Brings the file to `path`, where a part of it may lie already. Returns its SHA-256 in hexadecimal digits, and
    /// whether a part was there before.
    pub fn run(&self, path: &Path) -> Result<(String, bool), DownloadError> {
        let mut partial = Partial::open(path, self.cancel)?;
        let was_begun = partial.length > 0;
        let mut failures = 0;
        loop {
            let before = partial.length;
            let Try::BrokeOff(reason) = self.attempt(&mut partial)? else { break };
            failures = if partial.length > before { 1 } else { failures + 1 };
            if failures >= self.retry.attempts {
                return Err(DownloadError::Unreachable { url: self.url(), reason });
            }
            self.events.info(format!("trying again: {reason}"));
            self.retry.pause(failures, self.cancel)?;
        }
        partial.file.sync_all().map_err(DownloadError::io(path))?;
        Ok((hex(&partial.digest.finalize()), was_begun))
    }

    fn url(&self) -> String {
        self.address.as_str().to_owned()
    }

    fn attempt(&self, partial: &mut Partial) -> Result<Try, DownloadError> {
        let mark = self.version.same_bytes();
        if mark.is_none() && !self.is_checked {
            partial.restart()?;
        }
        let answer = match get(self.address, partial.length, mark, self.retry, self.cancel) {
            Ok(answer) => answer,
            Err(failure) => return self.broke_off(failure),
        };
        if let Some(end) = self.begin(&answer, partial)? {
            return Ok(end);
        }
        loop {
            match answer.next(self.cancel) {
                Ok(Some(bytes)) => partial.take(&bytes)?,
                Ok(None) => break,
                Err(failure) => return self.broke_off(failure),
            }
        }
        match answer.version.length {
            Some(length) if partial.length < length => Ok(Try::BrokeOff(format!(
                "the answer broke off after {} of {length} bytes",
                partial.length
            ))),
            _ => Ok(Try::Done),
        }
    }

    /// Looks at the head of an answer and makes ready for its bytes. Some where there are none to take.
    fn begin(&self, answer: &Answer, partial: &mut Partial) -> Result<Option<Try>, DownloadError> {
        let status = answer.status;
        if is_passing(status) {
            return Ok(Some(Try::BrokeOff(format!("the server answers with status {status}"))));
        }
        if status == 416 && partial.length > 0 {
            if answer.version.length == Some(partial.length) {
                return Ok(Some(Try::Done));
            }
            partial.restart()?;
            return Ok(Some(Try::BrokeOff("the part that came before doesn't fit".to_owned())));
        }
        if status != 200 && status != 206 {
            return Err(DownloadError::Refused { url: self.url(), status });
        }
        if self.version.differs(&answer.version) {
            partial.restart()?;
            return Err(DownloadError::Changed { url: self.url() });
        }
        if answer.from != partial.length {
            partial.restart()?;
            if answer.from != 0 {
                return Ok(Some(Try::BrokeOff(
                    "the server sends another part than was asked for".to_owned(),
                )));
            }
        }
        partial.task.get_or_insert_with(|| {
            let task = self.events.task("download", answer.version.length, "bytes");
            task.advance(partial.length);
            task
        });
        Ok(None)
    }

    fn broke_off(&self, failure: Failure) -> Result<Try, DownloadError> {
        match failure {
            Failure::Cancelled => Err(DownloadError::Cancelled),
            Failure::Passing(reason) => Ok(Try::BrokeOff(reason)),
            Failure::Lasting(reason) => Err(DownloadError::Unreachable { url: self.url(), reason }),
        }
    }
}

impl Partial<'_> {
    /// What lies at `path`, digested.
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

    /// Forgets what came.
    fn restart(&mut self) -> Result<(), DownloadError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(DownloadError::io(self.path))?;
        (self.length, self.digest, self.task) = (0, Sha256::new(), None);
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
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

/// Digests what is left of a file, or until somebody asks to stop. Returns its length.
fn digest_rest(
    file: &mut File,
    digest: &mut Sha256,
    cancel: &CancellationToken,
) -> io::Result<u64> {
    let mut piece = vec![0; 1 << 20];
    let mut length = 0;
    while !cancel.is_cancelled() {
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        digest.update(piece.get(..count).unwrap_or_default());
        length += count as u64;
    }
    Ok(length)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
