//! Files on the web: which version of one is meant, from the first look on, and the file itself. Knows addresses and the
//! memo, and nothing of what is in a file.

use crate::download::{self, Address, Download, DownloadError, RetryPolicy, Version};
use crate::engine::{Context, OrFail, StageError};
use crate::events::CancellationToken;
use crate::nn::weights::{Preset, registry};
use crate::store::Memo;
use serde_json::Value;
use std::path::PathBuf;

/// Bucket of the memo that holds which version of an address is meant.
const BUCKET: &str = "pins";

/// Another place for torchvision's files, which says where they come from, never what is in them.
const MIRROR: &str = "PIPE_TORCHVISION";

/// The version of what lies at `address` that is meant: as it was seen first. None where there was nothing.
pub fn pinned(
    address: &Address,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Option<Version>, StageError> {
    match kept(address, memo) {
        Some(pin) => Ok(pin),
        None => look(address, memo, cancel),
    }
}

/// As [`pinned`], of a file that has to be there.
pub fn required(
    address: &Address,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Version, StageError> {
    match kept(address, memo).flatten() {
        Some(version) => Ok(version),
        None => look_required(address, memo, cancel),
    }
}

/// Looks at what lies there now, and means that from then on.
pub fn look(
    address: &Address,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Option<Version>, StageError> {
    let found = seen(address, cancel)?;
    remember(address, &found, memo)?;
    Ok(found)
}

/// As [`look`], of a file that has to be there: where it isn't, what was meant before stays.
pub fn look_required(
    address: &Address,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Version, StageError> {
    let missing = || DownloadError::of_status(address.as_str().to_owned(), 404);
    let version = seen(address, cancel)?.ok_or_else(missing)?;
    remember(address, &Some(version.clone()), memo)?;
    Ok(version)
}

fn kept(address: &Address, memo: &Memo) -> Option<Option<Version>> {
    serde_json::from_slice(&memo.get(BUCKET, address.as_str())?).ok()
}

fn seen(address: &Address, cancel: &CancellationToken) -> Result<Option<Version>, StageError> {
    // Whoever plans waits: two tries, not many.
    let retry = RetryPolicy { attempts: 2, ..RetryPolicy::default() };
    Ok(download::current_version(address, &retry, cancel)?)
}

fn remember(address: &Address, version: &Option<Version>, memo: &Memo) -> Result<(), StageError> {
    let bytes = fact(version).to_string();
    memo.put(BUCKET, address.as_str(), bytes.as_bytes())
        .or_fail("remembering which version is meant")
}

/// A version as a fact of a fingerprint.
pub fn fact(version: &Option<Version>) -> Value {
    serde_json::to_value(version).unwrap_or_default()
}

/// The file at an address in the version that is meant.
pub fn file(
    address: &Address,
    version: &Version,
    context: &Context,
) -> Result<PathBuf, StageError> {
    let key = format!("{address}\n{}", fact(&Some(version.clone())));
    bring(&Download { address, key: &key, version, sha256: None }, context)
}

/// The file of published weights, recognized by its digest.
pub fn published(preset: &Preset, context: &Context) -> Result<PathBuf, StageError> {
    let mirror = std::env::var(MIRROR).ok().filter(|base| !base.is_empty());
    let url = preset.url(mirror.as_deref().unwrap_or(registry::BASE));
    let address = Address::parse(&url).map_err(|reason| {
        StageError::failed(reason)
            .with_help(format!("{MIRROR} is an address such as {}", registry::BASE))
    })?;
    let key = format!("torchvision {}", preset.file);
    let wanted = Download {
        address: &address,
        key: &key,
        version: &Version::default(),
        sha256: Some(preset.sha256_prefix),
    };
    bring(&wanted, context)
}

fn bring(wanted: &Download, context: &Context) -> Result<PathBuf, StageError> {
    let Context { memo, events, cancel, .. } = context;
    Ok(download::cached(wanted, memo, &RetryPolicy::default(), events, cancel)?)
}
