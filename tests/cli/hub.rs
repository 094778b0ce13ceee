//! A server on this machine that answers as the Hugging Face Hub does: an API with pages, large files
//! by a redirect to another host with a signature, small ones at once.

use crate::packed::Files;
use crate::server::{Request, Response, Server};
use crate::support::{Desk, Ran};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A token.
pub(crate) const SECRET: &str = "hf_s3cretT0ken";

/// A small image whose colors depend on two numbers, as PNG.
pub(crate) fn png(a: u32, b: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let image = image::RgbImage::from_fn(12, 10, |x, y| {
        image::Rgb([(a * 40) as u8, (b * 29 + x) as u8, (a * b + 5 * y) as u8])
    });
    image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
    bytes
}

/// Images in folders of classes.
pub(crate) fn folders(root: &str, rows: u32) -> Files {
    let classes = ["cat", "dog"].into_iter().enumerate();
    let images = classes.flat_map(|(class, name)| {
        (0..rows).map(move |row| (format!("{root}{name}/{row}.png"), png(class as u32 + 1, row)))
    });
    images.collect()
}

pub(crate) fn one(path: &str, content: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (path.to_owned(), content.into())
}

/// Images in folders, with a page in Markdown.
pub(crate) fn image_folder() -> Repository {
    let mut files = folders("", 2);
    files.push(one("README.md", "# A data set"));
    Repository::new("datasets", files)
}

pub(crate) fn pipeline(source: &str) -> Desk {
    let desk = Desk::empty();
    desk.write("h.toml", format!("[stages.fetch]\nsource = \"{source}\"\n"));
    desk
}

/// Files in a page of a list.
const PAGE: usize = 3;

