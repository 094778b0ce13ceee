//! Repositories on the Hugging Face Hub: their addresses, credentials, lists of files and refusals.
//! Every file is identified by a digest: SHA-256 for large ones, Git's SHA-1 for others.

use super::hashes::is_hex;
use super::login::{Login, content, variable};
use super::request::Head;
use super::site::one_line;
use super::{Address, DownloadError, Expected};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;

/// Environment variable with the base address of the Hub or of a mirror.
const BASE_VARIABLE: &str = "HF_ENDPOINT";
const BASE: &str = "https://huggingface.co";
/// Variables by which Hugging Face's own programs are told not to use the network.
const OFFLINE: [&str; 2] = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
/// The remedy for credentials that can't be used.
pub(super) const LOGIN_HELP: &str =
    "make a token on https://huggingface.co/settings/tokens, and set HF_TOKEN to it";
/// No repository may have more files: their names take memory.
const FILES: usize = 2_000_000;

/// The kinds of repository that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RepositoryKind {
    Dataset,
    Model,
}

impl RepositoryKind {
    /// The folder of such repositories in addresses: of the API, and as sources name it.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            RepositoryKind::Dataset => "datasets",
            RepositoryKind::Model => "models",
        }
    }
}

impl fmt::Display for RepositoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RepositoryKind::Dataset => "data set",
            RepositoryKind::Model => "model",
        })
    }
}

/// A repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository {
    pub kind: RepositoryKind,
    /// `OWNER/NAME`
    pub id: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

/// The Hub's description of a repository at a revision.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Facts {
    /// The commit, in 40 hexadecimal digits.
    pub sha: String,
    /// The metadata at the top of `README.md`.
    #[serde(default)]
    pub card_data: Value,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct File {
    /// Relative, separated by `/`. Not checked.
    pub path: String,
    /// In bytes.
    pub size: u64,
    pub digest: FileDigest,
}

/// The digest of a file, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileDigest {
    Sha256(String),
    GitSha1(String),
}

impl FileDigest {
    /// The digest that a download must have.
    pub(crate) fn expected(&self) -> Expected<'_> {
        match self {
            FileDigest::Sha256(digest) => Expected::Sha256(digest),
            FileDigest::GitSha1(digest) => Expected::GitSha1(digest),
        }
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileDigest::Sha256(digest) => write!(f, "sha256:{digest}"),
            FileDigest::GitSha1(digest) => write!(f, "git:{digest}"),
        }
    }
}

impl Repository {
    /// The page for people.
    pub(crate) fn page(&self) -> String {
        format!("{BASE}/{}{}", self.prefix(), self.id)
    }

    fn prefix(&self) -> &'static str {
        match self.kind {
            RepositoryKind::Dataset => "datasets/",
            RepositoryKind::Model => "",
        }
    }

    /// The address of the description.
    pub(super) fn facts(&self) -> Result<Address, DownloadError> {
        let (folder, revision) = (self.kind.folder(), encoded(&self.revision, ""));
        address(&format!("api/{folder}/{}/revision/{revision}", self.id))
    }

    /// The address of the first page of the list of files.
    pub(super) fn files(&self) -> Result<Address, DownloadError> {
        let (folder, revision) = (self.kind.folder(), encoded(&self.revision, ""));
        address(&format!("api/{folder}/{}/tree/{revision}?recursive=true&expand=false", self.id))
    }

    /// The address of a file.
    ///
    /// # Errors
    /// If the address in the environment is invalid, or the environment says to stay offline.
    pub(crate) fn file(&self, path: &str) -> Result<Address, DownloadError> {
        let (revision, path) = (encoded(&self.revision, ""), encoded(path, "/"));
        address(&format!("{}{}/resolve/{revision}/{path}", self.prefix(), self.id))
    }
}

fn address(path: &str) -> Result<Address, DownloadError> {
    let failed =
        |message: String, help: String| Err(DownloadError::Site { status: None, message, help });
    let is_set = |name: &&&str| {
        variable(name).is_some_and(|value| {
            matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
        })
    };
    if let Some(name) = OFFLINE.iter().find(is_set) {
        let message = format!("the Hugging Face Hub isn't asked: {name} says to stay offline");
        return failed(message, format!("unset {name}"));
    }
    let base = variable(BASE_VARIABLE).unwrap_or_else(|| BASE.to_owned());
    match Address::parse(&format!("{}/{path}", base.trim_end_matches('/'))) {
        Ok(address) => Ok(address),
        Err(reason) => failed(
            format!("{BASE_VARIABLE} is no usable address: {reason}"),
            format!("it is an address such as {BASE}"),
        ),
    }
}

