//! One HTTP request, on its own thread: yields the head of the response, then the body in chunks.

use super::Address;
use super::certificates::roots;
use super::hashes::{Checksums, linked_sha256};
use super::login::Login;
use super::retry::{POLL, RetryPolicy};
use super::upload::Upload;
use super::version::Version;
use crate::events::CancellationToken;
use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use ureq::tls::TlsConfig;
use ureq::{Body, RequestBuilder, SendBody};

/// Bytes of a chunk.
const CHUNK: usize = 64 << 10;
/// Chunks that are buffered.
const BUFFERED: usize = 16;
/// Redirects that are followed.
const REDIRECTS: usize = 10;
/// Bytes of an error's body that are read.
const EXPLANATION: usize = 64 << 10;

/// A request for a file, or for the rest of it.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub address: &'a Address,
    /// The first byte.
    pub from: u64,
    /// The part is requested only if the file still matches this validator.
    pub validator: Option<&'a str>,
    /// Sent to the address's scheme, host and port alone.
    pub login: Option<&'a Login>,
}

/// The purpose of a request.
#[derive(Clone)]
pub(super) enum Method {
    Get,
    /// The head of the response alone.
    Head,
    Put(Arc<Upload>),
}

impl Method {
    fn name(&self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Put(_) => "PUT",
        }
    }

    fn upload(&self) -> Option<&Upload> {
        match self {
            Method::Put(upload) => Some(upload),
            Method::Get | Method::Head => None,
        }
    }
}

/// The head of a response.
#[derive(Debug)]
pub(super) struct Head {
    pub status: u16,
    pub version: Version,
    /// Checksums of the whole file.
    pub checksums: Checksums,
    /// Offset of the body in the file.
    pub from: u64,
    /// Whether another host than the requested one responded.
    pub is_elsewhere: bool,
    pub is_json: bool,
    /// How long to wait before the next request.
    pub retry_after: Option<Duration>,
    /// The header `Link`: addresses of related answers, such as the next page.
    pub link: Option<String>,
    /// The header `X-Error-Code` of the Hugging Face Hub: the reason of a refusal.
    pub error_code: Option<String>,
    /// The header `X-Error-Message` likewise.
    pub error_message: Option<String>,
}

/// The head of a response, and the source of its body.
#[derive(Debug)]
pub(super) struct Response {
    pub head: Head,
    messages: Receiver<Message>,
}

#[derive(Debug)]
pub(super) enum Failure {
    Cancelled,
    /// No connection, which may succeed on another attempt: the reason.
    NoConnection(String),
    /// May succeed on another attempt: the reason.
    Temporary(String),
    Permanent(String),
}

#[derive(Debug)]
enum Message {
    Head(Box<Head>),
    Bytes(Vec<u8>),
    Failed(Failure),
    End,
}

