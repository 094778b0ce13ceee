//! Data sets of Kaggle's, from a server on this machine that answers as Kaggle does: an API that
//! redirects to a storage on another host.

use crate::server::{Request, Response, Server};
use crate::support::{Desk, Ran, containing};
use pipe::nn::{Head, Network, write_safetensors};
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use zip::write::{SimpleFileOptions, ZipWriter};

const SECRET: &str = "s3cret-t0ken";

const PIPELINE: &str = "[stages.fetch]\nsource = \"kaggle:salil007/caavo\"\n";

/// A small image whose colors depend on two numbers, as JPEG.
fn jpeg(a: u32, b: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let image = image::RgbImage::from_fn(24, 30, |x, y| {
        image::Rgb([(a * 17) as u8, (b * 29 + x) as u8, (a * b + 5 * y) as u8])
    });
    image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Jpeg).unwrap();
    bytes
}

/// An archive in caavo's layout: `train/train/ROW_CLASS.jpg`, and `test/test/` without labels.
fn caavo(classes: u32, rows: u32) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |path: String, content: Vec<u8>| {
        writer.start_file(path, SimpleFileOptions::default()).unwrap();
        writer.write_all(&content).unwrap();
    };
    for class in 0..classes {
        for row in 1..=rows {
            add(format!("train/train/{row}_{class}.jpg"), jpeg(class, row));
        }
    }
    for row in 1..=3 {
        add(format!("test/test/{row}.jpg"), jpeg(row + 3, row + 90));
    }
    writer.finish().unwrap().into_inner()
}

/// The storage's checksums of a file: MD5 and CRC32C.
fn google_hash(content: &[u8]) -> String {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use md5::Digest as _;
    let md5 = BASE64_STANDARD.encode(md5::Md5::digest(content));
    let crc32c = BASE64_STANDARD.encode(crc32c::crc32c(content).to_be_bytes());
    format!("crc32c={crc32c},md5={md5}")
}

type Answer = dyn Fn(&Request, usize) -> Option<Response> + Send + Sync;

/// The two hosts. `api` and `storage` may answer first, given a request and the number of requests
/// before it; otherwise all goes well.
struct Kaggle {
    api: Server,
    storage: Server,
    /// The version and the archive that are current.
    current: Arc<Mutex<(u32, Vec<u8>)>>,
}

impl Kaggle {
    fn start(archive: Vec<u8>) -> Kaggle {
        Kaggle::with(archive, |_, _| None, |_, _| None)
    }

    fn with(
        archive: Vec<u8>,
        api: impl Fn(&Request, usize) -> Option<Response> + Send + Sync + 'static,
        storage: impl Fn(&Request, usize) -> Option<Response> + Send + Sync + 'static,
    ) -> Kaggle {
        let current = Arc::new(Mutex::new((1, archive)));
        let (api, storage): (Box<Answer>, Box<Answer>) = (Box::new(api), Box::new(storage));
        let files = Arc::clone(&current);
        let storage = Server::start(move |request, number| {
            assert_eq!(request.header("authorization"), None, "credentials left the site");
            let (version, content) = &*files.lock().unwrap();
            storage(request, number).unwrap_or_else(|| {
                Response::file(request, &format!("v{version}"), content)
                    .header("x-goog-hash", &google_hash(content))
            })
        });
        let (versions, place) = (Arc::clone(&current), storage.address.clone());
        let api = Server::start(move |request, number| {
            if let Some(response) = api(request, number) {
                return response;
            }
            let version = versions.lock().unwrap().0;
            match request.path.strip_prefix("/api/v1/datasets/").unwrap() {
                "view/salil007/caavo" => Response::json(
                    200,
                    &format!(
                        r#"{{"currentVersionNumber":{version},"licenseName":"CC0-1.0","files":[]}}"#
                    ),
                ),
                rest => {
                    let rest = rest.strip_prefix("download/salil007/caavo").unwrap();
                    let number = rest.strip_prefix("?datasetVersionNumber=").unwrap_or("0");
                    Response::redirect(&format!("{place}/signed/{number}.zip?signature={number}"))
                }
            }
        });
        Kaggle { api, storage, current }
    }

    /// A command without credentials.
    fn command(&self, desk: &Desk, arguments: &[&str]) -> Command {
        let mut command = desk.command(arguments);
        command
            .env("PIPE_KAGGLE", &self.api.address)
            .env("HOME", desk.path("home"))
            .env_remove("XDG_CONFIG_HOME");
        command
    }

    fn run(&self, desk: &Desk, arguments: &[&str]) -> Ran {
        desk.output(self.command(desk, &[&["run"], arguments].concat()))
    }

