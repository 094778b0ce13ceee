//! What goes wrong with the Hugging Face Hub: broken and changed downloads, limits and refusals.

use crate::hub::{Hub, Repository, SECRET, folders, image_folder, one, pipeline, png, sha256};
use crate::packed::zip;
use crate::server::{Request, Response};
use std::sync::Mutex;
use std::time::{Duration, Instant};

#[test]
fn a_broken_download_goes_on_although_the_address_expired() {
    let archive = zip(&folders("", 12));
    let whole = archive.clone();
    let expired =
        Response { body: b"<Error>AccessDenied</Error>".to_vec(), ..Response::status(403) };
    let hub = Hub::with(
        Repository::new("datasets", [one("train.zip", archive)]),
        |_, _| None,
        move |request, number| match number {
            0 => Some(Response::file(request, &sha256(&whole), &whole).cut(2000)),
            1 => Some(expired.clone()),
            _ => None,
        },
    );
    let desk = pipeline("hf:o/n");
    let ran = hub.run(&desk, &["h.toml"]);
    assert_eq!(ran.code, 0, "{ran}");
    ran.snapshot("run_with_an_expired_address");
    let parts: Vec<_> = hub.storage.requests().iter().map(|request| request.from()).collect();
    assert_eq!(parts, [None, Some(2000), Some(2000)]);
    let resolved = hub.asked().into_iter().filter(|path| path.contains("/resolve/")).count();
    assert!(resolved >= 3, "the Hub was asked for each address: {resolved}");
}

/// 416, where the server knows less than was downloaded.
#[test]
fn a_partial_download_of_something_else_is_begun_again() {
    let archive = zip(&folders("", 12));
    let long = [archive.clone(), vec![7; 50_000]].concat();
    let part = Mutex::new(long);
    let hub = Hub::with(
        Repository::new("datasets", [one("train.zip", archive)]),
        |_, _| None,
        move |request, number| match number {
            0 => {
                let content = part.lock().unwrap();
                Some(Response::file(request, "e", &content).cut(content.len() - 10))
            }
            1 => Some(Response::status(416).header("Content-Range", "bytes */100")),
            _ => None,
        },
    );
    let ran = hub.run(&pipeline("hf:o/n"), &["h.toml"]);
    assert_eq!(ran.code, 0, "{ran}");
    let parts: Vec<_> = hub.storage.requests().iter().map(|request| request.from()).collect();
    assert!(parts.len() == 3 && parts[1].is_some() && parts[2].is_none(), "{parts:?}");
}

#[test]
fn changed_files_are_refused() {
    let small = Repository::new("datasets", [one("cat/1.png", "one"), one("dog/1.png", "two")]);
    let large = Repository::new("datasets", [one("train.zip", zip(&folders("", 9)))]);
    let damaged = |name: &str, part: &'static str, on_api: bool| {
        let answer = move |request: &Request, _| {
            let is_it = request.path.contains("/resolve/") || !on_api;
            (is_it && request.path.contains(part))
                .then(|| Response::file(request, "x", b"something else"))
        };
        let hub = match on_api {
            true => Hub::with(small.clone(), answer, |_, _| None),
            false => Hub::with(large.clone(), |_, _| None, answer),
        };
        let desk = pipeline("hf:o/n");
        let ran = hub.run(&desk, &["h.toml"]);
        assert_eq!(ran.code, 1, "{ran}");
        ran.snapshot(name);
    };
    damaged("another_small_file", "cat/1.png", true);
    damaged("another_large_file", "signature", false);
}

