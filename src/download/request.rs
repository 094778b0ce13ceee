//! One HTTP request, on its own thread: yields the head of the response, then the body in chunks.

use super::certificates::roots;
use super::{Address, DownloadError};
use crate::events::CancellationToken;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use ureq::ResponseExt;
use ureq::http::HeaderMap;
use ureq::tls::TlsConfig;

/// Interval between checks for cancellation.
const POLL: Duration = Duration::from_millis(50);
/// Bytes of a chunk.
const CHUNK: usize = 64 << 10;
/// Chunks that are buffered.
const BUFFERED: usize = 16;

/// Timeouts and retries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryPolicy {
    /// Timeout of a connection.
    pub connect: Duration,
    /// Timeout of the response's head, and of each read of its body.
    pub stall: Duration,
    /// Number of consecutive attempts without progress.
    pub attempts: u32,
    /// The pause after the first failure; doubles with each further one.
    pub pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        let seconds = Duration::from_secs;
        RetryPolicy { connect: seconds(15), stall: seconds(30), attempts: 5, pause: seconds(1) }
    }
}

impl RetryPolicy {
    /// Sleeps after the failure number `failures`.
    pub(super) fn pause(
        &self,
        failures: u32,
        cancel: &CancellationToken,
    ) -> Result<(), DownloadError> {
        let until =
            Instant::now() + self.pause.saturating_mul(1 << failures.saturating_sub(1).min(5));
        while Instant::now() < until {
            if cancel.is_cancelled() {
                return Err(DownloadError::Cancelled);
            }
            std::thread::sleep(POLL.min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }
}

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
}

impl Version {
    fn of(status: u16, headers: &HeaderMap) -> Version {
        let text = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        let length = match status {
            206 | 416 => {
                text("content-range").and_then(|range| range.rsplit('/').next()?.parse().ok())
            }
            _ => text("content-length").and_then(|length| length.parse().ok()),
        };
        Version { etag: text("etag"), modified: text("last-modified"), length }
    }

    /// Whether `other` is a different version. Fields that either lacks aren't compared.
    pub(super) fn differs(&self, other: &Version) -> bool {
        fn both<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> Option<bool> {
            Some(a.as_ref()? != b.as_ref()?)
        }
        let by_validator =
            both(&self.etag, &other.etag).or_else(|| both(&self.modified, &other.modified));
        by_validator == Some(true) || both(&self.length, &other.length) == Some(true)
    }

