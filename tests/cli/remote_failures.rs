//! Caches elsewhere that are gone, slow, forbidden, damaged or lie: each is said in a sentence, the
//! stages run, and the digests are those of a run without a cache.

use crate::server::{Request, Response, Server};
use crate::static_server::serving;
use crate::support::{Desk, containing};
use proptest::prelude::*;
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const EXPLORE: [&str; 4] = ["run", "tiny.toml", "--until", "explore"];

/// The digests of a run up to `explore` that uses the cache at a place.
fn explored(desk: &Desk, place: &str) -> (String, Vec<(String, String)>) {
    let ran = desk.pipe(&[&EXPLORE[..], &["--cache-from", place, "--json"]].concat());
    assert_eq!(ran.code, 0, "{ran}");
    let text = ran.stderr.clone();
    let events = ran.events();
    let messages = events.all.iter().filter(|event| event["level"] == "warning");
    let messages: Vec<&str> = messages.map(|event| event["text"].as_str().unwrap()).collect();
    let digests = events.digests().into_iter().collect();
    (text + &messages.join("\n").replace(place, "[place]"), digests)
}

fn without_a_cache() -> Vec<(String, String)> {
    Desk::trained().events(&EXPLORE[1..]).digests().into_iter().collect()
}

/// A store that a run was pushed to.
fn pushed() -> (tempfile::TempDir, PathBuf) {
    let one = Desk::trained();
    let shared = tempfile::tempdir().unwrap();
    let place = shared.path().join("pipe");
    one.ok(&["cache", "push", "@0", place.to_str().unwrap()]);
    (shared, place)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter();
    let files = walk.map(|entry| entry.unwrap()).filter(|entry| entry.file_type().is_file());
    files.map(walkdir::DirEntry::into_path).collect()
}

/// The file of a name in the folder of artifacts.
fn artifact_file(place: &Path, name: &str) -> PathBuf {
    let found = files(&place.join("v1/artifacts")).into_iter().find(|path| path.ends_with(name));
    found.unwrap()
}

/// Writes a file that a store made read-only.
fn overwrite(path: &Path, content: &[u8]) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_cache_that_lies_is_said_and_the_stage_runs() {
    let expected = without_a_cache();
    let explore = |place: &Path| artifact_file(place, "explore.json");
    let manifest = |place: &Path| explore(place).with_file_name("manifest.json");
    let key_of = |place: &Path, name: &str| {
        let folder = artifact_file(place, name).parent().unwrap().to_owned();
        let digest = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let keys = containing(&place.join("v1/keys"), &digest);
        PathBuf::from(keys.first().unwrap())
    };
    type Spoil<'a> = Box<dyn Fn(&Path) + 'a>;
    let change = |path: PathBuf, change: fn(&mut Vec<u8>)| {
        let mut content = fs::read(&path).unwrap();
        change(&mut content);
        overwrite(&path, &content);
    };
    let spoils: Vec<(&str, Spoil)> = vec![
        ("flipped", Box::new(|place| change(explore(place), |content| content[9] ^= 1))),
        ("cut", Box::new(|place| change(explore(place), |content| content.truncate(10)))),
        ("longer", Box::new(|place| change(explore(place), |content| content.push(b' ')))),
        ("missing", Box::new(|place| fs::remove_file(explore(place)).unwrap())),
        (
            "no_file",
            Box::new(|place| {
                let path = explore(place);
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
            }),
        ),
        ("manifest_flipped", Box::new(|place| change(manifest(place), |content| content[40] ^= 1))),
        ("no_manifest", Box::new(|place| fs::remove_file(manifest(place)).unwrap())),
        (
            "key_of_another",
            Box::new(|place| {
                let other = fs::read(key_of(place, "listing.tsv")).unwrap();
                overwrite(&key_of(place, "explore.json"), &other);
            }),
        ),
        (
            "key_flipped",
            Box::new(|place| change(key_of(place, "explore.json"), |content| content[100] ^= 1)),
        ),
        ("format", Box::new(|place| fs::write(place.join("v1/format"), "<html>").unwrap())),
        ("newer", Box::new(|place| fs::write(place.join("v1/format"), "pipe store 2\n").unwrap())),
        ("empty", Box::new(|place| fs::remove_dir_all(place.join("v1")).unwrap())),
        ("gone", Box::new(|place| fs::remove_dir_all(place).unwrap())),
    ];
    let mut said = String::new();
    for (name, spoil) in spoils {
        let (_shared, place) = pushed();
        spoil(&place);
        let desk = Desk::tiny();
        let (messages, digests) = explored(&desk, place.to_str().unwrap());
        assert_eq!(digests, expected, "{name}");
        desk.ok(&["cache", "verify"]);
        said += &format!("{name}\n  {}\n", messages.trim_end().replace('\n', "\n  "));
    }
    Desk::empty().snapshot("lies", &said);
}

