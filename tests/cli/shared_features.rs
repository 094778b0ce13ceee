//! Cached features of a frozen backbone from a cache elsewhere: another head extracts nothing, and
//! whatever is wrong with the cache, the digests are those of a run without one.

use crate::server::{Request, Response};
use crate::static_server::{SECRET, s3, serving, signed};
use crate::support::{Desk, Events};
use crate::tuning::frozen;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Trains another head than [`frozen`] does.
const OTHER: [&str; 4] = ["run", "tiny.toml", "--set", "stages.train.head.hidden=[16]"];

/// The folder of a desk whose frozen backbone was run. Its store has the features.
fn extracted() -> &'static Desk {
    static EXTRACTED: OnceLock<Desk> = OnceLock::new();
    EXTRACTED.get_or_init(|| {
        let desk = frozen();
        desk.ok(&["run", "tiny.toml"]);
        desk
    })
}

/// The digests of the other head, trained without a cache.
fn expected() -> &'static BTreeMap<String, String> {
    static EXPECTED: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let events = frozen().ok(&[&OTHER[..], &["--json"]].concat()).events();
        assert!(extracts(&events));
        events.digests()
    })
}

/// Whether a run extracted features.
fn extracts(events: &Events) -> bool {
    events.all.iter().any(|event| event["task"] == "features")
}

/// The numbers of rows that stages took from elsewhere.
fn taken(events: &Events) -> Vec<u64> {
    let counts = events.all.iter().filter(|event| event["name"] == "features_taken");
    counts.map(|event| event["value"].as_u64().unwrap()).collect()
}

/// All warnings: the stage and the text.
fn warnings(events: &Events) -> String {
    let warnings = events.all.iter().filter(|event| event["level"] == "warning");
    let line = |event: &serde_json::Value| {
        format!(
            "  {}: {}\n",
            event["stage"].as_str().unwrap_or("-"),
            event["text"].as_str().unwrap()
        )
    };
    warnings.map(line).collect()
}

/// A folder that a run with features was pushed to.
fn pushed() -> (tempfile::TempDir, String) {
    let shared = tempfile::tempdir().unwrap();
    let place = shared.path().join("pipe").to_str().unwrap().to_owned();
    extracted().ok(&["cache", "push", "@0", &place]);
    (shared, place)
}

fn other_head(desk: &Desk, place: &str) -> Events {
    desk.ok(&[&OTHER[..], &["--cache-from", place, "--json"]].concat()).events()
}

#[test]
fn another_head_takes_the_features_that_another_machine_extracted() {
    let one = extracted();
    let shared = tempfile::tempdir().unwrap();
    let place = shared.path().join("pipe");
    let place = place.to_str().unwrap();
    let push = |more: &[&str]| {
        let ran = one.ok(&[&["cache", "push", "@0", place], more].concat());
        ran.stdout.replace(place, "[shared]")
    };
    let fetch = push(&["--stage", "fetch", "--json"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&fetch).unwrap()["runs"][0]["feature_rows"],
        0
    );
    one.snapshot("push_dry_run", &push(&["--dry-run"]));
    one.snapshot("push", &push(&[]));
    one.snapshot("push_again", &push(&[]));
    let server = serving(Path::new(place), |_: &Request, response: Response| response);
    let store = one.path("cache").to_str().unwrap().to_owned();
    // A store's own folder is a cache without a push.
    for place in [place, &server.address, &store] {
        let desk = frozen();
        let events = other_head(&desk, place);
        assert!(!extracts(&events), "{place}");
        assert_eq!(&events.digests(), expected(), "{place}");
        assert_eq!(warnings(&events), "");
        assert_eq!(taken(&events), [18, 6], "{place}: train and validation, then test");
        desk.ok(&["cache", "verify"]);
        // They are in this store now.
        let more = ["tiny.toml", "--set", "stages.train.head.hidden=[8]"];
        assert!(!extracts(&desk.events(&more)));
    }
    // A relative folder is that of the command, for the stages, too.
    let desk = frozen();
    std::os::unix::fs::symlink(place, desk.path("shared")).unwrap();
    let ran = desk.ok(&[&OTHER[..], &["--cache-from", "shared", "--jobs", "1"]].concat());
    desk.snapshot("run", &(ran.stderr + &ran.stdout));
}

