//! Downloaded files in the memo: reused later, and downloaded again if lost or damaged.

use super::hashes::{Mismatch, git_sha1};
use super::transfer::{BegunVersion, Finished, Transfer, digest_of};
use super::{Address, DownloadError, RetryPolicy, Site, Version};
use crate::events::{CancellationToken, EventSink, Task, Waiting};
use crate::store::{Memo, POLLS_PER_SECOND};
use std::path::{Path, PathBuf};

/// Bucket of the memo with downloaded files and their digests.
const BUCKET: &str = "downloads";
/// Bucket of the memo with the versions of files whose download was begun.
const BEGUN: &str = "downloaded versions";

/// A digest that a file must have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected<'a> {
    /// The SHA-256 in hexadecimal digits, or a prefix of it.
    Sha256(&'a str),
    /// Git's SHA-1 of the content.
    GitSha1(&'a str),
}

/// A file to download.
#[derive(Clone, Copy)]
pub(crate) struct Download<'a> {
    pub address: &'a Address,
    pub site: Site<'a>,
    /// Identifies the content, whatever the URL.
    pub key: &'a str,
    /// The version to download; empty if the digest is known.
    pub version: &'a Version,
    /// The expected digest, if known.
    pub expected: Option<Expected<'a>>,
    /// The task that the bytes are counted for; without one, the file is a task of its own.
    pub task: Option<&'a Task>,
}

/// The path of the file in the memo, downloaded first if necessary. The file is read-only, and its
/// digest is verified on every call.
///
/// # Errors See [`DownloadError`]. After an interruption or a network failure, the next call
/// resumes the download.
pub(crate) fn cached(
    download: &Download,
    memo: &Memo,
    retry: &RetryPolicy,
    events: &EventSink,
    cancel: &CancellationToken,
) -> Result<PathBuf, DownloadError> {
    let Download { address, site, key, version, .. } = *download;
    let partial = memo.partial(BUCKET, key).map_err(DownloadError::io(Path::new("the memo")))?;
    let io_error = || DownloadError::io(&partial);
    let mut waiting = Waiting::new(events, POLLS_PER_SECOND);
    let mut keep_waiting = || {
        waiting.again(|| memo.holder(BUCKET, key), "downloading this file");
        !cancel.is_cancelled()
    };
    let lock = memo.lock_watched(BUCKET, key, &mut keep_waiting).map_err(io_error())?;
    let _lock = lock.ok_or(DownloadError::Cancelled)?;
    drop(waiting);
    if let Some(path) = memo.file(BUCKET, key) {
        let found = digest_of(&path, cancel).map_err(io_error())?;
        if cancel.is_cancelled() {
            return Err(DownloadError::Cancelled);
        }
        if download.sha256(memo).is_some_and(|expected| found.starts_with(&expected)) {
            if let (Some(task), Ok(found)) = (download.task, path.metadata()) {
                task.advance(found.len());
            }
            return Ok(path);
        }
        memo.remove(BUCKET, key).map_err(io_error())?;
    }
    let has_digest = download.expected.is_some();
    let begun = &Begun { memo, key };
    let task = download.task;
    let transfer =
        Transfer { address, site, version, begun, has_digest, task, retry, events, cancel };
    let digest = download.run(&transfer, &partial, memo)?;
    memo.put(BUCKET, key, digest.as_bytes()).map_err(io_error())?;
    memo.link(BUCKET, key, &partial).map_err(io_error())?;
    std::fs::remove_file(&partial).map_err(io_error())?;
    memo.file(BUCKET, key).ok_or_else(|| io_error()(std::io::ErrorKind::NotFound.into()))
}

/// The SHA-256 of a file that was downloaded under this key, if it is remembered.
pub(crate) fn known_digest(memo: &Memo, key: &str) -> Option<String> {
    String::from_utf8(memo.get(BUCKET, key)?).ok()
}

/// The version of the file that was downloaded, or begun to be, under this key, if it is remembered.
pub(crate) fn known_version(memo: &Memo, key: &str) -> Option<Version> {
    serde_json::from_slice(&memo.get(BEGUN, key)?).ok()
}

/// The version of the partial download under a key.
struct Begun<'a> {
    memo: &'a Memo,
    key: &'a str,
}

impl BegunVersion for Begun<'_> {
    fn get(&self) -> Option<Version> {
        known_version(self.memo, self.key)
    }

    fn set(&self, version: &Version) {
        // Without it the next run starts over.
        let _ = serde_json::to_vec(version).map(|bytes| self.memo.put(BEGUN, self.key, &bytes));
    }
}

impl Download<'_> {
    /// The expected SHA-256 or a prefix of it: as published, or as downloaded the first time.
    fn sha256(&self, memo: &Memo) -> Option<String> {
        match self.expected {
            Some(Expected::Sha256(digest)) => Some(digest.to_owned()),
            Some(Expected::GitSha1(_)) | None => known_digest(memo, self.key),
        }
    }

    /// A mismatch with Git's SHA-1, if that is expected.
    fn git_mismatch(&self, file: &Path) -> Result<Option<Mismatch>, DownloadError> {
        let Some(Expected::GitSha1(expected)) = self.expected else { return Ok(None) };
        let found = git_sha1(file).map_err(DownloadError::io(file))?;
        let (kind, expected) = ("Git SHA-1", expected.to_owned());
        Ok((found != expected).then_some(Mismatch { kind, expected, found }))
    }

    /// Downloads to `partial` and returns the digest. If a resumed download has the wrong digest,
    /// starts over once.
    fn run(
        &self,
        transfer: &Transfer,
        partial: &Path,
        memo: &Memo,
    ) -> Result<String, DownloadError> {
        let url = || self.address.as_str().to_owned();
        loop {
            let Finished { sha256: found, was_resumed, mismatch } = transfer.run(partial)?;
            let mismatch = match mismatch {
                None => self.git_mismatch(partial)?,
                mismatch => mismatch,
            };
            if let Some(Mismatch { kind, expected, found }) = mismatch {
                std::fs::remove_file(partial).map_err(DownloadError::io(partial))?;
                if was_resumed {
                    continue;
                }
                return Err(DownloadError::Damaged { url: url(), kind, expected, found });
            }
            let Some(expected) = self.sha256(memo).filter(|expected| !found.starts_with(expected))
            else {
                return Ok(found);
            };
            std::fs::remove_file(partial).map_err(DownloadError::io(partial))?;
            match (was_resumed, self.expected) {
                (true, _) => {}
                (false, Some(_)) => {
                    return Err(DownloadError::WrongDigest { url: url(), expected, found });
                }
                (false, None) => {
                    let (expected, found) =
                        (format!("SHA-256 {expected}"), format!("SHA-256 {found}"));
                    return Err(DownloadError::Changed { url: url(), expected, found });
                }
            }
        }
    }
}