    /// The paths of the requests to the API since the last call.
    fn asked(&self) -> Vec<String> {
        let paths = self.api.requests().into_iter().map(|request| request.path);
        paths.map(|path| path.replace("/api/v1/datasets/", "")).collect()
    }
}

fn pipeline() -> Desk {
    let desk = Desk::empty();
    desk.write("k.toml", PIPELINE);
    desk
}

#[test]
fn a_public_data_set_is_pinned_to_its_version_without_a_login() {
    let (desk, kaggle) = (pipeline(), Kaggle::start(caavo(2, 2)));
    let mut command = kaggle.command(&desk, &["run", "k.toml"]);
    command.env("KAGGLE_API_TOKEN", SECRET);
    let ran = desk.output(command);
    ran.snapshot("first_run");
    let requests = kaggle.api.requests();
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
    let paths: Vec<_> = requests.iter().map(|request| request.path.as_str()).collect();
    let download = "/api/v1/datasets/download/salil007/caavo?datasetVersionNumber=1";
    assert_eq!(paths, ["/api/v1/datasets/view/salil007/caavo", download]);
    // A new version is noticed only when asked for.
    *kaggle.current.lock().unwrap() = (2, caavo(2, 3));
    assert_eq!(kaggle.run(&desk, &["k.toml", "--json"]).events().with_outcome("fresh"), ["fetch"]);
    assert!(kaggle.asked().is_empty());
    let refreshed = kaggle.run(&desk, &["k.toml", "--refresh", "--json"]).events();
    assert_eq!(refreshed.with_outcome("ran"), ["fetch"]);
    refreshed.snapshot_reasons("reasons_of_a_new_version");
    // An old version can be named, in each way in which people do.
    kaggle.asked();
    for source in ["kaggle:salil007/caavo/1", "kaggle:salil007/caavo/versions/1"] {
        let set = format!("stages.fetch.source={source}");
        let events = kaggle.run(&desk, &["k.toml", "--set", &set, "--json"]).events();
        assert_eq!(events.with_outcome("fresh"), ["fetch"], "{source}");
    }
    let page = "stages.fetch.source=https://www.kaggle.com/datasets/salil007/caavo";
    let events = kaggle.run(&desk, &["k.toml", "--set", page, "--json"]).events();
    assert_eq!(events.with_outcome("fresh"), ["fetch"]);
}

#[test]
fn credentials_are_sent_where_they_are_asked_for_and_nowhere_else() {
    let basic = "Basic bWU6czNjcmV0LXQwa2Vu";
    let bearer = format!("Bearer {SECRET}");
    let json = format!(r#"{{"username":"me","key":"{SECRET}"}}"#);
    // Files in the home folder, variables, and what is sent.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case; 7] = [
        (&[("home/.kaggle/kaggle.json", &json)], &[], basic),
        (&[("home/.config/kaggle/kaggle.json", &json)], &[], basic),
        (&[("conf/kaggle.json", &json)], &[("KAGGLE_CONFIG_DIR", "conf")], basic),
        (&[], &[("KAGGLE_USERNAME", "me"), ("KAGGLE_KEY", SECRET)], basic),
        (&[("home/.kaggle/access_token", "s3cret-t0ken\n")], &[("KAGGLE_KEY", "x")], &bearer),
        (&[("token.txt", "s3cret-t0ken\n")], &[("KAGGLE_API_TOKEN", "token.txt")], &bearer),
        (
            &[("home/.kaggle/access_token", "other"), ("home/.kaggle/kaggle.json", "{}")],
            &[("KAGGLE_API_TOKEN", SECRET)],
            &bearer,
        ),
    ];
    for (files, variables, sent) in cases {
        let desk = pipeline();
        files.iter().for_each(|(path, text)| desk.write(path, text));
        let expected = sent.to_owned();
        let denied = r#"{"error":{"code":403,"message":"Permission 'datasets.get' was denied"}}"#;
        let kaggle = Kaggle::with(
            caavo(2, 2),
            move |request, _| {
                (request.header("authorization") != Some(&expected))
                    .then(|| Response::json(403, denied))
            },
            |_, _| None,
        );
        let mut command = kaggle.command(&desk, &["run", "k.toml", "--json"]);
        command.envs(variables.iter().copied());
        let ran = desk.output(command);
        assert_eq!(ran.code, 0, "{files:?}: {ran}");
        assert!(!format!("{ran}").contains(SECRET));
        assert_eq!(containing(&desk.path("cache"), SECRET), Vec::<String>::new());
        assert_eq!(containing(&desk.path("cache"), "czNjcmV0"), Vec::<String>::new());
        let asked: Vec<_> = kaggle
            .api
            .requests()
            .iter()
            .map(|request| request.header("authorization").is_some())
            .collect();
        assert_eq!(asked, [false, true, false, true], "logged out first");
    }
}

