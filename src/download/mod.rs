//! Bytes from the web: what lies at an address and which version of it, brought into the memo whole, gone on with after an
//! interruption, checked while it comes. Knows no weights, no images and no pipelines.
//!
//! Requests run on threads of their own, so that a wish to stop is heard at once, whatever the network does. Proxies are
//! those of the environment (`HTTPS_PROXY`, `NO_PROXY`). Certificates are held against Mozilla's
//! list, or the file that `SSL_CERT_FILE` names.

mod address;
mod cached;
mod certificates;
mod request;
#[cfg(test)]
mod tests;
mod transfer;

pub use address::Address;
pub use cached::{Download, cached};
pub use request::{RetryPolicy, Version, current_version};

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why nothing was brought.
#[derive(Debug)]
pub enum DownloadError {
    /// The user asked to stop.
    Cancelled,
    /// The server answered with something else than the file.
    Refused {
        /// Where.
        url: String,
        /// HTTP's number for it, such as 404.
        status: u16,
    },
    /// No whole answer came, however often it was asked for.
    Unreachable {
        /// Where.
        url: String,
        /// What happened the last time.
        reason: String,
    },
    /// What came isn't what was expected.
    WrongDigest {
        /// Where.
        url: String,
        /// The hexadecimal digits with which its SHA-256 should begin.
        expected: String,
        /// Its SHA-256.
        found: String,
    },
    /// What lies there is another version than when it was looked at first.
    Changed {
        /// Where.
        url: String,
    },
    /// The disk refused something.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DownloadError {
    fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> DownloadError {
        let path = path.to_owned();
        |source| DownloadError::Io { path, source }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            DownloadError::Refused { status: 401 | 403, .. } => Some(
                "what asks for a password isn't fetched: download it yourself, then write `source = \"path:FILE\"`",
            ),
            DownloadError::Refused { .. } => Some(
                "look at the address in a browser, or download the file yourself and write `source = \"path:FILE\"`",
            ),
            DownloadError::Unreachable { .. } => Some(
                "run again when the network is back: what came already is kept; behind a proxy, set HTTPS_PROXY; without a network, write `source = \"path:FILE\"`",
            ),
            DownloadError::WrongDigest { .. } => Some(
                "nothing of it is used; run again, and if it stays so, the server (or a mirror in between) holds another file: download it elsewhere and write `source = \"path:FILE\"`",
            ),
            DownloadError::Changed { .. } => {
                Some("run again with --refresh to take what lies there now")
            }
            DownloadError::Cancelled | DownloadError::Io { .. } => None,
        }
    }
}

impl fmt::Display for DownloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DownloadError::Cancelled => f.write_str("cancelled"),
            DownloadError::Refused { url, status: 404 | 410 } => {
                write!(f, "there is nothing at {url}")
            }
            DownloadError::Refused { url, status } => {
                write!(f, "the server refuses {url} (status {status})")
            }
            DownloadError::Unreachable { url, reason } => write!(f, "{url} can't be had: {reason}"),
            DownloadError::WrongDigest { url, expected, found } => {
                write!(
                    f,
                    "what came from {url} has the SHA-256 {found}, which should begin with {expected}"
                )
            }
            DownloadError::Changed { url } => {
                write!(f, "what lies at {url} isn't what was there before")
            }
            DownloadError::Io { path, source } => write!(f, "writing {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for DownloadError {}