/// The content of a repository.
#[derive(Clone)]
pub(crate) struct Repository {
    /// `datasets` or `models`
    pub kind: &'static str,
    /// `OWNER/NAME`
    pub id: &'static str,
    /// In 40 hexadecimal digits.
    pub commit: String,
    /// The metadata in `README.md`, as JSON.
    pub card: String,
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Repository {
    pub(crate) fn new(
        kind: &'static str,
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Repository {
        Repository {
            kind,
            id: "o/n",
            commit: "c0".repeat(20),
            card: r#"{"license":"mit"}"#.to_owned(),
            files: files.into_iter().collect(),
        }
    }

    /// Large files, which Git doesn't hold itself.
    fn is_large(path: &str) -> bool {
        let endings = [".parquet", ".zip", ".tar", ".safetensors", ".bin"];
        endings.iter().any(|ending| path.ends_with(ending))
    }

    /// An entry in the list of files.
    fn entry(path: &str, content: &[u8]) -> String {
        let (size, sha256, sha1) = (content.len(), sha256(content), git_sha1(content));
        match Repository::is_large(path) {
            true => format!(
                r#"{{"type":"file","path":"{path}","size":{size},"oid":"{sha1}","lfs":{{"oid":"{sha256}","size":{size},"pointerSize":130}}}}"#
            ),
            false => format!(r#"{{"type":"file","path":"{path}","size":{size},"oid":"{sha1}"}}"#),
        }
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn sha256(content: &[u8]) -> String {
    use sha2::Digest as _;
    hex(sha2::Sha256::digest(content))
}

fn git_sha1(content: &[u8]) -> String {
    use sha1::Digest as _;
    hex(sha1::Sha1::digest([format!("blob {}\0", content.len()).as_bytes(), content].concat()))
}

type Answer = dyn Fn(&Request, usize) -> Option<Response> + Send + Sync;

/// The two hosts. `api` and `storage` may answer first, given a request and the number of requests
/// before it.
pub(crate) struct Hub {
    pub api: Server,
    pub storage: Server,
    pub current: Arc<Mutex<Repository>>,
}

impl Hub {
    pub(crate) fn start(repository: Repository) -> Hub {
        Hub::with(repository, |_, _| None, |_, _| None)
    }

    pub(crate) fn with(
        repository: Repository,
        api: impl Fn(&Request, usize) -> Option<Response> + Send + Sync + 'static,
        storage: impl Fn(&Request, usize) -> Option<Response> + Send + Sync + 'static,
    ) -> Hub {
        let current = Arc::new(Mutex::new(repository));
        let (api, storage): (Box<Answer>, Box<Answer>) = (Box::new(api), Box::new(storage));
        let files = Arc::clone(&current);
        let storage = Server::start(move |request, number| {
            assert_eq!(request.header("authorization"), None, "credentials left the site");
            let repository = files.lock().unwrap().clone();
            storage(request, number).unwrap_or_else(|| {
                let digest = request.path.trim_start_matches('/').split('?').next().unwrap();
                let content = repository.files.values().find(|content| sha256(content) == digest);
                content.map_or(Response::status(404), |content| {
                    Response::file(request, digest, content)
                })
            })
        });
        let (served, place) = (Arc::clone(&current), storage.address.clone());
        let api = Server::start(move |request, number| {
            let repository = served.lock().unwrap().clone();
            api(request, number).unwrap_or_else(|| answer(request, &repository, &place))
        });
        Hub { api, storage, current }
    }

    /// A command without credentials.
    pub(crate) fn command(&self, desk: &Desk, arguments: &[&str]) -> Command {
        let mut command = desk.command(arguments);
        command.env("HF_ENDPOINT", &self.api.address).env("HOME", desk.path("home"));
        command.env_remove("XDG_CACHE_HOME");
        command
    }

    pub(crate) fn run(&self, desk: &Desk, arguments: &[&str]) -> Ran {
        desk.output(self.command(desk, &[&["run"], arguments].concat()))
    }

    /// The paths of the requests to the API since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.api.requests().into_iter().map(|request| request.path).collect()
    }
}

/// The answer of the API and of the files that it holds itself.
fn answer(request: &Request, repository: &Repository, storage: &str) -> Response {
    let Repository { kind, id, commit, card, files } = repository;
    let missing = |code: &str| Response::status(404).header("X-Error-Code", code);
    let path = request.path.as_str();
    let api = format!("/api/{kind}/{id}/");
    let prefix = if *kind == "models" { "" } else { "datasets/" };
    if let Some(revision) = path.strip_prefix(&format!("{api}revision/")) {
        return match revision == "main" || revision == commit.as_str() {
            true => Response::json(200, &format!(r#"{{"sha":"{commit}","cardData":{card}}}"#)),
            false => missing("RevisionNotFound"),
        };
    }
    if let Some(query) = path.strip_prefix(&format!("{api}tree/{commit}?")) {
        let first = query.split("cursor=").nth(1).map_or(0, |from| from.parse().unwrap());
        let all = files.iter().map(|(path, content)| Repository::entry(path, content));
        let page: Vec<String> = all.skip(first).take(PAGE).collect();
        let next = first + PAGE;
        let response = Response::json(200, &format!("[{}]", page.join(",")));
        return match next < files.len() {
            true => response.header(
                "Link",
                &format!("<{api}tree/{commit}?recursive=true&cursor={next}>; rel=\"next\""),
            ),
            false => response,
        };
    }
    let Some(file) = path.strip_prefix(&format!("/{prefix}{id}/resolve/{commit}/")) else {
        return missing("RepoNotFound");
    };
    let Some(content) = files.get(file) else { return missing("EntryNotFound") };
    if !Repository::is_large(file) {
        return Response::file(request, &git_sha1(content), content);
    }
    let digest = sha256(content);
    Response::redirect(&format!("{storage}/{digest}?signature=s1gned"))
        .header("X-Linked-Etag", &format!("\"{digest}\""))
        .header("X-Linked-Size", &content.len().to_string())
        .header("X-Repo-Commit", commit)
}