/// A manifest that names a file elsewhere, and one whose file would fill the disk, both with the
/// digests that belong to them: from a cache that wants to do harm.
#[test]
fn a_hostile_manifest_writes_nothing() {
    let expected = without_a_cache();
    let mut said = String::new();
    for (name, entry) in [
        ("outside", r#"{"path":"../../../outside","len":3,"digest":"DIGEST"}"#),
        ("absolute", r#"{"path":"/outside","len":3,"digest":"DIGEST"}"#),
        ("bomb", r#"{"path":"explore.json","len":9000000000000000000,"digest":"DIGEST"}"#),
        ("reserved", r#"{"path":"manifest.json","len":3,"digest":"DIGEST"}"#),
    ] {
        let (_shared, place) = pushed();
        let digest = hex_digest(b"abc");
        let text =
            format!("{{\"format\":1,\"files\":[\n{}\n]}}\n", entry.replace("DIGEST", &digest));
        let artifact = hex_digest(text.as_bytes());
        let folder = place.join("v1/artifacts").join(&artifact[..2]).join(&artifact);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("manifest.json"), &text).unwrap();
        fs::write(folder.join("explore.json"), "abc").unwrap();
        let old = artifact_file(&place, "thumbnails.json").parent().unwrap().to_owned();
        let old = old.file_name().unwrap().to_str().unwrap().to_owned();
        let key = PathBuf::from(&containing(&place.join("v1/keys"), &old)[0]);
        let payload = fs::read(&key).unwrap();
        let payload = String::from_utf8(
            payload[payload.iter().position(|&b| b == b'\n').unwrap() + 1..].to_vec(),
        )
        .unwrap();
        let payload = payload.replace(&old, &artifact);
        let sealed = format!("pipe sealed 1 {}\n{payload}", hex_digest(payload.as_bytes()));
        overwrite(&key, sealed.as_bytes());
        let desk = Desk::tiny();
        let (messages, digests) = explored(&desk, place.to_str().unwrap());
        assert_eq!(digests, expected, "{name}");
        assert!(
            !Path::new("/outside").exists()
                && containing(&desk.path("cache"), "outside").is_empty()
        );
        said += &format!("{name}\n  {}\n", messages.trim_end());
    }
    let free = regex::Regex::new(r"only [\d.]+ .B are free").unwrap();
    Desk::empty().snapshot("hostile", &free.replace_all(&said, "only [size] are free"));
}

fn hex_digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_server_that_fails_is_asked_once_and_said() {
    let desk = Desk::tiny();
    let mut said = String::new();
    type Answer = Box<dyn Fn(&Request) -> Response + Send + Sync>;
    let cases: Vec<(&str, Answer)> = vec![
        ("401", Box::new(|_| Response::status(401))),
        ("403", Box::new(|_| Response::status(403))),
        ("404", Box::new(|_| Response::status(404))),
        ("429", Box::new(|_| Response::status(429).header("Retry-After", "600"))),
        ("503", Box::new(|_| Response::status(503))),
        ("loop", Box::new(|request| Response::redirect(&request.path))),
        ("html", Box::new(|_| Response { body: b"<html>".to_vec(), ..Response::status(200) })),
        ("insecure", Box::new(|_| Response::redirect("http://example.com/format"))),
    ];
    for (name, answer) in cases {
        let server = Server::start(move |request, _| answer(request));
        let ran = desk.pipe(&["status", "tiny.toml", "--cache-from", &server.address]);
        assert_eq!(ran.code, 0, "{name}: {ran}");
        let paths: Vec<String> = server.requests().into_iter().map(|one| one.path).collect();
        assert!(paths.iter().all(|path| path.starts_with("/v1/format")), "{name}: {paths:?}");
        said += &format!("{name}\n  {}\n", ran.stderr.trim_end());
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // It answers without TLS.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let no_tls = format!("https://{}", plain.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in plain.incoming() {
            let mut stream = stream.unwrap();
            let mut hello = [0; 4096];
            let _ = stream.read(&mut hello);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read(&mut hello);
        }
    });
    for (name, place) in [("refused", format!("http://{closed}")), ("no_tls", no_tls)] {
        let ran = desk.pipe(&["status", "tiny.toml", "--cache-from", &place]);
        assert_eq!(ran.code, 0, "{name}: {ran}");
        said += &format!("{name}\n  {}\n", ran.stderr.trim_end());
    }
    desk.snapshot("failing_servers", &said);
}

#[test]
fn a_server_that_fails_during_a_run_does_not_fail_it() {
    let expected = without_a_cache();
    let one = Desk::trained();
    let mut said = String::new();
    let is_file = |request: &Request| request.path.ends_with("explore.json");
    type Spoil = Box<dyn Fn(&Request, Response) -> Response + Send + Sync>;
    let cases: Vec<(&str, Spoil)> = vec![
        (
            "cut",
            Box::new(
                move |request, response| if is_file(request) { response.cut(5) } else { response },
            ),
        ),
        (
            "503",
            Box::new(
                move |request, response| {
                    if is_file(request) { Response::status(503) } else { response }
                },
            ),
        ),
        (
            "404",
            Box::new(
                move |request, response| {
                    if is_file(request) { Response::status(404) } else { response }
                },
            ),
        ),
        (
            "longer",
            Box::new(move |request, mut response| {
                if is_file(request) {
                    response.body.extend_from_slice(b"more");
                }
                response
            }),
        ),
    ];
    for (name, spoil) in cases {
        let server = serving(&one.path("cache"), spoil);
        let desk = Desk::tiny();
        let (messages, digests) = explored(&desk, &server.address);
        assert_eq!(digests, expected, "{name}");
        said += &format!("{name}\n  {}\n", messages.trim_end().replace('\n', "\n  "));
    }
    Desk::empty().snapshot("failing_files", &said);
}

#[test]
fn the_second_cache_has_what_the_first_one_lacks_or_lies_about() {
    let (_one, first) = pushed();
    let (_two, second) = pushed();
    overwrite(&artifact_file(&first, "explore.json"), b"{}");
    let desk = Desk::tiny();
    let from = ["--cache-from", first.to_str().unwrap(), "--cache-from", second.to_str().unwrap()];
    let events = desk.events(&[&EXPLORE[1..], &from[..]].concat());
    assert_eq!(events.with_outcome("fresh"), ["explore", "fetch"]);
    assert_eq!(events.digests().into_iter().collect::<Vec<_>>(), without_a_cache());
}

#[test]
fn a_place_that_is_none_is_a_usage_error() {
    let desk = Desk::tiny();
    for (name, place) in [
        ("ftp", "ftp://a.b/c"),
        ("insecure", "http://a.b/c"),
        ("credentials", "https://user:secret@a.b/c"),
        ("query", "https://a.b/c?token=secret"),
        ("no_bucket", "s3:///prefix"),
    ] {
        let ran = desk.pipe(&["run", "tiny.toml", "--cache-from", place]);
        assert_eq!(ran.code, 2, "{ran}");
        ran.snapshot(&format!("place_{name}"));
    }
    let mut two = desk.command(&["status", "tiny.toml"]);
    two.env("PIPE_CACHE_FROM", "https://a.b/c https://d.e/f").env("PIPE_CACHE_TOKEN", "secret");
    desk.output(two).snapshot("credentials_for_two_hosts");
    assert!(!desk.path("cache").exists());
}

#[test]
fn a_push_or_pull_that_cannot_be_says_why() {
    let one = Desk::trained();
    let server = serving(&one.path("cache"), |request: &Request, response: Response| {
        if request.method == "PUT" { Response::status(405) } else { response }
    });
    one.ok(&["run", "tiny.toml", "--force=explore", "--name", "again"]);
    let empty = Desk::empty();
    let nowhere = empty.path("nowhere").display().to_string();
    let refusing = Server::start(|request, _| match request.method.as_str() {
        "PUT" => Response::status(405),
        _ => Response::status(404),
    });
    one.pipe(&["cache", "push", "@0", &refusing.address]).snapshot("push_refused");
    one.pipe(&["cache", "push", "nobody", "shared"]).snapshot("push_of_no_run");
    empty.pipe(&["cache", "pull", "nobody", &server.address]).snapshot("pull_of_no_name");
    empty.pipe(&["cache", "pull", "abcdef", &server.address]).snapshot("pull_of_no_run");
    empty.pipe(&["cache", "pull", "abcdef", &nowhere]).snapshot("pull_from_nowhere");
    // A record that was changed is refused as a whole, an output as such.
    let id = one.ok(&["show", "@0", "--json"]).json()["run"]["id"].as_str().unwrap().to_owned();
    overwrite(&artifact_file(&one.path("cache"), "model.safetensors"), b"model");
    let pull = |to: &str| one.pipe(&["cache", "pull", &id, "cache", "--cache", to]);
    pull("second").snapshot("pull_of_a_damaged_output");
    let record = one.path(&format!("cache/v1/runs/{id}/run.json"));
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("tiny", "tidy")).unwrap();
    pull("third").snapshot("pull_of_a_changed_record");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    /// However a cache is damaged, a run ends in the same digests.
    #[test]
    fn any_damage_leaves_the_digests_as_they_are(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..10), 1..6)
    ) {
        let (_shared, place) = pushed();
        let all = files(&place.join("v1"));
        for (file, at, what) in damage {
            let path = file.get(&all);
            let Ok(mut content) = fs::read(path) else { continue };
            match what {
                8 => drop(content.pop()),
                9 => {
                    fs::remove_file(path).unwrap();
                    continue;
                }
                bit if !content.is_empty() => {
                    let at = at.index(content.len());
                    content[at] ^= 1 << bit;
                }
                _ => content.push(0),
            }
            overwrite(path, &content);
        }
        let desk = Desk::tiny();
        let (_, digests) = explored(&desk, place.to_str().unwrap());
        prop_assert_eq!(digests, without_a_cache());
        desk.ok(&["cache", "verify"]);
    }
}
