//! Downloads a URL to a file: resumes a partial download, retries, reports progress, and computes
//! the digest on the fly.

use super::hashes::{Checksums, Hashes, Mismatch, hex};
use super::login::Login;
use super::questions::{Retry, Verdict, is_message, judge, judge_failure, meant_status};
use super::request::{Failure, Request, Response, get};
use super::retry::RetryPolicy;
use super::site::Site;
use super::version::Version;
use super::{Address, DownloadError};
use crate::common::number;
use crate::events::{CancellationToken, EventSink, Task};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// Attempts before the first connection: without a network, more are of no use.
const WITHOUT_CONNECTION: u32 = 3;

/// The longest file without a stated length, in bytes.
const MAX_LENGTH: u64 = 1_000_000_000_000;

pub(super) struct Transfer<'a> {
    pub address: &'a Address,
    pub site: Site<'a>,
    /// The version to download; empty if the digest is known.
    pub version: &'a Version,
    /// The version of a partial download, to be remembered with it.
    pub begun: &'a dyn BegunVersion,
    /// Whether the caller verifies a known digest; if so, a download is resumed even without a
    /// validator.
    pub has_digest: bool,
    /// The task that bytes are counted for, if it isn't one of its own.
    pub task: Option<&'a Task>,
    pub retry: &'a RetryPolicy,
    pub events: &'a EventSink,
    pub cancel: &'a CancellationToken,
}

/// Remembers which version a partial download is of.
pub(super) trait BegunVersion {
    fn get(&self) -> Option<Version>;
    fn set(&self, version: &Version);
}

/// A complete download.
pub(super) struct Finished {
    /// In hexadecimal digits.
    pub sha256: String,
    pub was_resumed: bool,
    /// A checksum that the server states and the file doesn't have.
    pub mismatch: Option<Mismatch>,
}

/// The part that was downloaded so far, and its digests.
struct Partial<'a> {
    path: &'a Path,
    file: File,
    length: u64,
    hashes: Hashes,
    /// The server's description of the whole file.
    stated: Checksums,
    /// Which version it is.
    version: Version,
    /// Credentials, once they are sent.
    login: Option<Login>,
    /// Set with the first successful response.
    task: Option<Progress<'a>>,
}

/// Counts the bytes of a file.
enum Progress<'a> {
    Own(Task),
    Shared(&'a Task),
}

impl Progress<'_> {
    fn advance(&self, bytes: u64) {
        match self {
            Progress::Own(task) => task.advance(bytes),
            Progress::Shared(task) => task.advance(bytes),
        }
    }
}

/// The outcome of an attempt that may be followed by another.
enum Attempt {
    Done,
    /// The server asks for credentials, which are known now.
    LogIn,
    Failed(Retry),
}

impl<'a> Transfer<'a> {
    /// Downloads to `path`, which may contain a partial download.
    pub(super) fn run(&self, path: &'a Path) -> Result<Finished, DownloadError> {
        let mut partial = Partial::open(path, self.cancel)?;
        partial.login = self.site.first_login()?;
        partial.version = match self.version.validator() {
            Some(_) => self.version.clone(),
            None => self.begun.get().filter(|_| partial.length > 0).unwrap_or_default(),
        };
        let was_resumed = partial.length > 0;
        let mut failures = 0;
        loop {
            let before = partial.length;
            let failed = match self.attempt(&mut partial)? {
                Attempt::Done => break,
                Attempt::LogIn => continue,
                Attempt::Failed(failed) => failed,
            };
            failures = if partial.length > before { 1 } else { failures + 1 };
            let was_connected = failed.is_connected || partial.task.is_some();
            let attempts = if was_connected { u32::MAX } else { WITHOUT_CONNECTION };
            if failures >= self.retry.attempts.min(attempts)
                || failed.wait.is_some_and(|wait| wait > self.retry.patience)
            {
                return Err(failed.error);
            }
            self.events.info(format!("retrying: {}", failed.reason));
            self.retry.pause(failures, failed.wait, self.cancel)?;
        }
        partial.file.sync_all().map_err(DownloadError::io(path))?;
        let mismatch = partial.hashes.mismatch(&partial.stated);
        Ok(Finished { sha256: partial.hashes.sha256(), was_resumed, mismatch })
    }

    fn url(&self) -> String {
        self.address.as_str().to_owned()
    }

    fn attempt(&self, partial: &mut Partial<'a>) -> Result<Attempt, DownloadError> {
        if partial.version.validator().is_none() && !self.has_digest {
            partial.restart()?;
        }
        let request = Request {
            address: self.address,
            from: partial.length,
            validator: partial.version.validator(),
            login: partial.login.as_ref(),
        };
        let response = match get(&request, self.retry, self.cancel) {
            Ok(response) => response,
            Err(failure) => return self.failed(failure),
        };
        if let Some(end) = self.begin(&response, partial)? {
            return Ok(end);
        }
        loop {
            match response.next(self.cancel) {
                Ok(Some(bytes)) => {
                    partial.append(&bytes)?;
                    self.check_length(partial, response.head.version.length)?;
                }
                Ok(None) => break,
                Err(failure) => return self.failed(failure),
            }
        }
        match response.head.version.length {
            Some(length) if partial.length < length => Ok(self.temporary(format!(
                "the connection was closed after {} of {length} bytes",
                partial.length
            ))),
            _ => Ok(Attempt::Done),
        }
    }

