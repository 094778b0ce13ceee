//! What was brought, in the memo: found there another time, brought again where it is lost or damaged. Knows what makes
//! two downloads the same, and nothing of requests.

use super::transfer::{Transfer, digest_of};
use super::{Address, DownloadError, RetryPolicy, Version};
use crate::events::{CancellationToken, EventSink};
use crate::store::Memo;
use std::path::{Path, PathBuf};

/// Bucket of the memo that holds what was brought, and its digest beside it.
const BUCKET: &str = "downloads";

/// A file that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    /// Where it lies.
    pub address: &'a Address,
    /// What stands for its content: two that are the same have the same key, wherever they come from.
    pub key: &'a str,
    /// What the server said of it when it was looked at; empty where its digest is known.
    pub version: &'a Version,
    /// The hexadecimal digits with which its SHA-256 begins, where they are known.
    pub sha256: Option<&'a str>,
}

/// The file, from the memo or from the web. Read-only, and whole: its digest is looked at each time.
///
/// # Errors
/// See [`DownloadError`]. What came before an interruption or a failure of the network is kept, and gone on with.
pub fn cached(
    wanted: &Download,
    memo: &Memo,
    retry: &RetryPolicy,
    events: &EventSink,
    cancel: &CancellationToken,
) -> Result<PathBuf, DownloadError> {
    let Download { address, key, version, .. } = *wanted;
    let partial = memo.partial(BUCKET, key).map_err(DownloadError::io(Path::new("the memo")))?;
    let at_partial = || DownloadError::io(&partial);
    let _lock = memo.lock(BUCKET, key).map_err(at_partial())?;
    if let Some(path) = memo.file(BUCKET, key) {
        let found = digest_of(&path, cancel).map_err(at_partial())?;
        if cancel.is_cancelled() {
            return Err(DownloadError::Cancelled);
        }
        if wanted.expected(memo).is_some_and(|expected| found.starts_with(&expected)) {
            return Ok(path);
        }
        memo.remove(BUCKET, key).map_err(at_partial())?;
    }
    let is_checked = wanted.sha256.is_some();
    let fetch = Transfer { address, version, is_checked, retry, events, cancel };
    let digest = wanted.brought(&fetch, &partial, memo)?;
    memo.put(BUCKET, key, digest.as_bytes()).map_err(at_partial())?;
    memo.link(BUCKET, key, &partial).map_err(at_partial())?;
    std::fs::remove_file(&partial).map_err(at_partial())?;
    memo.file(BUCKET, key).ok_or_else(|| at_partial()(std::io::ErrorKind::NotFound.into()))
}

impl Download<'_> {
    /// The digest that it should have, or the beginning of it: as published, or as it came the first time.
    fn expected(&self, memo: &Memo) -> Option<String> {
        let earlier = || String::from_utf8(memo.get(BUCKET, self.key)?).ok();
        self.sha256.map(str::to_owned).or_else(earlier)
    }

    /// Brings it to `partial`. Where the end of a file didn't fit its beginning from another day, once more from the start.
    fn brought(
        &self,
        fetch: &Transfer,
        partial: &Path,
        memo: &Memo,
    ) -> Result<String, DownloadError> {
        let url = || self.address.as_str().to_owned();
        loop {
            let (found, was_begun) = fetch.run(partial)?;
            let Some(expected) =
                self.expected(memo).filter(|expected| !found.starts_with(expected))
            else {
                return Ok(found);
            };
            std::fs::remove_file(partial).map_err(DownloadError::io(partial))?;
            match (was_begun, self.sha256) {
                (true, _) => {}
                (false, Some(_)) => {
                    return Err(DownloadError::WrongDigest { url: url(), expected, found });
                }
                (false, None) => return Err(DownloadError::Changed { url: url() }),
            }
        }
    }
}
