//! An HTTP server on this machine for tests: a function answers requests, which are recorded.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub body: Vec<u8>,
    head: String,
}

impl Request {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// The first byte that is requested, if it isn't the whole.
    pub(crate) fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }
}

/// A response. `sent` limits the bytes of the body that are sent before the connection is closed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub sent: Option<usize>,
}

impl Response {
    pub(crate) fn status(status: u16) -> Response {
        Response { status, ..Response::default() }
    }

    pub(crate) fn json(status: u16, body: &str) -> Response {
        Response { body: body.into(), ..Response::status(status) }
            .header("Content-Type", "application/json; charset=utf-8")
    }

    pub(crate) fn redirect(to: &str) -> Response {
        Response::status(302).header("Location", to)
    }

    /// A file, or the part of it that is requested.
    pub(crate) fn file(request: &Request, etag: &str, content: &[u8]) -> Response {
        let etag = format!("\"{etag}\"");
        let is_same = request.header("if-range").is_none_or(|known| known == etag);
        let from = request.from().filter(|_| is_same);
        let response = match from {
            Some(from) if from >= content.len() => {
                Response::status(416).header("Content-Range", &format!("bytes */{}", content.len()))
            }
            Some(from) => Response { body: content[from..].to_vec(), ..Response::status(206) }
                .header(
                    "Content-Range",
                    &format!("bytes {from}-{}/{}", content.len() - 1, content.len()),
                ),
            None => Response { body: content.to_vec(), ..Response::status(200) },
        };
        response.header("ETag", &etag)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Response {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Closes the connection after some bytes of the body.
    pub(crate) fn cut(mut self, sent: usize) -> Response {
        self.sent = Some(sent);
        self
    }

    fn send(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        write!(stream, "HTTP/1.1 {} X\r\nContent-Length: {}\r\n", self.status, self.body.len())?;
        for (name, value) in &self.headers {
            write!(stream, "{name}: {value}\r\n")?;
        }
        stream.write_all(b"\r\n")?;
        stream.write_all(&self.body[..self.sent.unwrap_or(self.body.len()).min(self.body.len())])
    }
}

/// A running server.
#[derive(Clone)]
pub(crate) struct Server {
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server. `answer` gets a request and the number of requests before it.
    pub(crate) fn start(
        answer: impl Fn(&Request, usize) -> Response + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (recorded, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, recorded) = (stream.unwrap(), Arc::clone(&recorded));
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    let request = read(&mut stream);
                    let number = {
                        let mut requests = recorded.lock().unwrap();
                        requests.push(request.clone());
                        requests.len() - 1
                    };
                    // The client may have gone.
                    let _ = answer(&request, number).send(&mut stream);
                });
            }
        });
        Server { address, requests }
    }

    /// The requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn read(stream: &mut TcpStream) -> Request {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let part = |at: usize| head.split(' ').nth(at).unwrap_or_default().to_owned();
    let (method, path) = (part(0), part(1));
    let mut request = Request { method, path, body: Vec::new(), head };
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    request.body = vec![0; length.unwrap_or(0)];
    // The client may have gone.
    let _ = stream.read_exact(&mut request.body);
    request
}