/// Asks for a file and waits for the head of the response.
pub(super) fn get(
    asked: &Request,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<Response, Failure> {
    send(asked, Method::Get, retry, cancel)
}

/// Sends a request and waits for the head of the response.
pub(super) fn send(
    asked: &Request,
    method: Method,
    retry: &RetryPolicy,
    cancel: &CancellationToken,
) -> Result<Response, Failure> {
    let (sender, messages) = sync_channel(BUFFERED);
    let prepared = Prepared::of(asked, method, *retry);
    let send = move || {
        // An error means that the receiver was dropped.
        let _ = send_response(&prepared, &sender);
    };
    if let Err(error) = std::thread::Builder::new().spawn(send) {
        return Err(Failure::Temporary(format!("no thread could be started: {error}")));
    }
    match next(&messages, cancel) {
        Message::Head(head) => Ok(Response { head: *head, messages }),
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
            Message::Head(_) | Message::End => Ok(None),
            Message::Failed(failure) => Err(failure),
        }
    }

    /// The body, if it isn't longer than `limit` bytes.
    pub(super) fn body(
        &self,
        limit: usize,
        cancel: &CancellationToken,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let mut body = Vec::new();
        while let Some(bytes) = self.next(cancel)? {
            body.extend_from_slice(&bytes);
            if body.len() > limit {
                return Ok(None);
            }
        }
        Ok(Some(body))
    }

    /// The body of an error, as far as there is one.
    pub(super) fn explanation(&self, cancel: &CancellationToken) -> Vec<u8> {
        self.body(EXPLANATION, cancel).ok().flatten().unwrap_or_default()
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

/// A request that is independent of its caller.
struct Prepared {
    method: Method,
    address: Address,
    login: Option<Login>,
    headers: Vec<(&'static str, String)>,
    retry: RetryPolicy,
}

/// A response that is no redirect.
struct Followed {
    address: Address,
    response: ureq::http::Response<Body>,
    /// The SHA-256 of the file, if the requested server states it.
    sha256: Option<String>,
}

impl Prepared {
    fn of(asked: &Request, method: Method, retry: RetryPolicy) -> Prepared {
        let mut headers = vec![("accept-encoding", "identity".to_owned())];
        if asked.from > 0 {
            headers.push(("range", format!("bytes={}-", asked.from)));
            headers.extend(asked.validator.map(|validator| ("if-range", validator.to_owned())));
        }
        let (address, login) = (asked.address.clone(), asked.login.cloned());
        Prepared { method, address, login, headers, retry }
    }

    /// Sends the request and follows redirects. Only the origin of the requested address sees
    /// credentials.
    fn follow(&self) -> Result<Followed, Failure> {
        let (mut address, mut sha256) = (self.address.clone(), None);
        for _ in 0..=REDIRECTS {
            let response = self.send(&address)?;
            if address.is_same_origin(&self.address) {
                sha256 = linked_sha256(response.headers()).or(sha256);
            }
            let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let location = response.headers().get("location").filter(|_| is_redirect);
            let Some(location) = location else {
                return Ok(Followed { address, response, sha256 });
            };
            let location = location.to_str().map_err(|error| error.to_string());
            address = location
                .and_then(|location| address.join(location))
                .map_err(|reason| Failure::Permanent(format!("refused a redirect: {reason}")))?;
        }
        Err(Failure::Permanent(format!("it redirects more than {REDIRECTS} times")))
    }

    fn send(&self, address: &Address) -> Result<ureq::http::Response<Body>, Failure> {
        let upload = self.method.upload();
        let agent = agent(address, &self.retry, upload).map_err(Failure::Permanent)?;
        let mut headers = self.headers.clone();
        let login = self.login.as_ref().filter(|_| address.is_same_origin(&self.address));
        if let Some(login) = login {
            let sha256 = upload.map(|upload| upload.sha256.as_str());
            headers.extend(login.headers(self.method.name(), address, sha256));
        }
        let url = address.as_str();
        match &self.method {
            Method::Get => with_headers(agent.get(url), &headers).call().map_err(failure),
            Method::Head => with_headers(agent.head(url), &headers).call().map_err(failure),
            Method::Put(upload) => {
                headers.push(("content-length", upload.length.to_string()));
                let mut reader = upload.reader().map_err(Failure::Permanent)?;
                let request = with_headers(agent.put(url), &headers);
                request.send(SendBody::from_reader(&mut reader)).map_err(failure)
            }
        }
    }
}

fn with_headers<B>(
    mut request: RequestBuilder<B>,
    headers: &[(&'static str, String)],
) -> RequestBuilder<B> {
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    request
}

fn agent(
    address: &Address,
    retry: &RetryPolicy,
    upload: Option<&Upload>,
) -> Result<ureq::Agent, String> {
    let trust = TlsConfig::builder().root_certs(roots()?).build();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .https_only(!address.is_local())
        .max_redirects(0)
        .user_agent(concat!("pipe/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(retry.connect))
        .timeout_connect(Some(retry.connect))
        .timeout_send_body(upload.map(|upload| retry.stall + upload.patience()))
        .timeout_recv_response(Some(retry.stall))
        .timeout_per_read(Some(retry.stall))
        .tls_config(trust)
        .max_idle_connections(0);
    let config = if address.is_local() { config.proxy(None) } else { config };
    Ok(config.build().into())
}

/// Sends the request and passes the response on. An error means that the receiver was dropped.
fn send_response(
    asked: &Prepared,
    sender: &SyncSender<Message>,
) -> Result<(), std::sync::mpsc::SendError<Message>> {
    let Followed { address, response, sha256 } = match asked.follow() {
        Ok(followed) => followed,
        Err(failure) => return sender.send(Message::Failed(failure)),
    };
    let status = response.status().as_u16();
    let headers = response.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let begin = text("content-range")
        .and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    let head = Head {
        status,
        version: Version::of(status, headers),
        checksums: Checksums { sha256, ..Checksums::of(headers) },
        from: if status == 206 { begin.unwrap_or(u64::MAX) } else { 0 },
        is_elsewhere: address.host() != asked.address.host(),
        is_json: text("content-type").is_some_and(|kind| kind.starts_with("application/json")),
        retry_after: text("retry-after")
            .and_then(delay)
            .or_else(|| text("ratelimit").filter(|_| status == 429).and_then(rate_limit)),
        link: text("link").map(str::to_owned),
        error_code: text("x-error-code").map(str::to_owned),
        error_message: text("x-error-message").map(str::to_owned),
    };
    sender.send(Message::Head(Box::new(head)))?;
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

/// The time that `Retry-After` asks for: seconds, or the date of the next attempt.
fn delay(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    let seconds = date.as_second().saturating_sub(jiff::Timestamp::now().as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// The time until the limit of requests is reset, of the header `RateLimit`:
/// `"resolvers";r=0;t=45`.
fn rate_limit(value: &str) -> Option<Duration> {
    let seconds = value.split(';').find_map(|part| part.trim().strip_prefix("t="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// Classifies an error of the HTTP client.
fn failure(error: ureq::Error) -> Failure {
    use std::io::ErrorKind;
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            Failure::NoConnection("the connection timed out".to_owned())
        }
        ureq::Error::Timeout(_) => Failure::Temporary("timed out".to_owned()),
        ureq::Error::HostNotFound => Failure::NoConnection("the host was not found".to_owned()),
        ureq::Error::Io(error) if error.kind() == ErrorKind::TimedOut => {
            Failure::Temporary("timed out".to_owned())
        }
        ureq::Error::Io(error)
            if matches!(
                error.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::NetworkDown
            ) =>
        {
            Failure::NoConnection(error.to_string())
        }
        // The standard library has no kind for it.
        ureq::Error::Io(error) if error.to_string().contains("failed to lookup address") => {
            Failure::NoConnection("the host was not found".to_owned())
        }
        ureq::Error::ConnectionFailed => Failure::NoConnection(error.to_string()),
        // A TLS error.
        ureq::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
            Failure::Permanent(format!(
                "{error} (behind an intercepting proxy, set SSL_CERT_FILE to the file with its certificate)"
            ))
        }
        error @ (ureq::Error::Io(_) | ureq::Error::Protocol(_)) => {
            Failure::Temporary(error.to_string())
        }
        error => Failure::Permanent(error.to_string()),
    }
}

/// Whether a status is a temporary failure.
pub(super) fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_seconds_or_dates() {
        assert_eq!(delay("120"), Some(Duration::from_secs(120)));
        assert_eq!(delay("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(90);
        let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&later);
        let found = delay(&text.unwrap()).unwrap().as_secs();
        assert!((85..=90).contains(&found), "{found}");
        assert_eq!(delay("soon"), None);
        let limit = rate_limit("\"resolvers\";r=0;t=45");
        assert_eq!(limit, Some(Duration::from_secs(45)));
        assert_eq!(rate_limit("\"resolvers\";r=0"), None);
    }
}
