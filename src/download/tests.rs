//! Downloads from a minimal server on this machine.

use super::*;
use crate::events::{CancellationToken, EventSink, StageEvent};
use crate::store::Memo;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Handles a connection: its number, the head of the request, the stream.
type Handler = dyn Fn(usize, &str, &mut TcpStream) + Send + Sync;

/// A server that records the heads of its requests.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(handler: impl Fn(usize, &str, &mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (requests, handler): (Arc<Mutex<Vec<String>>>, Arc<Handler>) =
            (Arc::default(), Arc::new(handler));
        let recorded = Arc::clone(&requests);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (mut stream, recorded, handler) =
                    (stream.unwrap(), Arc::clone(&recorded), Arc::clone(&handler));
                std::thread::spawn(move || {
                    let head = head(&mut stream);
                    recorded.lock().unwrap().push(head.clone());
                    handler(number, &head, &mut stream);
                });
            }
        });
        Server { address, requests }
    }

    fn at(&self, path: &str) -> Address {
        Address::parse(&format!("{}{path}", self.address)).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

/// Responds as a file server, with support for ranges, but sends at most `sent` bytes of the body.
fn serve(stream: &mut TcpStream, head: &str, body: &[u8], etag: &str, sent: usize) {
    let from = head
        .split("range: bytes=")
        .nth(1)
        .and_then(|rest| rest.split('-').next()?.parse::<usize>().ok());
    let status = match from {
        Some(from) => format!(
            "206 Partial Content\r\nContent-Range: bytes {from}-{}/{}",
            body.len() - 1,
            body.len()
        ),
        None => "200 OK".to_owned(),
    };
    let rest = &body[from.unwrap_or(0)..];
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nETag: \"{etag}\"\r\nContent-Length: {}\r\n\r\n",
        rest.len()
    );
    let _ = stream.write_all(&rest[..sent.min(rest.len())]);
}

fn status(stream: &mut TcpStream, line: &str) {
    let _ = write!(stream, "HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n");
}

static BODY: [u8; 300_000] = [7; 300_000];
/// `head -c 300000 /dev/zero | tr '\0' '\7' | sha256sum`
const SHA256: &str = "08f166476de183f7a1b2874d544d37912aaf8d19b92013e1aafe233ba231024a";

fn retry() -> RetryPolicy {
    let short = Duration::from_millis(300);
    RetryPolicy {
        connect: short,
        stall: short,
        attempts: 3,
        pause: Duration::from_millis(1),
        patience: short,
    }
}

/// Downloads a URL and returns the content.
fn content(
    memo: &Memo,
    address: &Address,
    version: &Version,
    sha256: Option<&str>,
) -> Result<Vec<u8>, DownloadError> {
    let expected = sha256.map(Expected::Sha256);
    let download =
        Download { address, site: Site::Plain, key: "key", version, expected, task: None };
    let path = cached(&download, memo, &retry(), &EventSink::silent(), &CancellationToken::new())?;
    Ok(std::fs::read(path).unwrap())
}

#[test]
fn a_downloaded_file_is_reused() {
    let server = Server::new(|_, head, stream| serve(stream, head, &BODY, "a", usize::MAX));
    let memo = Memo::temporary().unwrap();
    let address = server.at("/file.pth");
    let version = current_version(&address, Site::Plain, &retry(), &CancellationToken::new())
        .unwrap()
        .unwrap();
    assert_eq!(
        version,
        Version { etag: Some("\"a\"".into()), length: Some(300_000), ..Version::default() }
    );
    for _ in 0..2 {
        assert_eq!(content(&memo, &address, &version, None).unwrap(), BODY);
    }
    assert_eq!(server.requests().len(), 2);
    assert!(server.requests()[1].starts_with("get /file.pth http/1.1"), "{:?}", server.requests());
    // A damaged file of the same length is downloaded again.
    let path = memo.file("downloads", "key").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![8; BODY.len()]).unwrap();
    assert_eq!(content(&memo, &address, &version, Some(SHA256)).unwrap(), BODY);
}