#[test]
fn a_broken_download_goes_on_although_the_address_expired() {
    let archive = caavo(3, 4);
    let whole = archive.len();
    let part = Mutex::new(archive.clone());
    let kaggle = Kaggle::with(
        archive,
        |_, _| None,
        move |request, number| match number {
            0 => Some(Response::file(request, "v1", &part.lock().unwrap()).cut(2000)),
            1 => Some(Response {
                body: b"<Error>ExpiredToken</Error>".to_vec(),
                ..Response::status(403)
            }),
            _ => None,
        },
    );
    let desk = pipeline();
    let ran = kaggle.run(&desk, &["k.toml"]);
    assert_eq!(ran.code, 0, "{ran}");
    ran.snapshot("run_with_an_expired_address");
    let requests = kaggle.storage.requests();
    let parts: Vec<_> =
        requests.iter().map(|request| (request.from(), request.header("if-range"))).collect();
    let from = Some(2000);
    assert_eq!(parts, [(None, None), (from, Some("\"v1\"")), (from, Some("\"v1\""))]);
    assert!(whole > 2000);
    assert_eq!(kaggle.asked().len(), 4, "the API was asked for each address");
}

/// Another process knows which file the partial download is of.
#[test]
fn a_download_is_resumed_by_the_next_run() {
    let archive = caavo(3, 4);
    let part = archive.clone();
    let kaggle = Kaggle::with(
        archive,
        |_, _| None,
        move |request, number| match number {
            0 => Some(Response::file(request, "v1", &part).cut(2000)),
            1 => Some(Response::status(404)),
            _ => None,
        },
    );
    let desk = pipeline();
    assert_eq!(kaggle.run(&desk, &["k.toml"]).code, 1);
    let ran = kaggle.run(&desk, &["k.toml"]);
    assert_eq!(ran.code, 0, "{ran}");
    let last = kaggle.storage.requests().pop().unwrap();
    assert_eq!((last.from(), last.header("if-range")), (Some(2000), Some("\"v1\"")));
}

#[test]
fn a_download_without_the_right_checksum_is_discarded() {
    let wrong = |name: &str, hash: &'static str| {
        let archive = caavo(2, 2);
        let sent = archive.clone();
        let kaggle = Kaggle::with(
            archive,
            |_, _| None,
            move |request, _| {
                Some(Response::file(request, "v1", &sent).header("x-goog-hash", hash))
            },
        );
        let desk = pipeline();
        let ran = kaggle.run(&desk, &["k.toml"]);
        assert_eq!(ran.code, 1, "{ran}");
        ran.snapshot(name);
    };
    wrong("wrong_md5", "crc32c=AAAAAA==,md5=XUFAKrxLKna5cZ2REBfFkg==");
    // Files that were put together of parts have no MD5.
    wrong("wrong_crc32c", "crc32c=AAAAAA==");
}

/// The facts about a data set may be refused where the download isn't.
#[test]
fn without_a_version_number_the_file_is_pinned() {
    let desk = pipeline();
    let kaggle = Kaggle::with(
        caavo(2, 2),
        |request, _| request.path.contains("/view/").then(|| Response::json(403, "{}")),
        |_, _| None,
    );
    let first = kaggle.run(&desk, &["k.toml", "--json"]).events();
    assert_eq!(first.with_outcome("ran"), ["fetch"]);
    assert_eq!(
        kaggle.asked(),
        ["view/salil007/caavo", "download/salil007/caavo", "download/salil007/caavo"]
    );
    *kaggle.current.lock().unwrap() = (2, caavo(2, 3));
    let refreshed = kaggle.run(&desk, &["k.toml", "--refresh", "--json"]).events();
    assert_eq!(refreshed.with_outcome("ran"), ["fetch"]);
}