#[test]
fn each_refusal_has_its_sentence_and_comes_at_once() {
    let of = |status, code: &str, message: &str| {
        let response = Response::status(status).header("X-Error-Code", code);
        response.header("X-Error-Message", message)
    };
    let invalid = "Invalid credentials in Authorization header";
    // The part of the addresses that is refused, whether there is a token, and the answer.
    let cases: [(&str, &str, bool, Response); 14] = [
        ("private", "", false, of(401, "RepoNotFound", "Repository not found")),
        ("wrong_token", "", true, of(401, "", invalid)),
        ("gated", "/resolve/", false, of(401, "GatedRepo", "Access to dataset o/n is restricted.")),
        (
            "gated_with_a_token",
            "/resolve/",
            true,
            of(
                403,
                "GatedRepo",
                "Access to dataset o/n is restricted and you are not in the authorized list.",
            ),
        ),
        ("weak_token", "/tree/", true, of(403, "", "")),
        ("not_found", "", true, of(404, "RepoNotFound", "Repository not found")),
        ("no_revision", "/revision/", false, of(404, "RevisionNotFound", "Invalid rev id")),
        ("no_file", "/resolve/", false, of(404, "EntryNotFound", "Entry not found")),
        ("too_many", "", false, Response::status(429).header("Retry-After", "120")),
        (
            "too_many_with_a_limit",
            "/revision/",
            true,
            Response::status(429).header("RateLimit", "\"api\";r=0;t=250"),
        ),
        ("broken", "", false, Response::status(503)),
        ("loop", "/revision/", false, Response::redirect("/api/datasets/o/n/revision/main")),
        ("another_page", "/revision/", false, Response::json(200, "<html>")),
        (
            "another_host",
            "/tree/",
            false,
            Response::json(200, "[]").header("Link", "<http://127.0.0.1:9/next>; rel=\"next\""),
        ),
    ];
    for (name, part, has_token, response) in cases {
        let desk = pipeline("hf:datasets/o/n");
        let hub = Hub::with(
            image_folder(),
            move |request, _| request.path.contains(part).then(|| response.clone()),
            |_, _| None,
        );
        let mut command = hub.command(&desk, &["run", "h.toml"]);
        if has_token {
            command.env("HF_TOKEN", SECRET);
        }
        let since = Instant::now();
        let ran = desk.output(command);
        assert!(since.elapsed() < Duration::from_secs(8), "{name}: {:?}", since.elapsed());
        assert_eq!(ran.code, 1, "{name}: {ran}");
        assert!(!format!("{ran}").contains(SECRET));
        ran.snapshot(&format!("refused_{name}"));
    }
}

#[test]
fn a_limit_of_requests_is_waited_for() {
    let hub = Hub::with(
        image_folder(),
        |request, number| {
            let is_early = request.path.contains("/resolve/") && number < 6;
            let limit = "\"resolvers\";r=0;t=1";
            is_early.then(|| Response::status(429).header("RateLimit", limit))
        },
        |_, _| None,
    );
    let since = Instant::now();
    let ran = hub.run(&pipeline("hf:o/n"), &["h.toml"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
}

#[test]
fn unusable_names_variables_and_data_sets_are_named() {
    let hub = Hub::start(Repository::new("datasets", [one("a.json", "{}"), one("b.mp3", "x")]));
    for (source, name) in [
        ("hf:o", "no_repository"),
        ("hf:o/n", "no_images"),
        ("hf:o/other", "neither_data_set_nor_model"),
    ] {
        let desk = pipeline(source);
        hub.run(&desk, &["h.toml"]).snapshot(name);
    }
    for (variable, value, name) in [
        ("HF_ENDPOINT", "http://mirror.example", "insecure_endpoint"),
        ("HF_HUB_OFFLINE", "1", "offline"),
        ("HF_TOKEN", "two words", "unusable_token"),
    ] {
        let desk = pipeline("hf:o/n");
        let mut command = hub.command(&desk, &["run", "h.toml"]);
        command.env(variable, value);
        desk.output(command).snapshot(name);
    }
}

/// Paths with `..` are hidden by their dots, so that they are passed over.
#[test]
fn paths_outside_of_a_repository_are_refused() {
    let files = vec![one("/up.png", png(1, 1)), one("a/1.png", png(1, 2))];
    let (desk, hub) = (pipeline("hf:o/n"), Hub::start(Repository::new("datasets", files)));
    let ran = hub.run(&desk, &["h.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("a_path_outside");
}