    /// Refuses a file that goes on beyond its length: the one that its source lists, or that the
    /// server stated. Without either there is a limit for all.
    fn check_length(
        &self,
        partial: &mut Partial,
        stated: Option<u64>,
    ) -> Result<(), DownloadError> {
        let most = self.version.length.or(stated).unwrap_or(MAX_LENGTH);
        if partial.length <= most {
            return Ok(());
        }
        partial.restart()?;
        let most = number::bytes(most);
        Err(DownloadError::TooLong { url: self.url(), most })
    }

    /// Checks the head of a response and prepares for its body. Returns an outcome if there is no
    /// body to read.
    fn begin(
        &self,
        response: &Response,
        partial: &mut Partial<'a>,
    ) -> Result<Option<Attempt>, DownloadError> {
        let head = &response.head;
        if head.status == 416 && partial.length > 0 {
            if head.version.length == Some(partial.length) {
                return Ok(Some(Attempt::Done));
            }
            partial.restart()?;
            return Ok(Some(self.temporary("the partial download doesn't match".to_owned())));
        }
        if !matches!(head.status, 200 | 206) || is_message(self.site, head) {
            return self.judged(response, partial).map(Some);
        }
        if self.version.differs(&head.version) {
            partial.restart()?;
            let (expected, found) = (self.version.to_string(), head.version.to_string());
            return Err(DownloadError::Changed { url: self.url(), expected, found });
        }
        if head.from != partial.length || partial.version.differs(&head.version) {
            partial.restart()?;
            if head.from != 0 {
                return Ok(Some(self.temporary(
                    "the server sent a different part or version than requested".to_owned(),
                )));
            }
        }
        if partial.version.validator().is_none() && head.version.validator().is_some() {
            partial.version = head.version.clone();
            self.begun.set(&partial.version);
        }
        partial.stated = head.checksums.clone();
        partial.task.get_or_insert_with(|| {
            let own = || Progress::Own(self.events.task("download", head.version.length, "bytes"));
            let task = self.task.map_or_else(own, Progress::Shared);
            task.advance(partial.length);
            task
        });
        Ok(None)
    }

    /// The next step after a response without a file.
    fn judged(&self, response: &Response, partial: &mut Partial) -> Result<Attempt, DownloadError> {
        let body = response.explanation(self.cancel);
        let status = meant_status(self.site, &response.head, &body);
        let login = partial.login.as_ref();
        match judge(self.site, self.address, status, &response.head, &body, login)? {
            Verdict::LogIn(login) => {
                partial.login = Some(login);
                Ok(Attempt::LogIn)
            }
            Verdict::Retry(again) => Ok(Attempt::Failed(again)),
        }
    }

    fn failed(&self, failure: Failure) -> Result<Attempt, DownloadError> {
        judge_failure(self.address, failure).map(Attempt::Failed)
    }

    fn temporary(&self, reason: String) -> Attempt {
        let error = DownloadError::Unreachable { url: self.url(), reason: reason.clone() };
        Attempt::Failed(Retry { reason, wait: None, is_connected: true, error })
    }
}

impl Partial<'_> {
    /// Opens a partial download and computes its digest.
    fn open<'a>(path: &'a Path, cancel: &CancellationToken) -> Result<Partial<'a>, DownloadError> {
        let open =
            || File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open().map_err(DownloadError::io(path))?;
        let mut hashes = Hashes::default();
        let length = read_rest(&mut file, cancel, |bytes| hashes.update(bytes))
            .map_err(DownloadError::io(path))?;
        if cancel.is_cancelled() {
            return Err(DownloadError::Cancelled);
        }
        let (stated, version) = (Checksums::default(), Version::default());
        Ok(Partial { path, file, length, hashes, stated, version, login: None, task: None })
    }

    /// Discards the content.
    fn restart(&mut self) -> Result<(), DownloadError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(DownloadError::io(self.path))?;
        (self.length, self.hashes, self.task) = (0, Hashes::default(), None);
        self.version = Version::default();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        self.file.write_all(bytes).map_err(DownloadError::io(self.path))?;
        self.hashes.update(bytes);
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
    read_rest(&mut File::open(path)?, cancel, |bytes| digest.update(bytes))?;
    Ok(hex(&digest.finalize()))
}

/// Reads the rest of a file, unless it is cancelled. Returns its length.
fn read_rest(
    file: &mut File,
    cancel: &CancellationToken,
    mut update: impl FnMut(&[u8]),
) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    while !cancel.is_cancelled() {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        update(buffer.get(..count).unwrap_or_default());
        length += count as u64;
    }
    Ok(length)
}