#[test]
fn features_go_through_a_bucket_and_are_added_to_those_there() {
    let (one, (server, objects)) = (extracted(), s3());
    let push = ["cache", "push", "@0", "s3://lab/pipe"];
    let run = [&OTHER[..], &["--cache-from", "s3://lab/pipe", "--json"]].concat();
    let ok = |desk: &Desk, arguments: &[&str]| {
        let ran = desk.output(signed(desk, &server.address, SECRET, arguments));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran}");
        ran
    };
    one.snapshot("push_to_a_bucket", &ok(one, &push).stdout);
    let desk = frozen();
    let events = ok(&desk, &run).events();
    assert!(!extracts(&events));
    assert_eq!(&events.digests(), expected());
    assert!(crate::support::containing(&desk.path("cache"), SECRET).is_empty());
    // Other images take the rows that there are, extract the others, and add them.
    let more = || {
        let desk = frozen();
        desk.images("images", &["disc", "bar", "frame"], 10);
        desk
    };
    let two = more();
    let events = ok(&two, &run).events();
    // A file has rows of other splits, too: evaluate finds some of its own here.
    let rows: u64 = taken(&events).iter().sum();
    assert!(extracts(&events) && (18..=24).contains(&rows), "{rows}");
    ok(&two, &push);
    let three = more();
    let ran = ok(&three, &["run", "tiny.toml", "--cache-from", "s3://lab/pipe", "--json"]);
    let events = ran.events();
    assert!(!extracts(&events));
    assert_eq!(events.digests(), more().events(&["tiny.toml"]).digests());
    // The rows of the first push are still there.
    assert!(!extracts(&ok(&frozen(), &run).events()));
    let kept = objects.lock().unwrap().clone();
    assert!(kept.keys().all(|path| path.starts_with("/lab/pipe/v1/")));
    one.snapshot("push_to_a_bucket_again", &ok(one, &push).stdout);
    assert_eq!(kept, *objects.lock().unwrap());
}

/// The entries of features in a store.
struct Entries {
    /// The list of files.
    index: PathBuf,
    /// The files of features.
    files: Vec<PathBuf>,
}

fn entries(place: &str) -> Entries {
    let walk =
        walkdir::WalkDir::new(Path::new(place).join("v1/memo/features_")).sort_by_file_name();
    let all = walk.into_iter().map(|entry| entry.unwrap().into_path());
    let all: Vec<PathBuf> = all.filter(|path| path.is_file()).collect();
    let is_index = |path: &&PathBuf| {
        path.extension().is_some_and(|part| part == "value")
            && !path.with_extension("file").exists()
    };
    let index = all.iter().find(is_index).unwrap().clone();
    let files = all.into_iter().filter(|path| path.extension().is_some_and(|part| part == "file"));
    Entries { index, files: files.collect() }
}

fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key and the value in the file of an entry.
fn opened(path: &Path) -> (String, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let payload = &bytes[bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1..];
    let length = u64::from_le_bytes(payload[..8].try_into().unwrap()) as usize;
    let key = String::from_utf8(payload[8..8 + length].to_vec()).unwrap();
    (key, payload[8 + length..].to_vec())
}

/// Writes the file of an entry.
fn seal(path: &Path, key: &str, value: &[u8]) {
    let payload = [&(key.len() as u64).to_le_bytes()[..], key.as_bytes(), value].concat();
    let head = format!("pipe sealed 1 {}\n", hex_digest(&payload));
    overwrite(path, &[head.as_bytes(), &payload].concat());
}

/// Writes a file that a store may have made read-only.
fn overwrite(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if path.exists() {
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    }
    fs::write(path, content).unwrap();
}