#[test]
fn each_refusal_has_its_sentence_and_comes_at_once() {
    let denied = r#"{"error":{"code":403,"message":"Permission 'datasets.get' was denied","status":"PERMISSION_DENIED"}}"#;
    let cases: [(&str, bool, Response); 9] = [
        ("unauthorized", false, Response::json(401, r#"{"code":401,"message":"Unauthorized"}"#)),
        (
            "wrong_credentials",
            true,
            Response::json(401, r#"{"code":401,"message":"Unauthorized"}"#),
        ),
        ("forbidden", false, Response::json(403, denied)),
        ("forbidden_with_credentials", true, Response::json(403, denied)),
        (
            "rules",
            true,
            Response::json(403, r#"{"code":403,"message":"You must accept the rules"}"#),
        ),
        ("error_in_a_success", false, Response::json(200, r#"{"code":404,"message":"Not found"}"#)),
        ("not_found", false, Response::json(404, r#"{"code":404,"message":"Not found"}"#)),
        ("too_many", false, Response::json(429, "{}").header("Retry-After", "120")),
        ("broken", false, Response::status(503)),
    ];
    for (name, has_login, response) in cases {
        let desk = pipeline();
        let kaggle = Kaggle::with(Vec::new(), move |_, _| Some(response.clone()), |_, _| None);
        let mut command = kaggle.command(&desk, &["run", "k.toml"]);
        if has_login {
            command.env("KAGGLE_API_TOKEN", SECRET);
        }
        let since = Instant::now();
        let ran = desk.output(command);
        assert!(since.elapsed() < Duration::from_secs(5), "{name}: {:?}", since.elapsed());
        assert_eq!(ran.code, 1, "{name}: {ran}");
        assert!(!format!("{ran}").contains(SECRET));
        ran.snapshot(&format!("refused_{name}"));
    }
}

#[test]
fn init_fetches_a_data_set_and_writes_a_file_that_runs() {
    let (desk, kaggle) = (Desk::empty(), Kaggle::start(caavo(3, 6)));
    let ran = desk.output(kaggle.command(&desk, &["init", "kaggle:salil007/caavo", "--scratch"]));
    ran.snapshot("init");
    desk.snapshot("init_of_a_data_set", &desk.read("caavo.toml"));
    kaggle.asked();
    let ran = kaggle.run(&desk, &["caavo.toml", "--until", "preprocess", "--json"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(ran.events().with_outcome("fresh"), ["fetch"]);
    assert!(kaggle.asked().is_empty());
}

#[test]
fn unusable_credentials_and_names_are_named() {
    let desk = pipeline();
    let kaggle = Kaggle::with(Vec::new(), |_, _| Some(Response::status(401)), |_, _| None);
    desk.write("home/.kaggle/kaggle.json", format!("{{\"user\": \"me\", \"key\": \"{SECRET}\"}}"));
    let ran = kaggle.run(&desk, &["k.toml"]);
    assert!(!format!("{ran}").contains(SECRET));
    ran.snapshot("unusable_key_file");
    desk.write("k.toml", PIPELINE.replace("salil007/caavo", "caavo"));
    kaggle.run(&desk, &["k.toml"]).snapshot("no_data_set");
}

#[test]
fn without_a_network_the_error_comes_in_seconds() {
    let desk = pipeline();
    // Nothing listens on a port that was bound and released.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = desk.command(&["run", "k.toml"]);
    command.env("PIPE_KAGGLE", format!("http://{free}"));
    let since = Instant::now();
    let ran = desk.output(command);
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    ran.snapshot("without_a_network");
    desk.write("w.toml", "[stages.weights]\nkind = \"fetch\"\nsource = \"torchvision:resnet18\"\n");
    let mut command = desk.command(&["run", "w.toml"]);
    command.env("PIPE_TORCHVISION", format!("http://{free}/"));
    let since = Instant::now();
    assert_eq!(desk.output(command).code, 1);
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
}

/// The command that this program exists for, with fewer and smaller images, and a smaller network
/// with random weights, since published ones are known by their digest.
#[test]
fn the_transfer_learning_pipeline_runs_from_the_download_to_predictions() {
    let (desk, kaggle) = (Desk::empty(), Kaggle::start(caavo(15, 6)));
    let head = Head::Dense { hidden: vec![], dropout: 0.0, classes: 1000 };
    let network = Network::new("resnet18", &head, (224, 224), 7).unwrap();
    write_safetensors(&desk.path("resnet18.safetensors"), &network.save()).unwrap();
    let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    desk.write("resnet50.toml", fs::read(pipelines.join("resnet50.toml")).unwrap());
    let arguments = [
        "resnet50.toml",
        "--set",
        "vars.model=resnet18",
        "--set",
        "stages.weights.source=path:resnet18.safetensors",
        "--set",
        "stages.train.epochs=2",
    ];
    let ran = kaggle.run(&desk, &[&arguments[..], &["--jobs", "1"]].concat());
    assert_eq!(ran.code, 0, "{ran}");
    ran.snapshot("transfer_learning");
    let again = kaggle.run(&desk, &[&arguments[..], &["--json"]].concat()).events();
    assert_eq!(again.with_outcome("fresh").len(), 6);
    let digest = &again.digests()["evaluate"];
    let folder = desk.path("cache/v1/artifacts").join(&digest[..2]).join(digest);
    let predicted = fs::read_to_string(folder.join("predictions.csv")).unwrap();
    let unlabelled = predicted.lines().filter(|line| line.contains("test/test/")).count();
    assert_eq!(unlabelled, 3, "{predicted}");
}
