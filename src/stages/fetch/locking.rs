//! Entries of `pipe.lock` for the sources of fetch stages: from the pins in the memo, and back.

use super::kaggle::{self, Pinned};
use super::{dataset, hub, remote, weights};
use crate::data::source::Source;
use crate::download::{Address, Version, known_digest, known_version};
use crate::engine::{LockedSource, SourceLock, StageError};
use crate::nn::weights::{Preset, preset};
use crate::store::{Digest, Memo};

/// Parts of names of query parameters that hold secrets.
const SECRETS: [&str; 7] = ["token", "key", "secret", "sig", "password", "credential", "auth"];

/// The names of a source in the lock; none if it isn't remote.
pub(super) fn names(source: &Source) -> Vec<String> {
    match source {
        Source::Kaggle { .. } => dataset(source).iter().map(kaggle::name).collect(),
        Source::Hub(source) => vec![hub::name(source)],
        Source::Web(url) => Address::parse(url).iter().map(public_name).collect(),
        Source::Torchvision(name) => preset(name).into_iter().map(published_name).collect(),
        Source::Garments | Source::Path(_) | Source::Run { .. } => Vec::new(),
    }
}

/// The pin of a source, if it was looked at.
pub(super) fn locked(source: &Source, memo: &Memo) -> Vec<LockedSource> {
    match source {
        Source::Kaggle { .. } => dataset(source)
            .and_then(|set| {
                let pin = kaggle::kept(&set, memo)?;
                let key = kaggle::key(&set, &pin);
                let file = known_version(memo, &key).unwrap_or_else(|| pin.file.clone());
                let entry = entry(kaggle::name(&set), &file, &key, memo);
                Some(LockedSource { version: pin.number, licence: pin.licence, ..entry })
            })
            .into_iter()
            .collect(),
        Source::Hub(source) => hub::kept(source, memo)
            .map(|pin| {
                let contents = hub::inventory(source, &pin, memo);
                LockedSource {
                    source: hub::name(source),
                    size: contents.as_ref().map(|contents| contents.size),
                    sha256: contents.map(|contents| contents.sha256),
                    commit: Some(pin.commit),
                    licence: pin.licence,
                    ..LockedSource::default()
                }
            })
            .into_iter()
            .collect(),
        Source::Web(url) => weights::addresses(url)
            .map(|(file, configuration)| {
                let of = |address: &Address| {
                    let version = remote::kept(address, memo)??;
                    let key = remote::file_key(address, &version);
                    Some(entry(public_name(address), &version, &key, memo))
                };
                [Some(file), configuration]
                    .into_iter()
                    .flatten()
                    .filter_map(|one| of(&one))
                    .collect()
            })
            .unwrap_or_default(),
        Source::Torchvision(name) => preset(name)
            .map(|preset| {
                let key = remote::published_key(preset);
                // Mirrors have other validators.
                let length = known_version(memo, &key).and_then(|version| version.length);
                let version = Version { length, ..Version::default() };
                vec![entry(published_name(preset), &version, &key, memo)]
            })
            .unwrap_or_default(),
        Source::Garments | Source::Path(_) | Source::Run { .. } => Vec::new(),
    }
}