#[test]
fn progress_is_reported_in_bytes() {
    let server = Server::new(|_, head, stream| serve(stream, head, &BODY, "a", usize::MAX));
    let emitted: Arc<Mutex<Vec<StageEvent>>> = Arc::default();
    let events = {
        let emitted = Arc::clone(&emitted);
        EventSink::new(move |event| emitted.lock().unwrap().push(event))
    };
    let (memo, address, version) = (Memo::temporary().unwrap(), server.at("/"), Version::default());
    let download = Download {
        address: &address,
        site: Site::Plain,
        key: "key",
        version: &version,
        expected: None,
        task: None,
    };
    cached(&download, &memo, &retry(), &events, &CancellationToken::new()).unwrap();
    let last = emitted.lock().unwrap().pop();
    let expected = StageEvent::Progress {
        task: "download".into(),
        done: 300_000,
        total: Some(300_000),
        unit: "bytes".into(),
    };
    assert_eq!(last, Some(expected));
}

#[test]
fn a_broken_connection_is_resumed() {
    let server = Server::new(|number, head, stream| {
        serve(stream, head, &BODY, "a", if number < 2 { 100_000 } else { usize::MAX });
    });
    let version = Version { etag: Some("\"a\"".into()), ..Version::default() };
    let memo = Memo::temporary().unwrap();
    assert_eq!(content(&memo, &server.at("/"), &version, Some(SHA256)).unwrap(), BODY);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(
        requests[1].contains("range: bytes=100000-") && requests[1].contains("if-range: \"a\""),
        "{}",
        requests[1]
    );
    assert!(requests[2].contains("range: bytes=200000-"), "{}", requests[2]);
}

#[test]
fn a_download_is_resumed_in_another_run() {
    let failing = Server::new(|number, head, stream| match number {
        0 => serve(stream, head, &BODY, "a", 50_000),
        _ => status(stream, "503 Service Unavailable"),
    });
    let memo = Memo::temporary().unwrap();
    let error = content(&memo, &failing.at("/"), &Version::default(), Some(SHA256)).unwrap_err();
    assert!(error.to_string().ends_with(": the server responded with status 503"), "{error}");
    let whole = Server::new(|_, head, stream| serve(stream, head, &BODY, "a", usize::MAX));
    assert_eq!(content(&memo, &whole.at("/"), &Version::default(), Some(SHA256)).unwrap(), BODY);
    assert!(whole.requests()[0].contains("range: bytes=50000-"));
}

#[test]
fn a_partial_download_of_another_file_is_discarded() {
    let memo = Memo::temporary().unwrap();
    std::fs::write(memo.partial("downloads", "key").unwrap(), [1; 1000]).unwrap();
    let server = Server::new(|_, head, stream| serve(stream, head, &BODY, "a", usize::MAX));
    assert_eq!(content(&memo, &server.at("/"), &Version::default(), Some(SHA256)).unwrap(), BODY);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_wrong_digest_is_refused() {
    let server = Server::new(|_, head, stream| serve(stream, head, &BODY, "a", usize::MAX));
    let memo = Memo::temporary().unwrap();
    let error =
        content(&memo, &server.at("/x"), &Version::default(), Some("0676ba61")).unwrap_err();
    let expected = format!("{}/x has the SHA-256 {SHA256}, expected 0676ba61", server.address);
    assert_eq!(error.to_string(), expected);
    assert!(error.help().unwrap().contains("path:FILE"));
    assert!(
        memo.file("downloads", "key").is_none()
            && !memo.partial("downloads", "key").unwrap().exists()
    );
}

#[test]
fn a_changed_version_is_refused() {
    let server = Server::new(|_, head, stream| serve(stream, head, &BODY, "b", usize::MAX));
    let version = Version { etag: Some("\"a\"".into()), ..Version::default() };
    let error = content(&Memo::temporary().unwrap(), &server.at("/"), &version, None).unwrap_err();
    assert!(
        matches!(error, DownloadError::Changed { .. })
            && error.help().unwrap().contains("--refresh")
    );
}

#[test]
fn a_file_that_goes_on_beyond_its_length_is_refused() {
    let server = Server::new(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        while stream.write_all(&BODY).is_ok() {}
    });
    let memo = Memo::temporary().unwrap();
    let version = Version { length: Some(500_000), ..Version::default() };
    let error = content(&memo, &server.at("/x"), &version, None).unwrap_err();
    assert!(matches!(&error, DownloadError::TooLong { most, .. } if most == "500.0 kB"), "{error}");
    let partial = memo.partial("downloads", "key").unwrap();
    assert!(std::fs::metadata(partial).map_or(0, |found| found.len()) < 1_000_000);
}

