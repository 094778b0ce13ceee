//! One machine pushes a run, another takes its outputs and runs nothing: through a folder, a web server
//! and a server that is compatible with S3.

use crate::server::{Request, Response};
use crate::static_server::{SECRET, s3, serving, signed, taking_uploads};
use crate::support::{Desk, Events, STAGES};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The digests of a run that took everything from elsewhere.
fn without_running(events: &Events) -> Vec<(String, String)> {
    assert_eq!(events.with_outcome("fresh").len(), STAGES.len());
    events.digests().into_iter().collect()
}

fn digests_of(desk: &Desk) -> Vec<(String, String)> {
    let show = desk.ok(&["show", "@0", "--json"]).json();
    let stages = show["run"]["stages"].as_array().unwrap().iter();
    let mut digests: Vec<(String, String)> = stages
        .map(|stage| {
            let text = |name: &str| stage[name].as_str().unwrap().to_owned();
            (text("stage"), text("digest"))
        })
        .collect();
    digests.sort();
    digests
}

#[test]
fn what_one_machine_pushed_another_one_does_not_compute() {
    let (one, other) = (Desk::trained(), Desk::tiny());
    let shared = tempfile::tempdir().unwrap();
    let place = shared.path().join("pipe");
    let place = place.to_str().unwrap();
    one.ok(&["runs", "name", "@0", "baseline"]);
    let hidden = |text: String| text.replace(place, "[shared]");
    let push = |arguments: &[&str]| {
        hidden(one.ok(&[&["cache", "push", "@0", place], arguments].concat()).stdout)
    };
    one.snapshot("push_dry_run", &push(&["--dry-run"]));
    assert!(!fs::exists(place).unwrap());
    one.snapshot("push", &push(&[]));
    one.snapshot("push_again", &push(&[]));
    let json = one.ok(&["cache", "push", "@0", place, "--json"]).json();
    assert_eq!(json["runs"][0]["present"], 5);

    let from = ["tiny.toml", "--cache-from", place];
    other.snapshot("status", &hidden(other.ok(&[&["status"], &from[..]].concat()).stdout));
    // One after the other, so that the order of the lines is known.
    let ran = other.ok(&[&["run"], &from[..], &["--jobs", "1"]].concat());
    other.snapshot("run", &hidden(ran.stderr + &ran.stdout));
    assert_eq!(digests_of(&other), digests_of(&one));
    // The tensor cache stays: nothing reads it. Its small results are in the record.
    let preprocess = &digests_of(&one)[3];
    assert_eq!(preprocess.0, "preprocess");
    let folder = format!("cache/v1/artifacts/{}/{}", &preprocess.1[..2], preprocess.1);
    assert!(one.path(&folder).exists() && !other.path(&folder).exists());
    assert_eq!(other.result("preprocess/samples.tsv"), one.result("preprocess/samples.tsv"));
    assert_eq!(other.result("evaluate/metrics.json"), one.result("evaluate/metrics.json"));
    other.ok(&["predict", "@0", "images/0_disc.png"]);
    other.ok(&["cache", "verify"]);
    // A change below trains here, with the tensor cache from there.
    let more = [&from[..], &["--set", "stages.train.epochs=2"]].concat();
    let events = other.events(&more);
    assert_eq!(events.with_outcome("ran"), ["evaluate", "train"]);
    assert!(other.path(&folder).exists());

    let third = Desk::empty();
    let pulled = third.ok(&["cache", "pull", "baseline", place]);
    third.snapshot("pull", &hidden(pulled.stdout));
    assert_eq!(digests_of(&third), digests_of(&one));
    for arguments in
        [&["show", "@0"][..], &["diff", "@0", "@0"], &["report", "@0"], &["cache", "verify"]]
    {
        third.ok(arguments);
    }
    third.ok(&["predict", "baseline", one.path("images/0_disc.png").to_str().unwrap()]);
    let again = third.ok(&["cache", "pull", "baseline", place]);
    third.snapshot("pull_again", &hidden(again.stdout));
}

#[test]
fn a_store_behind_a_web_server_is_a_cache_for_those_with_a_token() {
    let (one, other) = (Desk::trained(), Desk::tiny());
    let server = serving(&one.path("cache"), |request: &Request, response: Response| match request
        .header("authorization")
    {
        Some("Bearer secret-token") => response,
        _ => Response::status(401),
    });
    other.pipe(&["status", "tiny.toml", "--cache-from", &server.address]).snapshot("no_token");
    server.requests();
    let mut command = other.command(&["run", "tiny.toml", "--json"]);
    command.env("PIPE_CACHE_FROM", &server.address).env("PIPE_CACHE_TOKEN", "secret-token");
    let ran = other.output(command);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran}");
    assert!(!ran.stdout.contains("secret-token"));
    assert_eq!(without_running(&ran.events()), digests_of(&one));
    let requests = server.requests();
    assert!(requests.iter().any(|request| request.path.ends_with("model.safetensors")));
    assert!(!requests.iter().any(|request| request.path.ends_with("records.bin")));
    assert!(crate::support::containing(&other.path("cache"), "secret-token").is_empty());
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let (one, other) = (Desk::trained(), Desk::tiny());
    let files = serving(&one.path("cache"), |request: &Request, response: Response| {
        assert_eq!(request.header("authorization"), None);
        response
    });
    let elsewhere = files.address.clone();
    let server = serving(&one.path("cache"), move |request: &Request, _| {
        assert!(request.header("authorization").is_some());
        Response::redirect(&format!("{elsewhere}{}", request.path))
    });
    let mut command = other.command(&["run", "tiny.toml", "--json"]);
    command.env("PIPE_CACHE_FROM", &server.address);
    command.env("PIPE_CACHE_USER", "me").env("PIPE_CACHE_PASSWORD", "secret");
    let ran = other.output(command);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(without_running(&ran.events()), digests_of(&one));
}