/// `text` percent-encoded but for unreserved characters and those in `kept`.
fn encoded(text: &str, kept: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let letter = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-._~".contains(letter) || kept.contains(letter) {
            encoded.push(letter);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Parses the description of a repository at a revision.
///
/// # Errors
/// A sentence, if it isn't one, or is that of another commit than the one that was asked for.
pub(super) fn facts(body: &[u8], revision: &str) -> Result<Facts, String> {
    let facts: Facts = serde_json::from_slice(body)
        .map_err(|error| format!("the answer can't be read: {error}"))?;
    if !is_hex(&facts.sha, 40) {
        return Err("the answer names no commit".to_owned());
    }
    match is_hex(revision, 40) && !facts.sha.eq_ignore_ascii_case(revision) {
        true => Err(format!("the answer is about the commit {}, not {revision}", facts.sha)),
        false => Ok(facts),
    }
}

/// An entry in the list of files.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    oid: String,
    size: u64,
}

/// Adds the files of a page of the list.
pub(super) fn add_files(body: &[u8], files: &mut Vec<File>) -> Result<(), String> {
    let entries: Vec<Entry> = serde_json::from_slice(body)
        .map_err(|error| format!("the list of files can't be read: {error}"))?;
    for Entry { kind, path, size, oid, lfs } in entries {
        if kind != "file" {
            continue;
        }
        let (size, digest) = match lfs {
            Some(Large { oid, size }) if is_hex(&oid, 64) => (size, FileDigest::Sha256(oid)),
            None if is_hex(&oid, 40) => (size, FileDigest::GitSha1(oid)),
            _ => {
                return Err(format!(
                    "the list of files has no digest of `{}`",
                    path.escape_debug()
                ));
            }
        };
        files.push(File { path, size, digest });
    }
    match files.len() > FILES {
        true => Err(format!("the repository has more than {FILES} files")),
        false => Ok(()),
    }
}

/// The address of the next page: `<ADDRESS>; rel="next"`.
///
/// # Errors
/// If it is on another server, which would see the credentials.
pub(super) fn next_page(page: &Address, link: Option<&str>) -> Result<Option<Address>, String> {
    // Addresses may contain commas, which also separate the links.
    let links = link.unwrap_or_default().split('<').filter_map(|link| link.split_once('>'));
    let mut next = links.filter(|(_, parameters)| parameters.contains("rel=\"next\""));
    let Some((next, _)) = next.next() else { return Ok(None) };
    let next = page.join(next)?;
    match next.is_same_origin(page) && next != *page {
        true => Ok(Some(next)),
        false => Err(format!("the next page of the list can't be {next}")),
    }
}

/// The error for an answer that isn't what the Hub says.
pub(super) fn unusable(address: &Address, reason: &str) -> DownloadError {
    DownloadError::Site {
        status: None,
        message: format!("failed to download {address}: {reason}"),
        help: format!(
            "a proxy or a mirror may answer for the Hub: see {BASE_VARIABLE} and HTTPS_PROXY"
        ),
    }
}

/// The error for a status, with what the Hub means by it.
pub(super) fn refusal(
    repository: &Repository,
    url: &str,
    status: u16,
    head: &Head,
    login: Option<&Login>,
) -> DownloadError {
    let Repository { kind, id, revision } = repository;
    let message = head.error_message.as_deref().and_then(one_line);
    let said = message.as_ref().map_or(String::new(), |text| format!(": \"{text}\""));
    let failed = |reason: &str, help: String| DownloadError::Site {
        status: Some(status),
        message: format!(
            "failed to download the {kind} `{id}` from the Hugging Face Hub: {reason} (status {status}{said})"
        ),
        help,
    };
    let page = repository.page();
    let is_invalid = message.is_some_and(|text| text.contains("Invalid credentials"));
    match (status, head.error_code.as_deref(), login) {
        (401, _, Some(login)) if is_invalid => {
            failed(&format!("the token in {} isn't valid", login.origin()), LOGIN_HELP.to_owned())
        }
        (401 | 403, Some("GatedRepo"), login) => failed(
            "its conditions have to be accepted first",
            match login {
                Some(login) => format!(
                    "open {page} in a browser as the owner of the token in {}, and accept them; some authors decide later",
                    login.origin()
                ),
                None => {
                    format!("open {page} in a browser, log in and accept them; then {LOGIN_HELP}")
                }
            },
        ),
        (401, _, None) => failed(
            "it is private, or doesn't exist: the Hub doesn't say which without a login",
            format!("open {page} in a browser to see whether it exists; to log in, {LOGIN_HELP}"),
        ),
        (401 | 403, _, login) => failed(
            "access was denied",
            match login {
                Some(login) => format!(
                    "the token in {} needs the permission to read it: see https://huggingface.co/settings/tokens, and open {page} as its owner",
                    login.origin()
                ),
                None => format!("open {page} in a browser; to log in, {LOGIN_HELP}"),
            },
        ),
        (404, Some("RevisionNotFound"), _) => failed(
            &format!("it has no revision `{revision}`"),
            format!("see its branches, tags and commits on {page}/tree/main"),
        ),
        (404, Some("EntryNotFound"), _) => {
            failed(&format!("there is no file {url}"), format!("see its files on {page}/tree/main"))
        }
        (404 | 410, ..) => failed(
            &format!("there is no such {kind}"),
            format!("compare the name with the address of its page: {page}"),
        ),
        (429, _, Some(_)) => {
            failed("too many requests", "run again in a few minutes: the download resumes".into())
        }
        (429, _, None) => failed(
            "too many requests",
            format!(
                "run again in a few minutes: the download resumes; with a login more are allowed: {LOGIN_HELP}"
            ),
        ),
        (500..=599, ..) => failed(
            "the failure is on the Hub's side",
            "run again later: the download resumes".to_owned(),
        ),
        _ => failed("the request was refused", format!("open {page} in a browser to check it")),
    }
}

