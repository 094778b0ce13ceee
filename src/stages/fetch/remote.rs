//! Files on the web, pinned to the version that was seen first.

use crate::download::{
    self, Address, Download, DownloadError, Expected, RetryPolicy, Site, Version,
};
use crate::engine::{Context, OrFail, StageError};
use crate::events::CancellationToken;
use crate::nn::weights::{Preset, registry};
use crate::store::Memo;
use serde_json::Value;
use std::path::PathBuf;

/// Bucket of the memo with the pinned version of each address.
pub(super) const BUCKET: &str = "pins";

/// Bucket of the memo with the digests that `pipe.lock` states.
pub(super) const LOCKED: &str = "locked digests";

/// Environment variable with the base address of a mirror of torchvision's files; their digests
/// stay the same.
const MIRROR: &str = "PIPE_TORCHVISION";

/// The pinned version of the file at `address`: the one seen first. None if there was no file.
pub(super) fn pinned(
    address: &Address,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Option<Version>, StageError> {
    match kept(address, memo) {
        Some(pin) => Ok(pin),
        None => look(address, memo, cancel),
    }
}

/// Like [`pinned`] for a file that must exist.
pub(super) fn required(
    address: &Address,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Version, StageError> {
    match kept(address, memo).flatten() {
        Some(version) => Ok(version),
        None => look_required(address, memo, cancel),
    }
}

/// Pins the file's current version.
pub(super) fn look(
    address: &Address,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Option<Version>, StageError> {
    let found = seen(address, cancel)?;
    remember(address, &found, memo)?;
    Ok(found)
}

/// Like [`look`] for a file that must exist: if it doesn't, the pin stays.
pub(super) fn look_required(
    address: &Address,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Version, StageError> {
    let missing = || DownloadError::of_status(address.as_str().to_owned(), 404);
    let version = seen(address, cancel)?.ok_or_else(missing)?;
    remember(address, &Some(version.clone()), memo)?;
    Ok(version)
}

/// The pin at hand: of a file, or of the absence of one.
pub(super) fn kept(address: &Address, memo: &Memo) -> Option<Option<Version>> {
    serde_json::from_slice(&memo.get(BUCKET, address.as_str())?).ok()
}

fn seen(address: &Address, cancel: &CancellationToken) -> Result<Option<Version>, StageError> {
    Ok(download::current_version(address, Site::Plain, &RetryPolicy::quick(), cancel)?)
}

/// Pins a version, as `pipe.lock` states it.
pub(super) fn remember(
    address: &Address,
    version: &Option<Version>,
    memo: &Memo,
) -> Result<(), StageError> {
    let bytes = fact(version).to_string();
    memo.put(BUCKET, address.as_str(), bytes.as_bytes()).or_fail("pinning the version")
}

/// A version as it enters a fingerprint.
pub(super) fn fact(version: &Option<Version>) -> Value {
    serde_json::to_value(version).unwrap_or_default()
}

/// The file at an address in its pinned version.
pub(super) fn file(
    address: &Address,
    version: &Version,
    context: &Context,
) -> Result<PathBuf, StageError> {
    let key = file_key(address, version);
    let locked = locked_digest(&key, &context.memo);
    let expected = locked.as_deref().map(Expected::Sha256);
    let site = Site::Plain;
    bring(&Download { address, site, key: &key, version, expected, task: None }, context)
}

/// The key of a downloaded file.
pub(super) fn file_key(address: &Address, version: &Version) -> String {
    format!("{address}\n{}", fact(&Some(version.clone())))
}

/// Remembers the SHA-256 that `pipe.lock` states for the file with this key.
pub(super) fn lock_digest(key: &str, sha256: &str, memo: &Memo) -> Result<(), StageError> {
    memo.put(LOCKED, key, sha256.as_bytes()).or_fail("reading pipe.lock")
}

/// The SHA-256 that `pipe.lock` states, if it does.
pub(super) fn locked_digest(key: &str, memo: &Memo) -> Option<String> {
    String::from_utf8(memo.get(LOCKED, key)?).ok()
}

/// The file of published weights, verified by its digest.
pub(super) fn published(preset: &Preset, context: &Context) -> Result<PathBuf, StageError> {
    let mirror = std::env::var(MIRROR).ok().filter(|base| !base.is_empty());
    let url = preset.url(mirror.as_deref().unwrap_or(registry::BASE));
    let address = Address::parse(&url).map_err(|reason| {
        StageError::failed(reason)
            .with_help(format!("{MIRROR} is an address such as {}", registry::BASE))
    })?;
    let key = published_key(preset);
    let prefix = preset.sha256_prefix;
    let locked = locked_digest(&key, &context.memo).filter(|digest| digest.starts_with(prefix));
    let wanted = Download {
        address: &address,
        site: Site::Plain,
        key: &key,
        version: &Version::default(),
        expected: Some(Expected::Sha256(locked.as_deref().unwrap_or(prefix))),
        task: None,
    };
    bring(&wanted, context)
}

/// The key of the file of published weights.
pub(super) fn published_key(preset: &Preset) -> String {
    format!("torchvision {}", preset.file)
}

pub(super) fn bring(wanted: &Download, context: &Context) -> Result<PathBuf, StageError> {
    let Context { memo, events, cancel, .. } = context;
    Ok(download::cached(wanted, memo, &RetryPolicy::default(), events, cancel)?)
}
