//! From a source to a tensor cache, stage by stage, as the engine would run them: what comes out,
//! what is said, what is refused. The digests pinned here change only together with a kind's
//! version.

use crate::data::decode::samples;
use crate::data::images::{self, LISTING, SKIPPED};
use crate::data::{Split, TensorCache};
use crate::engine::{Context, Device, InputArtifact, KindRef, StageError};
use crate::events::{CancellationToken, EventSink, StageEvent};
use crate::stages::KINDS;
use crate::store::{Digest, Memo};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A folder to run stages in.
struct Bench {
    folder: tempfile::TempDir,
    memo: Memo,
    said: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        Bench { folder, memo: Memo::temporary().unwrap(), said: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a kind into the folder `name`.
    fn run(
        &self,
        kind: &str,
        name: &str,
        values: Value,
        images: Option<(&str, Option<&Path>)>,
    ) -> Result<(), StageError> {
        let slot = self.path(name);
        std::fs::create_dir_all(&slot).unwrap();
        let said = Arc::clone(&self.said);
        let events = EventSink::new(move |event| {
            if let StageEvent::Message { text, .. } = event {
                said.lock().unwrap().push(text);
            }
        });
        let input = |(artifact, folder): (&str, Option<&Path>)| InputArtifact {
            path: self.path(artifact),
            digest: Digest::of(b""),
            folder: folder.map(Path::to_owned),
            inside: None,
        };
        let context = Context {
            values: values.as_object().cloned().unwrap_or_default(),
            inputs: images.map(|images| ("images".to_owned(), input(images))).into_iter().collect(),
            facts: BTreeMap::new(),
            slot,
            memo: self.memo.clone(),
            events,
            cancel: CancellationToken::new(),
            seed: 0,
            threads: 1,
            gpus: Vec::new(),
            cache_from: Vec::new(),
            device: Device::Cpu,
            key: Digest::of(b"key"),
        };
        named(kind).run(&context)
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

fn named(kind: &str) -> KindRef {
    *KINDS.iter().find(|one| one.name() == kind).unwrap()
}

fn fetching(source: &str) -> Value {
    json!({ "source": source, "on_missing": "fail", "synthetic": { "count": 3, "unlabelled": 1, "kinds": [0, 5, 9], "seed": 1 } })
}

fn dataset(method: &str) -> Value {
    json!({
        "labels": { "from": "file_name", "pattern": "^(?<index>\\d+)_(?<class>\\d+)$" },
        "class_names": { "0": "shirt" },
        "unlabelled": ["new"], "fraction": 1.0,
        "split": { "train": 0.5, "validation": 0.25, "test": 0.25, "method": method, "column": "split", "seed": 0 },
    })
}

fn preprocessing(dataset: Value) -> Value {
    json!({
        "resize": 12, "crop": 10, "fit": "crop", "interpolation": "bilinear", "max_rejected": 0.05,
        "background": "white", "on_damaged": "reject", "on_leak": "report", "store": "raw",
        "jpeg_quality": 95,
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "dataset": dataset,
    })
}

/// A folder of `count` images of two classes, and one without a label.
fn images_folder(count: u8) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["train", "new", ".hidden"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    for index in 0..count {
        let path = folder.path().join(format!("train/{index}_{}.png", index % 2));
        std::fs::write(
            path,
            samples::png(20 + u32::from(index % 3), 16, [index * 5, 100, 250 - index]),
        )
        .unwrap();
    }
    std::fs::write(folder.path().join("new/99.png"), samples::png(9, 30, [1, 2, 3])).unwrap();
    std::fs::write(folder.path().join("train/._0_0.png"), b"waste").unwrap();
    std::fs::write(folder.path().join(".hidden/x.png"), b"waste").unwrap();
    std::fs::write(folder.path().join("README.txt"), b"words").unwrap();
    folder
}

fn digest(path: PathBuf) -> String {
    Digest::of(&std::fs::read(path).unwrap()).short()
}

#[test]
fn a_folder_is_listed_and_read_in_place() {
    let (bench, folder) = (Bench::new(), images_folder(24));
    bench
        .run("fetch", "fetched", fetching(&format!("path:{}", folder.path().display())), None)
        .unwrap();
    assert_eq!(std::fs::read_dir(bench.path("fetched")).unwrap().count(), 2);
    assert_eq!(bench.said(), "25 images listed; skipped 2 hidden files and 1 other file");
    let images = Some(("fetched", Some(folder.path())));
    bench.run("explore", "explored", json!({ "dataset": dataset("exact") }), images).unwrap();
    bench.run("preprocess", "made", preprocessing(dataset("exact")), images).unwrap();
    let cache = TensorCache::open(&bench.path("made")).unwrap();
    let counts = [Split::Train, Split::Validation, Split::Test, Split::Unlabelled]
        .map(|one| cache.of_split(one).len());
    assert_eq!(counts, [12, 6, 6, 1]);
    assert_eq!(cache.info().classes, ["shirt", "1"]);
    assert!(
        bench.said().ends_with(
            "12 to train, 6 to validate, 6 to test, 1 unlabelled; 3 not used (hidden: 2, not an image: 1), see rejected.csv"
        ),
        "{}",
        bench.said()
    );
    let pinned = [
        ("fetched", LISTING),
        ("explored", "explore.json"),
        ("made", "records.bin"),
        ("made", "samples.tsv"),
    ];
    let digests = pinned.map(|(folder, file)| digest(bench.path(folder).join(file)));
    assert_eq!(digests, ["8295db5ec40f", "d1d07c5643ab", "5568750d77f4", "0ec6a3285780"]);
}

#[test]
fn drawn_images_are_the_same_bytes_everywhere() {
    let bench = Bench::new();
    bench.run("fetch", "fetched", fetching("synthetic:garments"), None).unwrap();
    assert_eq!(bench.said(), "4 images of 3 kinds drawn");
    assert_eq!(images::open(&bench.path("fetched"), None).unwrap().list().len(), 4);
    assert_eq!(digest(bench.path("fetched").join(LISTING)), "5c7241cb4d25");
}

#[test]
fn another_split_or_label_links_the_records() {
    use std::os::unix::fs::MetadataExt;
    let (bench, folder) = (Bench::new(), images_folder(24));
    bench
        .run("fetch", "fetched", fetching(&format!("path:{}", folder.path().display())), None)
        .unwrap();
    let images = Some(("fetched", Some(folder.path())));
    bench.run("preprocess", "one", preprocessing(dataset("exact")), images).unwrap();
    let mut other = dataset("hash");
    other["split"]["seed"] = json!(7);
    bench.run("preprocess", "two", preprocessing(other.clone()), images).unwrap();
    let inode = |name: &str| std::fs::metadata(bench.path(name).join("records.bin")).unwrap().ino();
    assert_eq!(inode("one"), inode("two"));
    assert!(
        bench.said().contains("; 0 images decoded, 25 from an earlier tensor cache"),
        "{}",
        bench.said()
    );
    assert_ne!(
        digest(bench.path("one").join("samples.tsv")),
        digest(bench.path("two").join("samples.tsv"))
    );
    // Losing the memo costs work, not a byte.
    let fresh = Bench { memo: Memo::temporary().unwrap(), ..Bench::new() };
    std::fs::create_dir(fresh.path("fetched")).unwrap();
    for file in [LISTING, SKIPPED] {
        std::fs::copy(bench.path("fetched").join(file), fresh.path("fetched").join(file)).unwrap();
    }
    fresh.run("preprocess", "two", preprocessing(other), images).unwrap();
    for file in ["records.bin", "samples.tsv", "input.json", "rejected.csv", "conflicts.csv"] {
        assert_eq!(
            digest(bench.path("two").join(file)),
            digest(fresh.path("two").join(file)),
            "{file}"
        );
    }
}

#[test]
fn too_many_unreadable_images_fail_and_few_are_listed() {
    let (bench, folder) = (Bench::new(), images_folder(40));
    std::fs::write(folder.path().join("train/7_1.png"), b"").unwrap();
    let source = fetching(&format!("path:{}", folder.path().display()));
    bench.run("fetch", "one", source.clone(), None).unwrap();
    bench
        .run(
            "preprocess",
            "few",
            preprocessing(dataset("hash")),
            Some(("one", Some(folder.path()))),
        )
        .unwrap();
    assert!(bench.said().contains(
        "skipped 1 of 41 images, such as train/7_1.png: can't be decoded: the file is empty"
    ));
    assert_eq!(TensorCache::open(&bench.path("few")).unwrap().samples().len(), 40);
    for index in 8..12 {
        std::fs::write(folder.path().join(format!("train/{index}_{}.png", index % 2)), b"<html>")
            .unwrap();
    }
    bench.run("fetch", "two", source, None).unwrap();
    let refused = bench.run(
        "preprocess",
        "many",
        preprocessing(dataset("hash")),
        Some(("two", Some(folder.path()))),
    );
    let text = refused.unwrap_err().to_string();
    assert!(
        text.starts_with(
            "5 of 41 images can't be used, for example:\n  train/10_0.png: can't be decoded: it is an HTML page, not an image"
        ),
        "{text}"
    );
    assert!(text.contains("`max_rejected`"), "{text}");
}

#[test]
fn a_image_that_changed_after_it_was_listed_stops_the_stage() {
    let (bench, folder) = (Bench::new(), images_folder(24));
    bench
        .run("fetch", "fetched", fetching(&format!("path:{}", folder.path().display())), None)
        .unwrap();
    std::fs::write(folder.path().join("train/3_1.png"), samples::png(5, 5, [9, 9, 9])).unwrap();
    let images = Some(("fetched", Some(folder.path())));
    let text = bench
        .run("preprocess", "made", preprocessing(dataset("hash")), images)
        .unwrap_err()
        .to_string();
    assert!(text.contains("3_1.png changed since it was listed"), "{text}");
}

#[test]
fn sources_that_cannot_be_had_say_what_to_do() {
    let bench = Bench::new();
    let said =
        |source: &str| bench.run("fetch", "x", fetching(source), None).unwrap_err().to_string();
    assert!(
        said(&format!("path:{}", bench.path("x").display())).contains("there are no images in")
    );
    std::fs::write(bench.path("a.zip"), b"PK").unwrap();
    let archive = said(&format!("path:{}", bench.path("a.zip").display()));
    assert!(archive.contains("a.zip"), "{archive}");
}

#[test]
fn declarations_are_sound() {
    for kind in KINDS {
        assert_eq!(crate::config::audit(kind.keys()), Vec::<String>::new(), "{}", kind.name());
        assert_eq!(crate::config::audit(kind.dataset()), Vec::<String>::new(), "{}", kind.name());
    }
}