/// The token, from the places in which Hugging Face's own programs look, in their order.
///
/// # Errors
/// A sentence, if a token can't be used.
pub(super) fn login() -> Result<Option<Login>, String> {
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(token) = variable(name) {
            return Login::bearer(token.trim(), name.to_owned()).map(Some);
        }
    }
    let home = || variable("HOME").map(PathBuf::from);
    let caches = || variable("XDG_CACHE_HOME").map(PathBuf::from).or(Some(home()?.join(".cache")));
    let hub = || variable("HF_HOME").map(PathBuf::from).or(Some(caches()?.join("huggingface")));
    let path = variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(hub()?.join("token")));
    let Some(path) = path else { return Ok(None) };
    match content(&path)?.filter(|token| !token.is_empty()) {
        Some(token) => Login::bearer(&token, path.display().to_string()).map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_and_paths_are_encoded() {
        assert_eq!(encoded("refs/convert/parquet", ""), "refs%2Fconvert%2Fparquet");
        assert_eq!(encoded("a b/é?#.jpg", "/"), "a%20b/%C3%A9%3F%23.jpg");
    }

    #[test]
    fn lists_of_files_have_digests() {
        let (sha256, sha1) = ("a".repeat(64), "b".repeat(40));
        let body = format!(
            r#"[{{"type":"directory","oid":"x","size":0,"path":"d"}},
            {{"type":"file","oid":"{sha1}","size":3,"path":"d/a.csv"}},
            {{"type":"file","oid":"{sha1}","size":130,"path":"d/b.zip",
              "lfs":{{"oid":"{sha256}","size":5000,"pointerSize":130}},"xetHash":"y"}}]"#
        );
        let mut files = Vec::new();
        add_files(body.as_bytes(), &mut files).unwrap();
        assert_eq!(
            files,
            [
                File { path: "d/a.csv".into(), size: 3, digest: FileDigest::GitSha1(sha1) },
                File { path: "d/b.zip".into(), size: 5000, digest: FileDigest::Sha256(sha256) }
            ]
        );
        for body in [&b"{}"[..], b"[{\"type\":\"file\",\"path\":\"a\",\"oid\":\"../x\"}]", b"[1]"] {
            assert!(add_files(body, &mut files).is_err());
        }
    }

    #[test]
    fn a_description_of_another_commit_is_refused() {
        let (one, other) = ("a1".repeat(20), "b2".repeat(20));
        let body = format!(r#"{{"sha":"{one}"}}"#);
        for revision in ["main", one.as_str(), one.to_uppercase().as_str()] {
            assert_eq!(facts(body.as_bytes(), revision).unwrap().sha, one);
        }
        assert!(facts(body.as_bytes(), &other).unwrap_err().contains(&other));
        assert!(facts(br#"{"sha":"main"}"#, "main").is_err());
    }

    #[test]
    fn the_next_page_is_on_the_same_server() {
        let page = Address::parse("https://h.b/api/x?a=1").unwrap();
        let next = |link| next_page(&page, link);
        assert_eq!(next(None), Ok(None));
        assert_eq!(next(Some("<https://h.b/y>; rel=\"last\"")), Ok(None));
        let found = next(Some("<https://h.b/api/x?a=1&cursor=c>; rel=\"next\"")).unwrap();
        assert_eq!(found.unwrap().as_str(), "https://h.b/api/x?a=1&cursor=c");
        let several = "<https://h.b/y>; rel=\"last\", <https://h.b/x?cursor=a,b>; rel=\"next\"";
        let found = next(Some(several)).unwrap();
        assert_eq!(found.unwrap().as_str(), "https://h.b/x?cursor=a,b");
        for other in ["https://x.b/y", "http://h.b/y", "https://h.b/api/x?a=1"] {
            let link = format!("<{other}>; rel=\"next\"");
            assert!(next_page(&page, Some(&link)).is_err(), "{other}");
        }
    }
}
