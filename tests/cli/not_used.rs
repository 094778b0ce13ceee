//! Files that aren't used are named, whatever the source, and keys that nothing reads are refused.

use crate::hub::{Hub, Repository, folders, one, pipeline, png};
use crate::packed::{Files, tar, tar_header, zip};
use crate::support::{Desk, Events, TINY, fetching};
use std::fs;
use std::io::{Cursor, Write};
use zip::write::{SimpleFileOptions, ZipWriter};

/// The images of [`Desk::tiny`] in folders, and files beside them that aren't used. A path that ends
/// in a slash is a folder.
fn files(desk: &Desk) -> Files {
    let images = fs::read_dir(desk.path("images")).unwrap().map(|file| file.unwrap());
    let mut files: Files = images
        .map(|file| {
            let name = file.file_name().into_string().unwrap();
            (format!("set/{name}"), fs::read(file.path()).unwrap())
        })
        .collect();
    let image = files[0].1.clone();
    for path in [
        "__MACOSX/set/._0_disc.png",
        "__MACOSX/set/._1_bar.png",
        "set/.cache/1_bar.png",
        "set/._1_bar.png",
        ".hidden.jpg",
    ] {
        files.push(one(path, image.clone()));
    }
    files.extend(["readme.md", "set/notes", "set/labels.csv"].map(|path| one(path, "a,b\n")));
    files.push(one("set/1_x.HEIC", "a photograph"));
    files.extend(["none/", "none/at/", "set/all/", "set/.git/"].map(|path| one(path, "")));
    files.sort();
    files
}

fn tar_with_folders(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let kind = match path.ends_with('/') {
            true => tar::EntryType::Directory,
            false => tar::EntryType::Regular,
        };
        let header = tar_header(path.as_bytes(), kind, content.len() as u64);
        builder.append(&header, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn zip_with_folders(files: &Files) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, content) in files {
        match path.ends_with('/') {
            true => writer.add_directory(path.as_str(), SimpleFileOptions::default()).unwrap(),
            false => {
                writer.start_file(path.as_str(), SimpleFileOptions::default()).unwrap();
                writer.write_all(content).unwrap();
            }
        }
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn what_is_not_used_of_an_archive_is_named_as_that_of_a_folder() {
    let desk = Desk::tiny();
    let files = files(&desk);
    for (path, content) in &files {
        match path.ends_with('/') {
            true => fs::create_dir_all(desk.path("folder").join(path)).unwrap(),
            false => desk.write(&format!("folder/{path}"), content),
        }
    }
    desk.write("set.zip", zip_with_folders(&files));
    desk.write("set.tar", tar_with_folders(&files));
    let run = |source: &str| {
        let (stages, _) = TINY.split_once("[stages.train]").unwrap();
        desk.write("own.toml", stages.replace("path:images", &format!("path:{source}")));
        let ran = desk.ok(&["run", "own.toml", "--jobs", "1"]);
        (ran, ["explore", "preprocess"].map(|stage| desk.result(&format!("{stage}/rejected.csv"))))
    };
    let (_, expected) = run("folder");
    let ((ran, of_zip), (_, of_tar)) = (run("set.zip"), run("set.tar"));
    ran.snapshot("run_of_a_zip");
    desk.snapshot("rejected", &expected[1]);
    assert_eq!(of_zip, expected);
    assert_eq!(of_tar, expected);
}

/// What isn't used of a repository.
fn skipped(desk: &Desk, events: &Events) -> String {
    let table = desk.fetched_file(events, "skipped.tsv");
    table.split_once('\n').unwrap().1.to_owned()
}

#[test]
fn what_is_not_used_of_a_repository_is_named() {
    let shard = tar(&vec![
        one("0.cls", "cat"),
        one("0.png", png(1, 0)),
        one("0.txt", "a caption"),
        one("1.cls", "dog"),
        one("2.cls", "dog"),
        one("2.png", png(2, 2)),
        one("2.seg.png", png(2, 3)),
        one("._2.png", png(2, 3)),
    ]);
    let mut inner = folders("", 2);
    inner.push(one("__MACOSX/cat/._0.png", "x"));
    inner.push(one("cat/list.txt", "x"));
    let mut plain = folders("train/", 2);
    plain.push(one("extra.zip", zip(&folders("", 1)[..1].to_vec())));
    plain.extend(folders("test/", 1));
    let repositories: [(&str, Files, &str); 3] = [
        ("shards", vec![one("train-0.tar", shard), one("classnames.txt", "x\n")], ""),
        ("archives", vec![one("train.zip", zip(&inner)), one("sample.png", png(1, 1))], ""),
        ("plain", plain, "splits = [\"train\"]\n"),
    ];
    for (name, mut files, keys) in repositories {
        files.extend([".gitattributes", "README.md", ".cache/x.png"].map(|path| one(path, "x")));
        let (desk, hub) = (pipeline("hf:o/n"), Hub::start(Repository::new("datasets", files)));
        desk.write("h.toml", format!("[stages.fetch]\nsource = \"hf:o/n\"\n{keys}"));
        let ran = hub.run(&desk, &["h.toml"]);
        assert_eq!(ran.code, 0, "{name}: {ran}");
        ran.snapshot(&format!("run_of_{name}"));
        let events = hub.run(&desk, &["h.toml", "--json"]).events();
        desk.snapshot(&format!("skipped_of_{name}"), &skipped(&desk, &events));
    }
}

#[test]
fn keys_that_are_for_other_sources_and_splits_are_refused() {
    let desk = Desk::tiny();
    desk.write("x.zip", zip(&folders("", 1)));
    let keys =
        "config = \"a\"\nsplits = [\"train\"]\nsynthetic = { count = 5 }\non_missing = \"warn\"\n";
    for source in ["path:x.zip", "torchvision:resnet18", "hf:models/o/n", "kaggle:o/n"] {
        desk.write("f.toml", format!("[stages.fetch]\nsource = \"{source}\"\n{keys}"));
        let ran = desk.pipe(&["run", "f.toml"]);
        assert_eq!(ran.code, 2, "{ran}");
        if source == "path:x.zip" {
            ran.snapshot("keys_for_other_sources");
        }
    }
    let split = "split = { from = \"folder\", column = \"x\", file = \"y.csv\", method = \"exact\", seed = 3 }";
    let fractions = "split = { method = \"exact\", train = 0.5, validation = 0.25, test = 0.25 }";
    desk.edit("tiny.toml", fractions, split);
    desk.edit("tiny.toml", "size = 32", "size = 32\nonly = \"test\"\non_leak = \"drop\"");
    let ran = desk.pipe(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("keys_for_other_splits");
}

#[test]
fn only_the_hub_says_that_a_repository_is_a_model() {
    let desk = Desk::empty();
    let hub = Hub::start(Repository::new("models", [one("model.safetensors", "x")]));
    desk.write("w.toml", format!("{}splits = [\"train\"]\n", fetching("hf:o/n")));
    hub.run(&desk, &["w.toml"]).snapshot("splits_of_a_model");
}
