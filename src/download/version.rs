//! The version of a file on the web, as the server's validators say it.

use super::hashes::Checksums;
use serde::{Deserialize, Serialize};
use std::fmt;
use ureq::http::HeaderMap;

/// The HTTP validators that identify the version of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// In bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// The MD5 in hexadecimal digits, where the server says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
}

impl Version {
    pub(super) fn of(status: u16, headers: &HeaderMap) -> Version {
        let text = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        let length = match status {
            206 | 416 => {
                text("content-range").and_then(|range| range.rsplit('/').next()?.parse().ok())
            }
            _ => text("content-length").and_then(|length| length.parse().ok()),
        };
        let md5 = Checksums::of(headers).md5;
        Version { etag: text("etag"), modified: text("last-modified"), length, md5 }
    }

    /// Whether `other` is a different version. Fields that either lacks aren't compared.
    pub(super) fn differs(&self, other: &Version) -> bool {
        fn both<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> Option<bool> {
            Some(a.as_ref()? != b.as_ref()?)
        }
        let by_validator = both(&self.md5, &other.md5)
            .or_else(|| both(&self.etag, &other.etag))
            .or_else(|| both(&self.modified, &other.modified));
        by_validator == Some(true) || both(&self.length, &other.length) == Some(true)
    }

    /// The validator for `If-Range`, if there is one that guarantees identical bytes.
    pub(super) fn validator(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        strong.or(self.modified.as_deref())
    }
}

impl fmt::Display for Version {
    /// Its identity: "ETag "abc", 1024 bytes".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version { etag, modified, length, md5 } = self;
        let parts = [
            etag.as_ref().map(|etag| format!("ETag {etag}")),
            md5.as_ref().map(|md5| format!("MD5 {md5}")),
            modified.as_ref().map(|modified| format!("last modified {modified}")),
            length.map(|length| format!("{length} bytes")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "no version" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}
