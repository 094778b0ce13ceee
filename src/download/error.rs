//! Why a download failed, as sentences with the URL and what to do.

use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum DownloadError {
    #[error("cancelled")]
    Cancelled,
    /// The server has no such file.
    #[error("failed to download {url}: not found (status {status})")]
    NotFound { url: String, status: u16 },
    /// The server answered with another status than success.
    #[error("failed to download {url}: the server refused (status {status})")]
    Refused { url: String, status: u16 },
    /// No attempt succeeded; `reason` is that of the last one.
    #[error("failed to download {url}: {reason}")]
    Unreachable { url: String, reason: String },
    /// The file goes on beyond its length.
    #[error("failed to download {url}: the server sends more than the {most} that the file has")]
    TooLong { url: String, most: String },
    /// `expected` is the SHA-256 or a prefix of it.
    #[error("{url} has the SHA-256 {found}, expected {expected}")]
    WrongDigest { url: String, expected: String, found: String },
    /// The file doesn't have a checksum that the server stated.
    #[error("{url} arrived damaged: its {kind} is {found}, the server says {expected}")]
    Damaged { url: String, kind: &'static str, expected: String, found: String },
    #[error("{url} changed on the server: it has {found}, expected {expected}")]
    Changed { url: String, expected: String, found: String },
    /// The server limits the number of requests.
    #[error("failed to download {url}: too many requests (status 429), wait {seconds} s")]
    Busy { url: String, seconds: u64 },
    /// A site's own answer, explained; or why there is no request for it, without a status.
    #[error("{message}")]
    Site { status: Option<u16>, message: String, help: String },
    #[error("failed to access {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl DownloadError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> DownloadError {
        let path = path.to_owned();
        |source| DownloadError::Io { path, source }
    }

    /// The error for an HTTP status that isn't a success.
    pub fn of_status(url: String, status: u16) -> DownloadError {
        match status {
            404 | 410 => DownloadError::NotFound { url, status },
            _ => DownloadError::Refused { url, status },
        }
    }

    /// Whether it may pass by itself: the server or the way to it is at fault.
    pub fn is_temporary(&self) -> bool {
        match self {
            DownloadError::Unreachable { .. }
            | DownloadError::Busy { .. }
            | DownloadError::Damaged { .. } => true,
            DownloadError::Refused { status, .. }
            | DownloadError::Site { status: Some(status), .. } => {
                matches!(status, 408 | 425 | 429 | 500..)
            }
            _ => false,
        }
    }

    /// The remedy.
    pub fn help(&self) -> Option<&str> {
        match self {
            DownloadError::Site { help, .. } => Some(help),
            DownloadError::Busy { .. } => Some("run again after that time: the download resumes"),
            DownloadError::Damaged { .. } => Some(
                "the file was discarded; run again, and if the error persists, look for a proxy that changes downloads",
            ),
            DownloadError::TooLong { .. } => Some(
                "open the URL in a browser to check it, or download the file yourself and write `source = \"path:FILE\"`",
            ),
            DownloadError::Refused { status: 401 | 403, .. } => Some(
                "downloads with a login are not supported: download the file yourself, then write `source = \"path:FILE\"`",
            ),
            DownloadError::NotFound { .. } | DownloadError::Refused { .. } => Some(
                "open the URL in a browser to check it, or download the file yourself and write `source = \"path:FILE\"`",
            ),
            DownloadError::Unreachable { .. } => Some(
                "run again when the network is available: the download resumes; behind a proxy, set HTTPS_PROXY; without a network, write `source = \"path:FILE\"`",
            ),
            DownloadError::WrongDigest { .. } => Some(
                "the file was discarded; run again, and if the error persists, the server (or a mirror) has a different file: download it elsewhere and write `source = \"path:FILE\"`",
            ),
            DownloadError::Changed { .. } => {
                Some("run again with --refresh to use the current version")
            }
            DownloadError::Cancelled | DownloadError::Io { .. } => None,
        }
    }
}