/// Lets the list name a single file, which has the right digest.
fn plant(place: &str, content: &[u8]) {
    let Entries { index, .. } = entries(place);
    let (key, _) = opened(&index);
    let digest = hex_digest(content);
    let name = format!("{key}-{digest}");
    let path = hex_digest(name.as_bytes());
    let folder = Path::new(place).join("v1/memo/features_").join(&path[..2]);
    overwrite(&folder.join(format!("{path}.file")), content);
    seal(&folder.join(format!("{path}.length")), &name, &(content.len() as u64).to_le_bytes());
    seal(&index, &key, format!("{{\"segments\":[\"{digest}\"]}}").as_bytes());
}

#[test]
fn features_that_lie_are_said_once_and_extracted() {
    type Spoil = fn(&str);
    fn each(place: &str, change: impl Fn(&mut Vec<u8>)) {
        for path in entries(place).files {
            let mut content = fs::read(&path).unwrap();
            change(&mut content);
            overwrite(&path, &content);
        }
    }
    let spoils: Vec<(&str, Spoil)> = vec![
        ("flipped", |place| each(place, |content| *content.last_mut().unwrap() ^= 1)),
        ("cut", |place| each(place, |content| content.truncate(100))),
        ("missing", |place| {
            entries(place).files.iter().for_each(|path| fs::remove_file(path).unwrap());
        }),
        ("huge", |place| {
            for path in entries(place).files {
                let path = path.with_extension("length");
                seal(&path, &opened(&path).0, &(1u64 << 60).to_le_bytes());
            }
        }),
        ("no_length", |place| {
            for path in entries(place).files {
                let path = path.with_extension("length");
                seal(&path, &opened(&path).0, b"long");
            }
        }),
        // Complete files with the right digest and other content.
        ("foreign", |place| {
            let mut content = fs::read(&entries(place).files[0]).unwrap();
            content[8] ^= 1;
            plant(place, &content);
        }),
        ("wide", |place| {
            let mut content = fs::read(&entries(place).files[0]).unwrap();
            content[40] ^= 1;
            plant(place, &content);
        }),
        ("garbage", |place| plant(place, b"pipefea")),
        ("list_flipped", |place| {
            let Entries { index, .. } = entries(place);
            let mut content = fs::read(&index).unwrap();
            content[100] ^= 1;
            overwrite(&index, &content);
        }),
        ("list_of_another", |place| {
            let Entries { index, .. } = entries(place);
            seal(&index, "another", &opened(&index).1);
        }),
        ("no_list", |place| {
            let Entries { index, .. } = entries(place);
            seal(&index, &opened(&index).0, b"{\"segments\": [\"x\"]}");
        }),
    ];
    let mut text = String::new();
    for (name, spoil) in spoils {
        let (_shared, place) = pushed();
        spoil(&place);
        let desk = frozen();
        let events = other_head(&desk, &place);
        assert!(extracts(&events), "{name}");
        assert_eq!(&events.digests(), expected(), "{name}");
        assert!(taken(&events).is_empty(), "{name}");
        text += &format!("{name}\n{}", warnings(&events).replace(&place, "[shared]"));
        desk.ok(&["cache", "verify"]);
        assert!(!extracts(&desk.events(&["tiny.toml"])), "{name}: the store has its own rows");
    }
    let shard = regex::Regex::new("features_/[0-9a-f]{2}/").unwrap();
    Desk::empty().snapshot("lies", &shard.replace_all(&text, "features_/[..]/"));
}

#[test]
fn a_server_that_has_no_features_for_this_one_is_no_failure() {
    let (_shared, place) = pushed();
    let mut text = String::new();
    for (name, status) in [("503", 503), ("403", 403), ("404", 404)] {
        let server =
            serving(Path::new(&place), move |request: &Request, response: Response| match request
                .path
                .starts_with("/v1/memo/")
            {
                true => Response::status(status),
                false => response,
            });
        let desk = frozen();
        let events = other_head(&desk, &server.address);
        assert!(extracts(&events), "{name}");
        assert_eq!(&events.digests(), expected(), "{name}");
        text += &format!("{name}\n{}", warnings(&events));
    }
    Desk::empty().snapshot("failing_servers", &text);
}