#[test]
fn a_missing_file_is_an_error_without_retry() {
    let server = Server::new(|_, _, stream| status(stream, "404 Not Found"));
    let error = content(&Memo::temporary().unwrap(), &server.at("/x"), &Version::default(), None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("failed to download {}/x: not found (status 404)", server.address)
    );
    assert_eq!(server.requests().len(), 1);
    assert_eq!(
        current_version(&server.at("/x"), Site::Plain, &retry(), &CancellationToken::new())
            .unwrap(),
        None
    );
}

#[test]
fn a_redirect_is_followed() {
    let server = Server::new(|_, head, stream| {
        if head.starts_with("get /old") {
            let _ =
                write!(stream, "HTTP/1.1 302 Found\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n");
        } else {
            serve(stream, head, &BODY, "a", usize::MAX);
        }
    });
    let memo = Memo::temporary().unwrap();
    assert_eq!(
        content(&memo, &server.at("/old"), &Version::default(), Some(SHA256)).unwrap(),
        BODY
    );
}

/// 0.0.0.0 reaches this machine, but [`Address`] treats it as any other host.
#[test]
fn an_insecure_redirect_is_refused() {
    let server = Server::new(|_, head, stream| {
        if head.starts_with("get /old") {
            let port = stream.local_addr().unwrap().port();
            let _ = write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: http://0.0.0.0:{port}/new\r\nContent-Length: 0\r\n\r\n"
            );
        } else {
            serve(stream, head, &BODY, "a", usize::MAX);
        }
    });
    let memo = Memo::temporary().unwrap();
    let error = content(&memo, &server.at("/old"), &Version::default(), Some(SHA256))
        .unwrap_err()
        .to_string();
    assert!(error.contains("refused a redirect: `http:` to 0.0.0.0:"), "{error}");
    assert_eq!(server.requests().len(), 1, "it isn't followed: {:?}", server.requests());
}

#[test]
fn a_stalled_download_times_out() {
    let server = Server::new(|_, head, stream| {
        serve(stream, head, &BODY, "a", 10);
        std::thread::sleep(Duration::from_secs(20));
    });
    let since = Instant::now();
    let short = RetryPolicy { attempts: 1, ..retry() };
    let (address, version) = (server.at("/"), Version::default());
    let download = Download {
        address: &address,
        site: Site::Plain,
        key: "key",
        version: &version,
        expected: Some(Expected::Sha256(SHA256)),
        task: None,
    };
    let stalled = cached(
        &download,
        &Memo::temporary().unwrap(),
        &short,
        &EventSink::silent(),
        &CancellationToken::new(),
    );
    assert!(stalled.unwrap_err().to_string().ends_with("timed out"));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

#[test]
fn cancellation_interrupts_a_stalled_download() {
    let server = Server::new(|_, head, stream| {
        serve(stream, head, &BODY, "a", 10);
        std::thread::sleep(Duration::from_secs(20));
    });
    let cancel = CancellationToken::new();
    let canceller = cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        canceller.cancel();
    });
    let since = Instant::now();
    let (address, version) = (server.at("/"), Version::default());
    let download = Download {
        address: &address,
        site: Site::Plain,
        key: "key",
        version: &version,
        expected: None,
        task: None,
    };
    let memo = Memo::temporary().unwrap();
    let stopped = cached(&download, &memo, &RetryPolicy::default(), &EventSink::silent(), &cancel);
    assert!(matches!(stopped, Err(DownloadError::Cancelled)));
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
}

#[test]
fn a_refused_connection_is_an_error() {
    // Nothing listens on a port that was bound and released.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = Address::parse(&format!("http://{free}/x")).unwrap();
    let error =
        current_version(&address, Site::Plain, &retry(), &CancellationToken::new()).unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("failed to download http://{free}/x: ")),
        "{error}"
    );
    assert!(error.help().unwrap().contains("HTTPS_PROXY"));
}
