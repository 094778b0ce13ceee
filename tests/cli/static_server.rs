//! Servers of objects for tests: the files of a folder as any web server serves them, and objects in
//! memory with the signatures of S3, which are computed here anew.

use crate::server::{Request, Response, Server};
use crate::support::Desk;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

const KEY: &str = "AKIDEXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const REGION: &str = "eu-test-1";

/// A command with the credentials of the server.
pub(crate) fn signed(desk: &Desk, address: &str, secret: &str, arguments: &[&str]) -> Command {
    let mut command = desk.command(arguments);
    command.env("AWS_ENDPOINT_URL", address).env("AWS_REGION", REGION);
    command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", secret);
    command
}

/// Serves the files below a folder. `spoil` may change a response.
pub(crate) fn serving(
    folder: &Path,
    spoil: impl Fn(&Request, Response) -> Response + Send + Sync + 'static,
) -> Server {
    let folder = folder.to_owned();
    Server::start(move |request, _| spoil(request, file(&folder, request)))
}

fn file(folder: &Path, request: &Request) -> Response {
    let path: PathBuf = folder.join(decoded(request.path.trim_start_matches('/')));
    match fs::read(&path) {
        Ok(content) if request.method == "HEAD" => Response::file(request, "e", &content).cut(0),
        Ok(content) => Response::file(request, "e", &content),
        Err(_) => Response::status(404),
    }
}

/// A path without its percent-encoding.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The objects of a server by their paths.
pub(crate) type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A server that is compatible with S3: path-style, one object per request, every request signed with
/// [`KEY`]. Missing objects are forbidden, as for those who may not list a bucket.
pub(crate) fn s3() -> (Server, Objects) {
    keeping(check, 403)
}

/// A web server that takes uploads from those with a token.
pub(crate) fn taking_uploads(token: &'static str) -> (Server, Objects) {
    let check = move |request: &Request| match request.header("authorization") {
        Some(header) if header == format!("Bearer {token}") => Ok(()),
        _ => Err("no token"),
    };
    keeping(check, 404)
}

/// A server that keeps objects in memory. `missing` is its status for those that it hasn't.
fn keeping(
    check: impl Fn(&Request) -> Result<(), &'static str> + Send + Sync + 'static,
    missing: u16,
) -> (Server, Objects) {
    let objects = Objects::default();
    let kept = Arc::clone(&objects);
    let server = Server::start(move |request, _| {
        if let Err(code) = check(request) {
            let body = format!("<Error><Code>{code}</Code></Error>").into_bytes();
            return Response { body, ..Response::status(403) };
        }
        let mut objects = kept.lock().unwrap();
        match request.method.as_str() {
            "PUT" => {
                objects.insert(request.path.clone(), request.body.clone());
                Response::status(200)
            }
            method => match objects.get(&request.path) {
                Some(content) if method == "HEAD" => Response::file(request, "e", content).cut(0),
                Some(content) => Response::file(request, "e", content),
                None => {
                    let body = b"<Error><Code>AccessDenied</Code></Error>".to_vec();
                    Response { body, ..Response::status(missing) }
                }
            },
        }
    });
    (server, objects)
}

/// Computes the signature of a request and compares it.
fn check(request: &Request) -> Result<(), &'static str> {
    let header = |name: &str| request.header(name).ok_or("MissingSecurityHeader");
    let time = header("x-amz-date")?;
    let body = header("x-amz-content-sha256")?;
    if body != hex(&Sha256::digest(&request.body)) {
        return Err("XAmzContentSHA256Mismatch");
    }
    let scope = format!("{}/{REGION}/s3/aws4_request", &time[..8]);
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let canonical = format!(
        "{}\n{}\n\nhost:{}\nx-amz-content-sha256:{body}\nx-amz-date:{time}\n\n{signed}\n{body}",
        request.method,
        request.path,
        header("host")?
    );
    let digest = hex(&Sha256::digest(canonical));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for part in [&time[..8], REGION, "s3", "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    let signature = hex(&hmac(&key, text.as_bytes()));
    let expected = format!(
        "AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={signed}, Signature={signature}"
    );
    match header("authorization")? {
        found if found == expected => Ok(()),
        found if !found.contains(&format!("Credential={KEY}/")) => Err("InvalidAccessKeyId"),
        _ => Err("SignatureDoesNotMatch"),
    }
}

/// RFC 2104.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    match key.len() > block.len() {
        true => block[..32].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_servers_hmac_is_that_of_rfc_4231() {
    assert_eq!(
        hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
}
