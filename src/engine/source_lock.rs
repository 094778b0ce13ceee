//! The entries of `pipe.lock`: what remote sources are pinned to. The same entries give the same
//! data on another machine.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The lock as text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// [`FORMAT`].
    format: u32,
    #[serde(default)]
    source: Vec<LockedSource>,
}

/// Versions of the file: 1, the first.
const FORMAT: u32 = 1;

const HEADER: &str =
    "# The versions of remote sources, so that everybody gets the same data. Written by `pipe run`;
# `pipe run --refresh` updates it, `pipe run --locked` fails where it would have to change.
";

/// The pin of a remote source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSource {
    /// The source as the pipeline file names it, without the version that it is pinned to.
    pub source: String,
    /// The number of the version, where the source has numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The commit, where the source is a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The HTTP validators of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// In bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Of the file, or of a repository's list of files with their digests, in hexadecimal digits;
    /// missing until it is downloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

/// The sources by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceLock(BTreeMap<String, LockedSource>);

impl LockedSource {
    /// Whether both are the same data, as far as their versions tell.
    pub fn is_same(&self, other: &LockedSource) -> bool {
        match (self.version, other.version) {
            (Some(a), Some(b)) => a == b,
            (None, None) => {
                (&self.commit, &self.etag, &self.modified, &self.md5)
                    == (&other.commit, &other.etag, &other.modified, &other.md5)
            }
            _ => false,
        }
    }
}

impl fmt::Display for LockedSource {
    /// "version 3", "commit 1a2b…", or the validators of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LockedSource { version, commit, etag, modified, md5, .. } = self;
        if let Some(commit) = commit {
            return write!(f, "commit {commit}");
        }
        match (version, etag, md5, modified) {
            (Some(number), ..) => write!(f, "version {number}"),
            (_, Some(etag), ..) => write!(f, "ETag {etag}"),
            (.., Some(md5), _) => write!(f, "MD5 {md5}"),
            (.., Some(modified)) => write!(f, "last modified {modified}"),
            _ => f.write_str("no version"),
        }
    }
}

impl SourceLock {
    /// Parses the text of a lock.
    ///
    /// # Errors
    /// A sentence to follow the file's name.
    pub fn parse(text: &str) -> Result<SourceLock, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        if file.format != FORMAT {
            return Err(format!("its format is {}, but only {FORMAT} is supported", file.format));
        }
        let mut sources = BTreeMap::new();
        for source in file.source {
            let is_digest = |text: &String| {
                text.len() == 64
                    && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            };
            let name = source.source.clone();
            let is_hex = |text: &String| text.bytes().all(|byte| byte.is_ascii_hexdigit());
            if source.commit.as_ref().is_some_and(|text| text.len() != 40 || !is_hex(text)) {
                return Err(format!("the `commit` of `{name}` isn't 40 hexadecimal digits"));
            }
            if source.sha256.as_ref().is_some_and(|text| !is_digest(text)) {
                return Err(format!(
                    "the `sha256` of `{name}` isn't 64 lowercase hexadecimal digits"
                ));
            }
            if sources.insert(name.clone(), source).is_some() {
                return Err(format!("it has two entries for `{name}`"));
            }
        }
        Ok(SourceLock(sources))
    }

    /// The text: equal for equal locks.
    pub fn text(&self) -> String {
        let file = File { format: FORMAT, source: self.0.values().cloned().collect() };
        let body = toml::to_string(&file).expect("a lock has only texts and numbers");
        format!("{HEADER}{body}")
    }

    /// The entry of a source.
    pub fn get(&self, source: &str) -> Option<&LockedSource> {
        self.0.get(source)
    }

    /// Replaces the entry of a source. What isn't known about the same data is kept.
    pub fn set(&mut self, mut new: LockedSource) {
        if let Some(old) = self.0.get(&new.source).filter(|old| old.is_same(&new)) {
            let old = old.clone();
            new.etag = new.etag.or(old.etag);
            new.modified = new.modified.or(old.modified);
            new.md5 = new.md5.or(old.md5);
            new.size = new.size.or(old.size);
            new.sha256 = new.sha256.or(old.sha256);
            new.licence = new.licence.or(old.licence);
        }
        self.0.insert(new.source.clone(), new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(source: &str, version: Option<u64>) -> LockedSource {
        LockedSource { source: source.into(), version, ..LockedSource::default() }
    }

    #[test]
    fn a_lock_round_trips_in_any_order() {
        let full = LockedSource {
            etag: Some("W/\"a\\b\"".into()),
            modified: Some("Wed, 21 Oct 2015 07:28:00 GMT".into()),
            md5: Some("0".repeat(32)),
            size: Some(u64::from(u32::MAX)),
            sha256: Some("a".repeat(64)),
            licence: Some("CC BY \"4.0\"\nx".into()),
            ..entry("https://a.b/c.zip", None)
        };
        let (mut one, mut two) = (SourceLock::default(), SourceLock::default());
        one.set(full.clone());
        one.set(entry("kaggle:a/b", Some(3)));
        two.set(entry("kaggle:a/b", Some(3)));
        two.set(full.clone());
        assert_eq!(one.text(), two.text());
        assert_eq!(SourceLock::parse(&one.text()), Ok(one.clone()));
        // What isn't known any more is kept, unless the version is another one.
        one.set(LockedSource { size: None, sha256: None, ..full.clone() });
        assert_eq!(one.get("https://a.b/c.zip"), Some(&full));
        one.set(LockedSource { etag: Some("b".into()), sha256: None, ..full.clone() });
        assert_eq!(one.get("https://a.b/c.zip").unwrap().sha256, None);
    }

    #[test]
    fn unusable_locks_are_refused() {
        let twice = "format = 1\n[[source]]\nsource = \"x\"\n[[source]]\nsource = \"x\"\n";
        let commit = "format = 1\n[[source]]\nsource = \"x\"\ncommit = \"../main\"\n";
        let digest = "format = 1\n[[source]]\nsource = \"x\"\nsha256 = \"abc\"\n";
        for (text, part) in [
            ("format = 2\n", "format is 2"),
            ("<<<<<<< HEAD\n", "TOML parse error"),
            ("format = 1\n[[source]]\nsource = \"x\"\ntoken = \"y\"\n", "unknown field"),
            (twice, "two entries for `x`"),
            (digest, "`sha256` of `x`"),
            (commit, "`commit` of `x`"),
        ] {
            let error = SourceLock::parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
