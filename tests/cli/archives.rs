//! Images from archives, of the user's or on the web: what is unpacked, what is left out, and which
//! archives are refused.

use crate::packed::{Files, tar, tar_header, zip};
use crate::server::{Response, Server};
use crate::support::{Desk, Events, Ran, TINY};
use std::fs;
use std::io::{Cursor, Write};
use std::sync::Mutex;
use zip::write::{SimpleFileOptions, ZipWriter};

/// The images of [`Desk::tiny`].
fn images(desk: &Desk) -> Files {
    let mut files: Files = fs::read_dir(desk.path("images"))
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// One small image under these paths.
fn same(paths: &[&str]) -> Files {
    static IMAGE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let mut bytes = Vec::new();
        let image = image::RgbImage::from_pixel(9, 9, image::Rgb([1, 2, 3]));
        image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
        bytes
    });
    paths.iter().map(|path| ((*path).to_owned(), IMAGE.clone())).collect()
}

fn and(mut files: Files, path: &str, content: &[u8]) -> Files {
    files.push((path.to_owned(), content.to_vec()));
    files
}

/// A tar archive with one image and a link.
fn tar_with_link(kind: tar::EntryType, target: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let (path, content) = &same(&["a/1_x.png"])[0];
    let file = tar_header(path.as_bytes(), tar::EntryType::Regular, content.len() as u64);
    builder.append(&file, content.as_slice()).unwrap();
    let mut link = tar_header(b"b/2_x.png", kind, 0);
    link.set_link_name_literal(target).unwrap();
    link.set_cksum();
    builder.append(&link, std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn fetching(source: &str) -> String {
    format!("[stages.fetch]\nsource = \"{source}\"\n")
}

/// Runs a fetch stage alone.
fn fetch(desk: &Desk, source: &str) -> Ran {
    desk.write("fetch.toml", fetching(source));
    desk.pipe(&["run", "fetch.toml"])
}

fn fetched(desk: &Desk, source: &str) -> Events {
    desk.write("fetch.toml", fetching(source));
    desk.events(&["fetch.toml"])
}

#[test]
fn init_unpacks_an_archive_and_writes_a_file_that_runs() {
    let desk = Desk::tiny();
    desk.write("shapes.zip", zip(&images(&desk)));
    fs::remove_dir_all(desk.path("images")).unwrap();
    desk.ok(&["init", "shapes.zip", "--scratch"]).snapshot("init");
    desk.snapshot("init_of_an_archive", &desk.read("shapes.toml"));
    let events = desk.events(&["shapes.toml", "--until", "preprocess"]);
    assert_eq!(events.with_outcome("fresh"), ["fetch"]);
    // A table beside the archive.
    let rows: Vec<String> = (0..8).map(|at| format!("{at},{}", ["cat", "dog"][at % 2])).collect();
    let numbered: Vec<String> = (0..8).map(|at| format!("{at}.png")).collect();
    let colored = |(at, path): (usize, &String)| {
        let mut bytes = Vec::new();
        let image = image::RgbImage::from_pixel(9, 9, image::Rgb([at as u8 * 20, 2, 3]));
        image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
        (path.clone(), bytes)
    };
    desk.write("set/train.tar.gz", gz(&tar(&numbered.iter().enumerate().map(colored).collect())));
    desk.write("set/labels.csv", format!("id,label\n{}\n", rows.join("\n")));
    desk.ok(&["init", "set/train.tar.gz", "--output", "-", "--scratch"])
        .snapshot("init_with_a_table");
    desk.write("broken.zip", "no archive");
    let ran = desk.pipe(&["init", "broken.zip"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("init_of_a_broken_archive");
    assert!(!desk.path("broken.toml").exists());
}

/// `tar` reads names and extended headers into memory as long as they are.
#[test]
fn long_headers_of_a_tar_archive_are_refused() {
    let desk = Desk::empty();
    for (name, kind) in [
        ("pax", tar::EntryType::XHeader),
        ("name", tar::EntryType::GNULongName),
        ("link", tar::EntryType::GNULongLink),
    ] {
        let mut builder = tar::Builder::new(Vec::new());
        let content = vec![b'a'; 2 << 20];
        builder.append(&tar_header(b"x", kind, content.len() as u64), content.as_slice()).unwrap();
        desk.write("a.tar", builder.into_inner().unwrap());
        let ran = fetch(&desk, "path:a.tar");
        assert_eq!(ran.code, 1, "{ran}");
        ran.snapshot(&format!("long_{name}_header"));
    }
}

/// Names in entries of their own: GNU's and POSIX's, and a size that contradicts the header.
#[test]
fn extended_headers_of_a_tar_archive_are_read() {
    let desk = Desk::empty();
    let (_, content) = &same(&["x"])[0];
    let long = format!("{}/1_x.png", "d".repeat(120));
    let fact = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let length =
            (1..).find(|digits| (rest.len() + digits).to_string().len() == *digits).unwrap();
        format!("{}{rest}", rest.len() + length)
    };
    let archive = |facts: &[(&str, String)]| {
        let mut builder = tar::Builder::new(Vec::new());
        let text: String = facts.iter().map(|(key, value)| fact(key, value)).collect();
        let pax = tar_header(b"pax", tar::EntryType::XHeader, text.len() as u64);
        builder.append(&pax, text.as_bytes()).unwrap();
        let file = tar_header(b"short.png", tar::EntryType::Regular, content.len() as u64);
        builder.append(&file, content.as_slice()).unwrap();
        let mut gnu = tar::Header::new_gnu();
        gnu.set_size(content.len() as u64);
        gnu.set_mode(0o644);
        builder
            .append_data(&mut gnu, format!("{}/2_x.png", "e".repeat(150)), content.as_slice())
            .unwrap();
        builder.into_inner().unwrap()
    };
    desk.write("a.tar", archive(&[("mtime", "1.5".into()), ("path", long.clone())]));
    let events = fetched(&desk, "path:a.tar");
    let other = format!("images/{}/2_x.png", "e".repeat(150));
    assert_eq!(desk.fetched_files(&events)[..2], [format!("images/{long}"), other]);
    desk.write("a.tar", archive(&[("path", "../up.png".into())]));
    fetch(&desk, "path:a.tar").snapshot("an_extended_name_that_climbs_out");
    desk.write("a.tar", archive(&[("size", "9999999999".into())]));
    fetch(&desk, "path:a.tar").snapshot("an_extended_size_that_differs");
}

#[test]
fn an_archive_of_any_format_gives_the_images_of_a_folder() {
    let desk = Desk::tiny();
    let folder = desk.events(&["tiny.toml", "--until", "preprocess"]).digests();
    let files = images(&desk);
    desk.write("a.zip", zip(&files));
    desk.write("a.tar", tar(&files));
    desk.write("a.tar.gz", gz(&tar(&files)));
    desk.write("a.tgz", gz(&tar(&files)));
    desk.write("a.tar.zst", zst(&tar(&files)));
    // The content decides, not the name.
    desk.write("b.zip", gz(&tar(&files)));
    desk.write("unnamed", zip(&files));
    for name in ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.zst", "b.zip", "unnamed"] {
        let source = format!("stages.fetch.source=path:{name}");
        let digests =
            desk.events(&["tiny.toml", "--until", "preprocess", "--set", &source]).digests();
        assert_eq!(digests["preprocess"], folder["preprocess"], "{name}");
    }
    // A copy elsewhere is the same archive, and the archive isn't needed any more.
    fs::create_dir(desk.path("other")).unwrap();
    fs::rename(desk.path("a.zip"), desk.path("other/c.zip")).unwrap();
    assert_eq!(fetched(&desk, "path:other/c.zip").with_outcome("fresh"), ["fetch"]);
    desk.write("own.toml", TINY.replace("path:images", "path:other/c.zip"));
    desk.ok(&["run", "own.toml", "--jobs", "1"]).snapshot("run_from_a_zip");
}

#[test]
fn label_files_are_unpacked_and_the_rest_is_counted() {
    let desk = Desk::empty();
    let mut files = same(&["set/train/1_x.png", "set/train/2_y.PNG", "__MACOSX/set/._1_x.png"]);
    for path in ["set/labels.csv", "set/more.tsv", "set/lines.jsonl", "set/readme.md", "set/.keep"]
    {
        files.push((path.to_owned(), b"a,b\n".to_vec()));
    }
    // In Kaggle's data sets, archives are often in archives.
    let inner = zip(&same(&["3_z.png", "deep/4_z.png"]));
    let deeper = zip(&and(same(&["5_z.png"]), "again.zip", &inner));
    let files = and(
        and(files, "set/test.zip", &inner),
        "two.tar",
        &tar(&and(same(&["6_z.png"]), "x.zip", &deeper)),
    );
    desk.write("a.zip", zip(&files));
    let ran = fetch(&desk, "path:a.zip");
    ran.snapshot("what_an_archive_contained");
    let again = fetched(&desk, "path:a.zip");
    desk.snapshot("files_of_an_archive", &desk.fetched_files(&again).join("\n"));
}

#[test]
fn links_in_an_archive_become_files() {
    let desk = Desk::empty();
    desk.write("hard.tar", tar_with_link(tar::EntryType::Link, "a/1_x.png"));
    desk.write("soft.tar", tar_with_link(tar::EntryType::Symlink, "../a/1_x.png"));
    let expected = ["images/a/1_x.png", "images/b/2_x.png", "listing.tsv", "skipped.tsv"];
    for name in ["hard.tar", "soft.tar"] {
        let events = fetched(&desk, &format!("path:{name}"));
        assert_eq!(desk.fetched_files(&events), expected, "{name}");
    }
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("a/1_x.png", SimpleFileOptions::default()).unwrap();
    writer.write_all(&same(&["x"])[0].1).unwrap();
    writer.add_symlink("b/2_x.png", "../a/1_x.png", SimpleFileOptions::default()).unwrap();
    writer.add_symlink("c", "a", SimpleFileOptions::default()).unwrap();
    desk.write("a.zip", writer.finish().unwrap().into_inner());
    let ran = fetch(&desk, "path:a.zip");
    ran.snapshot("links_in_a_zip");
    assert_eq!(desk.fetched_files(&fetched(&desk, "path:a.zip")), expected);
}

#[test]
fn names_that_are_alike_or_no_utf_8_are_warnings() {
    let desk = Desk::empty();
    let mut bytes = tar(&same(&["a/1_x.png", "A/1_x.png", "a/1_X.png", "b/?_x.png"]));
    let at = bytes.windows(5).position(|part| part == b"b/?_x").unwrap();
    // 0xff in place of `?`, and the checksum that follows.
    let block = &mut bytes[at..at + 512];
    block[2] = 0xff;
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(block);
    header.set_cksum();
    block.copy_from_slice(header.as_bytes());
    desk.write("a.tar", bytes);
    fetch(&desk, "path:a.tar").snapshot("odd_names");
}

/// Sets the flag of encryption in each header.
fn encrypted(mut bytes: Vec<u8>) -> Vec<u8> {
    for (magic, flags) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        let found: Vec<usize> =
            (0..bytes.len() - 4).filter(|&at| &bytes[at..at + 4] == magic).collect();
        found.into_iter().for_each(|at| bytes[at + flags] |= 1);
    }
    bytes
}

/// Replaces text of the same length, everywhere.
fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

#[test]
fn harmful_and_damaged_archives_are_refused_by_name() {
    let desk = Desk::empty();
    let ok = same(&["1_x.png"]);
    let zeros = vec![0; 300 << 20];
    let long = zip(&and(ok.clone(), "labels.csv", &b"image,class\n".repeat(9)));
    let mut changed = zip(&ok);
    changed[60] ^= 0xff;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("climbs.zip", zip(&and(ok.clone(), "a/../../evil.txt", b"x"))),
        ("climbs_with_backslashes.zip", zip(&and(ok.clone(), "a\\..\\..\\evil.png", b"x"))),
        ("climbs_in_a_nested.zip", zip(&and(ok.clone(), "in.zip", &zip(&same(&["../e.png"]))))),
        ("climbs.tar", tar(&and(ok.clone(), "../evil.png", b"x"))),
        ("absolute.zip", zip(&same(&["/tmp/evil.png"]))),
        ("absolute.tar.gz", gz(&tar(&same(&["/tmp/evil.png"])))),
        ("drive.zip", zip(&same(&["C:\\evil.png"]))),
        ("drive.tar", tar(&same(&["C:/evil.png"]))),
        ("link_outside.tar", tar_with_link(tar::EntryType::Symlink, "../../evil.png")),
        ("link_absolute.tar", tar_with_link(tar::EntryType::Symlink, "/etc/passwd")),
        ("hard_link_outside.tar", tar_with_link(tar::EntryType::Link, "../evil.png")),
        ("twice.zip", replaced(zip(&same(&["1_x.png", "2_x.png"])), b"2_x.png", b"1_x.png")),
        ("twice.tar", tar(&same(&["1_x.png", "./1_x.png"]))),
        ("encrypted.zip", encrypted(zip(&ok))),
        ("bomb.zip", zip(&and(ok.clone(), "zeros.png", &zeros))),
        ("bomb.tar.gz", gz(&tar(&and(ok.clone(), "zeros.bin", &zeros)))),
        ("bomb.tar.zst", zst(&tar(&and(ok.clone(), "zeros.bin", &zeros)))),
        ("cut.zip", long[..long.len() - 30].to_vec()),
        ("cut.tar", tar(&same(&["1_x.png", "2_x.png"]))[..1100].to_vec()),
        ("cut.tar.gz", gz(&tar(&ok))[..60].to_vec()),
        ("cut.tar.zst", zst(&tar(&ok))[..60].to_vec()),
        ("changed.zip", changed),
        (
            "unknown_method.zip",
            replaced(long, b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x00\x00\x63\x00"),
        ),
        ("no_tar.tar.gz", gz(b"some text")),
        ("empty.zip", zip(&Vec::new())),
        ("nothing.zip", Vec::new()),
        ("page.zip", b"<!doctype html><title>Sign in</title>".to_vec()),
        ("a_rar.zip", b"Rar!\x1a\x07\x01\x00".to_vec()),
        ("without_images.tar", tar(&and(Vec::new(), "labels.csv", b"a,b\n"))),
    ];
    for (name, content) in cases {
        desk.write(name, content);
        let ran = fetch(&desk, &format!("path:{name}"));
        assert_eq!(ran.code, 1, "{name}: {ran}");
        ran.snapshot(&format!("refused_{name}"));
        fs::remove_file(desk.path(name)).unwrap();
    }
    let strays = walkdir::WalkDir::new(desk.path("cache/v1")).into_iter().map(|one| one.unwrap());
    let strays: Vec<_> =
        strays.filter(|entry| entry.file_name().to_string_lossy().contains("evil")).collect();
    assert!(strays.is_empty(), "{strays:?}");
    assert!(!desk.path("evil.txt").exists() && !std::path::Path::new("/tmp/evil.png").exists());
}

/// A tar archive without its end may be cut short exactly between two files.
#[test]
fn a_tar_without_an_end_is_a_warning() {
    let desk = Desk::empty();
    let whole = tar(&same(&["1_x.png", "2_x.png"]));
    desk.write("a.tar", &whole[..whole.len() - 1024]);
    fetch(&desk, "path:a.tar").snapshot("tar_without_an_end");
}

#[test]
fn an_archive_beside_the_images_is_not_read() {
    let desk = Desk::tiny();
    desk.events(&["tiny.toml", "--until", "preprocess"]);
    // A terabyte, all of it a hole: reading it would take minutes.
    let big = fs::File::create(desk.path("images/big.zip")).unwrap();
    big.set_len(1 << 40).unwrap();
    // No image is decoded again.
    desk.ok(&["run", "tiny.toml", "--until", "preprocess", "--jobs", "1"])
        .snapshot("an_archive_beside_the_images");
}

#[test]
fn an_archive_on_the_web_is_pinned_and_resumed() {
    let desk = Desk::tiny();
    let content = Mutex::new(("one", zip(&images(&desk))));
    let content = std::sync::Arc::new(content);
    let served = std::sync::Arc::clone(&content);
    // Every connection breaks after 8,000 bytes.
    let server = Server::start(move |request, _| {
        let (etag, bytes) = &*served.lock().unwrap();
        Response::file(request, etag, bytes).cut(8000)
    });
    let source = format!("{}/sets/images.zip?raw=1", server.address);
    desk.write("web.toml", TINY.replace("path:images", &source));
    let first = desk.events(&["web.toml", "--until", "preprocess"]);
    let total = content.lock().unwrap().1.len();
    let progress: Vec<_> = first
        .all
        .iter()
        .filter(|event| event["event"] == "progress")
        .map(|event| (event["task"].as_str().unwrap(), event["total"].as_u64()))
        .collect();
    assert!(progress.contains(&("download", Some(total as u64))), "{progress:?}");
    assert!(progress.contains(&("unpack", Some(total as u64))), "{progress:?}");
    let folder = desk.events(&["tiny.toml", "--until", "preprocess"]).digests();
    assert_eq!(first.digests()["preprocess"], folder["preprocess"]);
    let ranges: Vec<_> = server.requests().iter().map(|request| request.from()).collect();
    let expected: Vec<_> = std::iter::once(None)
        .chain((0..total).step_by(8000).map(|at| Some(at).filter(|&at| at > 0)))
        .collect();
    assert_eq!(ranges, expected, "the first request is the one that pins");
    // Another archive at the same address: nobody looks, until it is asked for.
    *content.lock().unwrap() = ("two", zip(&images(&desk).split_off(3)));
    assert_eq!(desk.events(&["web.toml", "--until", "fetch"]).with_outcome("fresh"), ["fetch"]);
    assert!(server.requests().is_empty());
    let refreshed = desk.events(&["web.toml", "--until", "fetch", "--refresh"]);
    assert_eq!(refreshed.with_outcome("ran"), ["fetch"]);
    assert_ne!(refreshed.digests()["fetch"], first.digests()["fetch"]);
}

/// Where the name of a file on the web says nothing, its content decides.
#[test]
fn a_file_on_the_web_is_images_or_weights_by_its_content() {
    let desk = Desk::empty();
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nn/weights/golden");
    let weights = fs::read(golden.join("zip.pth")).unwrap();
    let images = zip(&same(&["1_x.png"]));
    let server = Server::start(move |request, _| {
        let content = if request.path.starts_with("/w") { &weights } else { &images };
        Response::file(request, "e", content)
    });
    fetch(&desk, &format!("{}/w?id=7", server.address)).snapshot("weights_by_content");
    fetch(&desk, &format!("{}/images/latest", server.address)).snapshot("images_by_content");
    let text = TINY.replace("path:images", &format!("{}/model.pth", server.address));
    desk.write("wrong.toml", text);
    let ran = desk.pipe(&["run", "wrong.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("weights_in_place_of_images");
}
