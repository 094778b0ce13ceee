//! Fetches data sets of Kaggle's, pinned to the version that was current when it was first asked
//! for.

use super::{archive, remote};
use crate::download::kaggle::{Dataset, Facts};
use crate::download::{self, Download, DownloadError, Expected, RetryPolicy, Site, Version};
use crate::engine::{Context, OrFail, StageError};
use crate::events::CancellationToken;
use crate::store::Memo;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Bucket of the memo with the pins of data sets.
pub(super) const BUCKET: &str = "kaggle pins";

/// The pin of a data set: the number of a version or, where Kaggle doesn't say it, the
/// version of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pinned {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    #[serde(default)]
    pub file: Version,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

/// The name of a data set in facts and in `pipe.lock`.
pub(super) fn name(set: &Dataset) -> String {
    let Dataset { owner, name, version } = set;
    let version = version.map_or(String::new(), |number| format!("/{number}"));
    format!("kaggle:{owner}/{name}{version}")
}

/// The pin: the one at hand, or the current version.
pub(super) fn pinned(
    set: &Dataset,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Pinned, StageError> {
    match kept(set, memo) {
        Some(pin) => Ok(pin),
        None => look(set, memo, cancel),
    }
}

pub(super) fn kept(set: &Dataset, memo: &Memo) -> Option<Pinned> {
    serde_json::from_slice(&memo.get(BUCKET, &name(set))?).ok()
}

pub(super) fn remember(set: &Dataset, pin: &Pinned, memo: &Memo) -> Result<(), StageError> {
    let bytes = serde_json::to_vec(pin).map_err(|error| StageError::failed(error.to_string()))?;
    memo.put(BUCKET, &name(set), &bytes).or_fail("pinning the version")
}

/// Pins the current version.
pub(super) fn look(
    set: &Dataset,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Pinned, StageError> {
    let retry = RetryPolicy::quick();
    let address = set.facts().map_err(StageError::failed)?;
    let pin = match download::kaggle_facts(set, &address, &retry, cancel) {
        Ok(Facts { current_version_number, license_name }) => Pinned {
            number: set.version.or(current_version_number),
            licence: license_name.filter(|name| !name.is_empty()),
            ..Pinned::default()
        },
        // The facts may be refused where the download isn't.
        Err(DownloadError::Site { .. }) => Pinned::default(),
        Err(error) => return Err(error.into()),
    };
    let pin = match pin.number {
        Some(_) => pin,
        None => {
            let address = set.archive(set.version).map_err(StageError::failed)?;
            let found = download::current_version(&address, Site::Kaggle(set), &retry, cancel)?;
            // A number identifies the data; the file may be packed again.
            let file = found.filter(|_| set.version.is_none()).unwrap_or_default();
            Pinned { number: set.version, file, ..pin }
        }
    };
    remember(set, &pin, memo)?;
    Ok(pin)
}

/// The facts that identify the data.
pub(super) fn facts(set: &Dataset, pin: &Pinned) -> BTreeMap<String, Value> {
    let name = Dataset { version: None, ..set.clone() };
    let version = match pin.number {
        Some(number) => Value::from(number),
        None => remote::fact(&Some(pin.file.clone())),
    };
    BTreeMap::from([
        ("dataset".to_owned(), Value::from(self::name(&name))),
        ("version".to_owned(), version),
    ])
}

/// The key of the downloaded archive.
pub(super) fn key(set: &Dataset, pin: &Pinned) -> String {
    let facts: Vec<String> =
        facts(set, pin).into_iter().map(|(name, value)| format!("{name} {value}")).collect();
    facts.join("\n")
}

/// Downloads the data set and unpacks it into the artifact.
pub(super) fn run(set: &Dataset, context: &Context) -> Result<(), StageError> {
    let pin = pinned(set, &context.memo, &context.cancel)?;
    let address = set.archive(pin.number).map_err(StageError::failed)?;
    let key = key(set, &pin);
    let locked = remote::locked_digest(&key, &context.memo);
    let wanted = Download {
        address: &address,
        site: Site::Kaggle(set),
        key: &key,
        version: &pin.file,
        expected: locked.as_deref().map(Expected::Sha256),
        task: None,
    };
    let file = remote::bring(&wanted, context)?;
    let number = pin.number.map_or(String::new(), |number| format!(" version {number}"));
    let licence = pin.licence.map_or(String::new(), |name| format!(", licence: {name}"));
    context.events.info(format!("{}/{}{number}{licence}", set.owner, set.name));
    archive::run(&file, &name(set), context)
}