#[test]
fn runs_are_pushed_to_a_bucket_and_taken_from_it() {
    let (one, other) = (Desk::trained(), Desk::tiny());
    let (server, objects) = s3();
    one.ok(&["runs", "name", "@0", "base-line.1"]);
    let push = ["cache", "push", "@0", "s3://lab/a prefix"];
    let ran = one.output(signed(&one, &server.address, SECRET, &push));
    ran.snapshot("push_to_a_bucket");
    let kept = objects.lock().unwrap().clone();
    assert!(kept.keys().all(|path| path.starts_with("/lab/a%20prefix/v1/")), "{:?}", kept.keys());
    one.output(signed(&one, &server.address, SECRET, &push)).snapshot("push_to_a_bucket_again");
    assert_eq!(kept, *objects.lock().unwrap());

    let run = ["run", "tiny.toml", "--cache-from", "s3://lab/a prefix/", "--json"];
    let ran = other.output(signed(&other, &server.address, SECRET, &run));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran}");
    assert_eq!(without_running(&ran.events()), digests_of(&one));

    let third = Desk::empty();
    let pull = ["cache", "pull", "base-line.1", "s3://lab/a prefix"];
    third.output(signed(&third, &server.address, SECRET, &pull)).snapshot("pull_from_a_bucket");
    assert_eq!(digests_of(&third), digests_of(&one));
    third.ok(&["cache", "verify"]);

    let refused = signed(&third, &server.address, "another secret", &pull);
    third.output(refused).snapshot("a_wrong_secret");
    let mut anonymous = third.command(&pull);
    anonymous.env("AWS_ENDPOINT_URL", &server.address);
    third.output(anonymous).snapshot("no_secret");
}

#[test]
fn runs_are_pushed_to_a_web_server_that_takes_uploads() {
    let (one, other) = (Desk::trained(), Desk::tiny());
    let (server, objects) = taking_uploads("token");
    let with_token = |desk: &Desk, arguments: &[&str]| {
        let mut command = desk.command(arguments);
        command.env("PIPE_CACHE_TOKEN", "token");
        desk.output(command)
    };
    let push = ["cache", "push", "@0", &server.address];
    one.pipe(&push).snapshot("push_without_a_token");
    assert!(objects.lock().unwrap().is_empty());
    let ran = with_token(&one, &push);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran}");
    let run = ["run", "tiny.toml", "--cache-from", &server.address, "--json"];
    assert_eq!(without_running(&with_token(&other, &run).events()), digests_of(&one));
}

#[test]
fn an_interrupted_push_is_not_seen_and_goes_on() {
    let one = Desk::trained();
    let (server, objects) = s3();
    // The server fails after some uploads: a second one in front of it forwards nothing.
    let count = Arc::new(AtomicUsize::new(0));
    let (kept, counted) = (Arc::clone(&objects), Arc::clone(&count));
    let failing = crate::server::Server::start(move |request, _| {
        let is_put = request.method == "PUT";
        match is_put && counted.fetch_add(1, Ordering::Relaxed) >= 4 {
            true => Response::status(400),
            false if is_put => {
                kept.lock().unwrap().insert(request.path.clone(), request.body.clone());
                Response::status(200)
            }
            false => Response::status(404),
        }
    });
    let push = ["cache", "push", "@0", "s3://lab/pipe"];
    let ran = one.output(signed(&one, &failing.address, SECRET, &push));
    assert_eq!(ran.code, 1, "{ran}");
    let is_run = |path: &String| path.ends_with("/run.json");
    assert!(!objects.lock().unwrap().keys().any(is_run));
    let ran = one.output(signed(&one, &server.address, SECRET, &push));
    assert_eq!(ran.code, 0, "{ran}");
    assert!(objects.lock().unwrap().keys().any(is_run));
    let other = Desk::tiny();
    let run = ["run", "tiny.toml", "--cache-from", "s3://lab/pipe", "--json"];
    let ran = other.output(signed(&other, &server.address, SECRET, &run));
    assert_eq!(without_running(&ran.events()), digests_of(&one));
}

#[test]
fn two_pushes_at_once_are_harmless() {
    let one = Desk::trained();
    let shared = tempfile::tempdir().unwrap();
    let place = shared.path().to_str().unwrap();
    let push = ["cache", "push", "@0", place];
    let children: Vec<_> = (0..3).map(|_| one.start(&push)).collect();
    for child in children {
        let ran = one.wait(&push, child);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran}");
    }
    let third = Desk::empty();
    let id = one.ok(&["show", "@0", "--json"]).json()["run"]["id"].as_str().unwrap().to_owned();
    third.ok(&["cache", "pull", &id, place]);
    third.ok(&["cache", "verify"]);
    assert_eq!(digests_of(&third), digests_of(&one));
}
