//! One request, on a thread of its own: the head of the answer first, then its bytes a piece at a time. Knows nothing of
//! files.

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

/// How often a wish to stop is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of a piece.
const PIECE: usize = 64 << 10;
/// Pieces that may wait for whoever writes them.
const WAITING: usize = 16;

/// How long to wait for the network.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// For a connection.
    pub connect: Duration,
    /// For the head of an answer, and for each next piece of it.
    pub stall: Duration,
    /// How many tries in a row may bring nothing.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each.
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
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }
}

/// What a server says of the file at an address, to tell whether it is the same another time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The server's own mark of a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When it was changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// Its length in bytes.
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

    /// Whether it can be another file than `other` says; what a server doesn't say both times isn't compared.
    pub(super) fn differs(&self, other: &Version) -> bool {
        fn both<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> Option<bool> {
            Some(a.as_ref()? != b.as_ref()?)
        }
        let by_mark =
            both(&self.etag, &other.etag).or_else(|| both(&self.modified, &other.modified));
        by_mark == Some(true) || both(&self.length, &other.length) == Some(true)
    }

    /// What a server compares before it goes on in the middle: a mark that stands for the same bytes.
    pub(super) fn same_bytes(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        strong.or(self.modified.as_deref())
    }
}

/// The head of an answer, and where its bytes come from.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub version: Version,
    /// The first byte that comes, counted from the file's beginning.
    pub from: u64,
    pieces: Receiver<Piece>,
}

/// A request that came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    Cancelled,
    /// Another time it may go well: what happened.
    Passing(String),
    /// It won't.
    Lasting(String),
}

enum Piece {
    Head { status: u16, version: Version, from: u64 },
    Bytes(Vec<u8>),
    Failed(Failure),
    End,
}

/// Asks for what lies at an address, from the byte `from` on, where it still is what `same_bytes` says.
pub(super) fn get(
    address: &Address,
    from: u64,
    same_bytes: Option<&str>,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<Answer, Failure> {
    let (sender, pieces) = sync_channel(WAITING);
    let mut request = agent(address, retry).map_err(Failure::Lasting)?.get(address.as_str());
    if from > 0 {
        request = request.header("range", format!("bytes={from}-"));
        if let Some(mark) = same_bytes {
            request = request.header("if-range", mark);
        }
    }
    std::thread::spawn(move || {
        // Nobody listens any more where the receiver is gone: then there is nothing left to do.
        let _ = answer(request, &sender);
    });
    match next(&pieces, cancel) {
        Piece::Head { status, version, from } => Ok(Answer { status, version, from, pieces }),
        Piece::Failed(failure) => Err(failure),
        Piece::Bytes(_) | Piece::End => Err(Failure::Passing("the answer has no head".to_owned())),
    }
}

impl Answer {
    /// The next bytes; None at the end of the answer.
    pub fn next(&self, cancel: &CancellationToken) -> Result<Option<Vec<u8>>, Failure> {
        match next(&self.pieces, cancel) {
            Piece::Bytes(bytes) => Ok(Some(bytes)),
            Piece::Head { .. } | Piece::End => Ok(None),
            Piece::Failed(failure) => Err(failure),
        }
    }
}

fn next(pieces: &Receiver<Piece>, cancel: &CancellationToken) -> Piece {
    loop {
        if cancel.is_cancelled() {
            return Piece::Failed(Failure::Cancelled);
        }
        match pieces.recv_timeout(LOOK) {
            Ok(piece) => return piece,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Piece::Failed(Failure::Passing("the answer broke off".to_owned()));
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

/// The thread's work: an error means that nobody listens.
fn answer(
    request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
    sender: &SyncSender<Piece>,
) -> Result<(), std::sync::mpsc::SendError<Piece>> {
    let response = match request.call() {
        Ok(response) => response,
        Err(error) => return sender.send(Piece::Failed(failure(error))),
    };
    // A server on this machine may lead on to where anybody could change what comes.
    if let Err(reason) = Address::parse(&response.get_uri().to_string()) {
        return sender.send(Piece::Failed(Failure::Lasting(format!(
            "it leads on to another address: {reason}"
        ))));
    }
    let status = response.status().as_u16();
    let version = Version::of(status, response.headers());
    let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
    let begin =
        range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    let from = if status == 206 { begin.unwrap_or(u64::MAX) } else { 0 };
    sender.send(Piece::Head { status, version, from })?;
    let mut body = response.into_body().into_reader();
    loop {
        let mut piece = vec![0; PIECE];
        match body.read(&mut piece) {
            Ok(0) => return sender.send(Piece::End),
            Ok(length) => {
                piece.truncate(length);
                sender.send(Piece::Bytes(piece))?;
            }
            Err(error) => {
                let reason = ureq::Error::from(error);
                return sender.send(Piece::Failed(failure(reason)));
            }
        }
    }
}

/// What an error of the client means: whether to try again, and a sentence for it.
fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(_) => Failure::Passing("nothing came for too long".to_owned()),
        ureq::Error::HostNotFound => {
            Failure::Passing("no machine of that name is found".to_owned())
        }
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            Failure::Passing("nothing came for too long".to_owned())
        }
        // What TLS has to say of a server: another time it will be the same.
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Failure::Lasting(format!(
                "{error} (where a proxy speaks for every server, name the file with its certificate in SSL_CERT_FILE)"
            ))
        }
        error @ (ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_)) => {
            Failure::Passing(error.to_string())
        }
        ureq::Error::RequireHttpsOnly(_) => {
            Failure::Lasting("it leads on to an address without https".to_owned())
        }
        error => Failure::Lasting(error.to_string()),
    }
}

/// Whether a server that answers so may answer otherwise a little later.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// Which version of a file lies at an address; None where there is none.
///
/// # Errors
/// When the server can't be reached or refuses.
pub fn current_version(
    address: &Address,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<Option<Version>, DownloadError> {
    let url = address.as_str().to_owned();
    let mut failures = 0;
    loop {
        // The head alone is read of the answer: some servers answer HEAD requests otherwise, or not at all.
        let reason = match get(address, 0, None, retry, cancel) {
            Ok(Answer { status: 200, version, .. }) => return Ok(Some(version)),
            Ok(Answer { status: 404 | 410, .. }) => return Ok(None),
            Ok(Answer { status, .. }) if !is_passing(status) => {
                return Err(DownloadError::Refused { url, status });
            }
            Ok(Answer { status, .. }) => format!("the server answers with status {status}"),
            Err(Failure::Cancelled) => return Err(DownloadError::Cancelled),
            Err(Failure::Lasting(reason)) => {
                return Err(DownloadError::Unreachable { url, reason });
            }
            Err(Failure::Passing(reason)) => reason,
        };
        failures += 1;
        if failures >= retry.attempts {
            return Err(DownloadError::Unreachable { url, reason });
        }
        retry.pause(failures, cancel)?;
    }
}