    /// The validator for `If-Range`, if there is one that guarantees identical bytes.
    pub(super) fn validator(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        strong.or(self.modified.as_deref())
    }
}

/// The head of a response, and the source of its body.
#[derive(Debug)]
pub(super) struct Response {
    pub status: u16,
    pub version: Version,
    /// Offset of the body in the file.
    pub from: u64,
    messages: Receiver<Message>,
}

#[derive(Debug)]
pub(super) enum Failure {
    Cancelled,
    /// May succeed on another attempt: the reason.
    Temporary(String),
    Permanent(String),
}

enum Message {
    Head { status: u16, version: Version, from: u64 },
    Bytes(Vec<u8>),
    Failed(Failure),
    End,
}

/// Requests a URL from the byte `from` on, if the file still matches `validator`.
pub(super) fn get(
    address: &Address,
    from: u64,
    validator: Option<&str>,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<Response, Failure> {
    let (sender, messages) = sync_channel(BUFFERED);
    let mut request = agent(address, retry).map_err(Failure::Permanent)?.get(address.as_str());
    if from > 0 {
        request = request.header("range", format!("bytes={from}-"));
        if let Some(validator) = validator {
            request = request.header("if-range", validator);
        }
    }
    std::thread::spawn(move || {
        // An error means that the receiver was dropped.
        let _ = send_response(request, &sender);
    });
    match next(&messages, cancel) {
        Message::Head { status, version, from } => Ok(Response { status, version, from, messages }),
        Message::Failed(failure) => Err(failure),
        Message::Bytes(_) | Message::End => {
            Err(Failure::Temporary("the response has no head".to_owned()))
        }
    }
}

impl Response {
    /// The next chunk; none at the end of the body.
    pub(super) fn next(&self, cancel: &CancellationToken) -> Result<Option<Vec<u8>>, Failure> {
        match next(&self.messages, cancel) {
            Message::Bytes(bytes) => Ok(Some(bytes)),
            Message::Head { .. } | Message::End => Ok(None),
            Message::Failed(failure) => Err(failure),
        }
    }
}

fn next(messages: &Receiver<Message>, cancel: &CancellationToken) -> Message {
    loop {
        if cancel.is_cancelled() {
            return Message::Failed(Failure::Cancelled);
        }
        match messages.recv_timeout(POLL) {
            Ok(chunk) => return chunk,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Message::Failed(Failure::Temporary("the connection was closed".to_owned()));
            }
        }
    }
}

fn agent(address: &Address, retry: &RetryPolicy) -> Result<ureq::Agent, String> {
    let trust = TlsConfig::builder().root_certs(roots()?).build();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .https_only(!address.is_local())
        .user_agent(concat!("pipe/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(retry.connect))
        .timeout_connect(Some(retry.connect))
        .timeout_recv_response(Some(retry.stall))
        .timeout_per_read(Some(retry.stall))
        .tls_config(trust)
        .max_idle_connections(0);
    let config = if address.is_local() { config.proxy(None) } else { config };
    Ok(config.build().into())
}

/// Sends the request and passes the response on. An error means that the receiver was dropped.
fn send_response(
    request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
    sender: &SyncSender<Message>,
) -> Result<(), std::sync::mpsc::SendError<Message>> {
    let response = match request.call() {
        Ok(response) => response,
        Err(error) => return sender.send(Message::Failed(failure(error))),
    };
    // A server on this machine may redirect to an insecure URL.
    if let Err(reason) = Address::parse(&response.get_uri().to_string()) {
        return sender
            .send(Message::Failed(Failure::Permanent(format!("refused a redirect: {reason}"))));
    }
    let status = response.status().as_u16();
    let version = Version::of(status, response.headers());
    let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
    let begin =
        range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    let from = if status == 206 { begin.unwrap_or(u64::MAX) } else { 0 };
    sender.send(Message::Head { status, version, from })?;
    let mut body = response.into_body().into_reader();
    loop {
        let mut chunk = vec![0; CHUNK];
        match body.read(&mut chunk) {
            Ok(0) => return sender.send(Message::End),
            Ok(length) => {
                chunk.truncate(length);
                sender.send(Message::Bytes(chunk))?;
            }
            Err(error) => {
                let reason = ureq::Error::from(error);
                return sender.send(Message::Failed(failure(reason)));
            }
        }
    }
}

/// Classifies an error of the HTTP client.
fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(_) => Failure::Temporary("timed out".to_owned()),
        ureq::Error::HostNotFound => Failure::Temporary("the host was not found".to_owned()),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            Failure::Temporary("timed out".to_owned())
        }
        // A TLS error.
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Failure::Permanent(format!(
                "{error} (behind an intercepting proxy, set SSL_CERT_FILE to the file with its certificate)"
            ))
        }
        error @ (ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_)) => {
            Failure::Temporary(error.to_string())
        }
        ureq::Error::RequireHttpsOnly(_) => {
            Failure::Permanent("refused a redirect to a URL without https".to_owned())
        }
        error => Failure::Permanent(error.to_string()),
    }
}

/// Whether a status is a temporary failure.
pub(super) fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// The current version of the file at a URL; none if there is none.
///
/// # Errors
/// If the server is unreachable or refuses.
pub(crate) fn current_version(
    address: &Address,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<Option<Version>, DownloadError> {
    let url = address.as_str().to_owned();
    let mut failures = 0;
    loop {
        // A GET request of which only the head is read: some servers handle HEAD requests
        // differently or not at all.
        let reason = match get(address, 0, None, retry, cancel) {
            Ok(Response { status: 200, version, .. }) => return Ok(Some(version)),
            Ok(Response { status: 404 | 410, .. }) => return Ok(None),
            Ok(Response { status, .. }) if !is_temporary(status) => {
                return Err(DownloadError::of_status(url, status));
            }
            Ok(Response { status, .. }) => format!("the server responded with status {status}"),
            Err(Failure::Cancelled) => return Err(DownloadError::Cancelled),
            Err(Failure::Permanent(reason)) => {
                return Err(DownloadError::Unreachable { url, reason });
            }
            Err(Failure::Temporary(reason)) => reason,
        };
        failures += 1;
        if failures >= retry.attempts {
            return Err(DownloadError::Unreachable { url, reason });
        }
        retry.pause(failures, cancel)?;
    }
}
