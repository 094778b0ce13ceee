//! `pipe.lock`: what remote sources are pinned to, for everybody who has a clone of a repository.

use crate::server::{Response, Server};
use crate::support::{Desk, Ran};
use std::fs;
use std::io::{Cursor, Write};
use std::sync::{Arc, Mutex};
use zip::write::{SimpleFileOptions, ZipWriter};

/// An archive with one image of this color.
fn archive(color: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let image = image::RgbImage::from_pixel(8, 8, image::Rgb([color, 2, 3]));
    image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("a/1.png", SimpleFileOptions::default()).unwrap();
    writer.write_all(&bytes).unwrap();
    writer.finish().unwrap().into_inner()
}

/// The served content: the number of Kaggle's version, which is the ETag, too, and the archive.
type Current = Arc<Mutex<(u32, Vec<u8>)>>;

/// A data set of Kaggle's and the same archive as a file.
fn serve() -> (Server, Current) {
    let current: Current = Arc::new(Mutex::new((1, archive(1))));
    let served = Arc::clone(&current);
    let server = Server::start(move |request, _| {
        let (version, content) = &*served.lock().unwrap();
        if request.path.contains("/view/") {
            let facts = format!(r#"{{"currentVersionNumber":{version},"licenseName":"CC0-1.0"}}"#);
            return Response::json(200, &facts);
        }
        // Kaggle keeps old versions.
        let content = if request.path.contains("Number=1") { archive(1) } else { content.clone() };
        Response::file(request, &version.to_string(), &content)
            .header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
    });
    (server, current)
}

fn desk(server: &Server) -> Desk {
    let desk = Desk::empty();
    let file = format!("{}/set.zip?token=s3cret", server.address);
    desk.write(
        "p/k.toml",
        format!("[stages.kaggle]\nkind = \"fetch\"\nsource = \"kaggle:o/n\"\n\n[stages.web]\nkind = \"fetch\"\nsource = \"{file}\"\n"),
    );
    desk
}

fn run(desk: &Desk, server: &Server, arguments: &[&str]) -> Ran {
    let mut command = desk.command(&[&["run", "p/k.toml", "--jobs", "1"], arguments].concat());
    command.env("PIPE_KAGGLE", &server.address).env("HOME", desk.path("home"));
    desk.output(command)
}

fn digests(desk: &Desk, server: &Server, arguments: &[&str]) -> Vec<String> {
    let ran = run(desk, server, &[arguments, &["--json"]].concat());
    assert_eq!(ran.code, 0, "{ran}");
    ran.events().digests().into_values().collect()
}

#[test]
fn a_clone_gets_the_data_of_the_lock() {
    let (server, current) = serve();
    let original = desk(&server);
    let first = digests(&original, &server, &[]);
    let lock = original.read("p/pipe.lock");
    assert!(!lock.contains("s3cret"), "{lock}");
    original.snapshot("lock", &lock);
    // Nothing changes while nothing is refreshed.
    let written = fs::metadata(original.path("p/pipe.lock")).unwrap().modified().unwrap();
    digests(&original, &server, &["--locked"]);
    assert_eq!(fs::metadata(original.path("p/pipe.lock")).unwrap().modified().unwrap(), written);
    // Kaggle has a newer version by now, and a clone gets the locked one.
    current.lock().unwrap().0 = 2;
    let clone = desk(&server);
    clone.write("p/pipe.lock", &lock);
    server.requests();
    let until = ["--until", "kaggle", "--locked"];
    assert_eq!(digests(&clone, &server, &until)[0], first[0]);
    let paths: Vec<_> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/api/v1/datasets/download/o/n?datasetVersionNumber=1"]);
    assert_eq!(clone.read("p/pipe.lock"), lock);
    // Without the lock, it gets the newer one.
    let other = desk(&server);
    current.lock().unwrap().1 = archive(2);
    let second = digests(&other, &server, &[]);
    assert_ne!(second, first);
    // A refresh of the original leads to the same.
    assert_eq!(digests(&original, &server, &["--refresh"]), second);
    assert_eq!(original.read("p/pipe.lock"), other.read("p/pipe.lock"));
}

#[test]
fn locked_refuses_what_differs() {
    let (server, current) = serve();
    let original = desk(&server);
    run(&original, &server, &["--locked"]).snapshot("locked_without_a_lock");
    assert!(!original.path("p/pipe.lock").exists());
    run(&original, &server, &["--until", "kaggle"]);
    run(&original, &server, &["--locked"]).snapshot("locked_without_an_entry");
    digests(&original, &server, &[]);
    let lock = original.read("p/pipe.lock");
    *current.lock().unwrap() = (2, archive(2));
    // The server is looked at only with --refresh.
    digests(&original, &server, &["--locked"]);
    run(&original, &server, &["--locked", "--refresh"])
        .snapshot("locked_refresh_of_a_changed_source");
    assert_eq!(original.read("p/pipe.lock"), lock);
    // The file isn't there any more in the version of the lock.
    let clone = desk(&server);
    clone.write("p/pipe.lock", &lock);
    run(&clone, &server, &["--locked"]).snapshot("locked_version_is_gone");
    // The same version with other content.
    current.lock().unwrap().0 = 1;
    run(&clone, &server, &["--locked", "--until", "web"]).snapshot("locked_content_is_another");
    assert_eq!(clone.read("p/pipe.lock"), lock);
}

#[test]
fn an_unusable_lock_is_named() {
    let (server, _) = serve();
    let desk = desk(&server);
    desk.write("p/pipe.lock", "<<<<<<< HEAD\n");
    let ran = run(&desk, &server, &[]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("lock_with_a_conflict");
    assert!(server.requests().is_empty());
}

#[test]
fn a_pipeline_without_remote_sources_has_no_lock() {
    let desk = Desk::tiny();
    desk.ok(&["run", "tiny.toml", "--until", "fetch", "--locked"]);
    assert!(!desk.path("pipe.lock").exists());
}