/// Pins a source to what the lock says.
pub(super) fn adopt(source: &Source, lock: &SourceLock, memo: &Memo) -> Result<(), StageError> {
    match source {
        Source::Kaggle { .. } => {
            let Some(set) = dataset(source) else { return Ok(()) };
            let Some(entry) = lock.get(&kaggle::name(&set)) else { return Ok(()) };
            let file = if entry.version.is_some() { Version::default() } else { version(entry) };
            let pin = Pinned { number: entry.version, file, licence: entry.licence.clone() };
            if kaggle::kept(&set, memo).as_ref() != Some(&pin) {
                kaggle::remember(&set, &pin, memo)?;
            }
            adopt_digest(&kaggle::key(&set, &pin), entry, memo)
        }
        Source::Hub(source) => {
            let Some(entry) = lock.get(&hub::name(source)) else { return Ok(()) };
            let Some(commit) = entry.commit.clone() else { return Ok(()) };
            let kept = hub::kept(source, memo).filter(|kept| kept.commit == commit);
            let licence = entry.licence.clone();
            let pin = match kept {
                Some(pin) => pin,
                None => {
                    let pin = hub::Pinned { is_data_set: None, commit, licence };
                    hub::remember(source, &pin, memo)?;
                    pin
                }
            };
            adopt_digest(&hub::key(source, &pin), entry, memo)
        }
        Source::Web(url) => {
            let (file, configuration) = weights::addresses(url)?;
            let Some(entry) = lock.get(&public_name(&file)) else { return Ok(()) };
            adopt_file(&file, Some(entry), memo)?;
            match configuration {
                // The lock has no entry for a file that wasn't there.
                Some(address) => adopt_file(&address, lock.get(&public_name(&address)), memo),
                None => Ok(()),
            }
        }
        Source::Torchvision(name) => {
            let preset = preset(name)?;
            match lock.get(&published_name(preset)) {
                Some(entry) => adopt_digest(&remote::published_key(preset), entry, memo),
                None => Ok(()),
            }
        }
        Source::Garments | Source::Path(_) | Source::Run { .. } => Ok(()),
    }
}

fn adopt_file(
    address: &Address,
    entry: Option<&LockedSource>,
    memo: &Memo,
) -> Result<(), StageError> {
    let pin = entry.map(version);
    if remote::kept(address, memo).as_ref() != Some(&pin) {
        remote::remember(address, &pin, memo)?;
    }
    match (entry, pin) {
        (Some(entry), Some(version)) => {
            adopt_digest(&remote::file_key(address, &version), entry, memo)
        }
        _ => Ok(()),
    }
}

fn adopt_digest(key: &str, entry: &LockedSource, memo: &Memo) -> Result<(), StageError> {
    match &entry.sha256 {
        Some(sha256) if remote::locked_digest(key, memo).as_ref() != Some(sha256) => {
            remote::lock_digest(key, sha256, memo)
        }
        _ => Ok(()),
    }
}

fn version(entry: &LockedSource) -> Version {
    let LockedSource { etag, modified, md5, size, .. } = entry.clone();
    Version { etag, modified, length: size, md5 }
}

fn entry(source: String, version: &Version, key: &str, memo: &Memo) -> LockedSource {
    let Version { etag, modified, length, md5 } = version.clone();
    let sha256 = known_digest(memo, key);
    LockedSource { source, etag, modified, md5, size: length, sha256, ..LockedSource::default() }
}

fn published_name(preset: &Preset) -> String {
    format!("torchvision:{}", preset.name)
}

/// An address without secrets: where the query has some, a digest takes its place.
fn public_name(address: &Address) -> String {
    let text = address.as_str();
    let Some((place, query)) = text.split_once('?') else { return text.to_owned() };
    let has_secret = query.split(['&', ';', '#']).any(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default().to_ascii_lowercase();
        SECRETS.iter().any(|secret| name.contains(secret))
    });
    match has_secret {
        true => format!("{place}?sha256={}", Digest::of(query.as_bytes()).short()),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_addresses_are_not_in_the_lock() {
        let name = |text: &str| public_name(&Address::parse(text).unwrap());
        for text in ["https://a.b/c.zip", "https://a.b/c.zip?raw=1&id=2"] {
            assert_eq!(name(text), text);
        }
        for query in ["X-Amz-Signature=s3cret", "a=1&access_token=s3cret", "sig=s3cret"] {
            let public = name(&format!("https://a.b/c.zip?{query}"));
            assert!(public.starts_with("https://a.b/c.zip?sha256="), "{public}");
            assert!(!public.contains("s3cret"));
        }
    }
}
