//! What runs leave behind: the list, one run in full, two held against each other, the page.

use crate::support::{Desk, steady};

#[test]
fn runs_are_listed_shown_compared_and_drawn() {
    let desk = Desk::trained();
    desk.ok(&["run", "tiny.toml", "--set", "stages.train.epochs=2"]);

    let list = desk.ok(&["runs"]);
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    assert!(lines[1].starts_with("@0  ") && lines[1].ends_with("train, evaluate"), "{list}");
    assert!(lines[2].ends_with("fetch, explore, preprocess, train, evaluate"), "{list}");
    assert_eq!(desk.ok(&["runs", "--limit", "1"]).stderr, "and 1 older run; --limit shows them\n");

    let show = desk.ok(&["show", "@0"]);
    for expected in [
        "set       stages.train.epochs=2",
        "train.epochs",
        "epochs: 1 -> 2",
        "accuracy",
        "precision",
    ] {
        assert!(show.stdout.contains(expected), "{expected:?} is missing: {show}");
    }
    let id = desk.ok(&["runs", "--json"]).json()[0]["run"].as_str().unwrap().to_owned();
    assert!(desk.ok(&["show", &id[..5]]).stdout.starts_with(&format!("run       {id}\n")));

    let diff = desk.ok(&["diff", "@1", "@0"]);
    assert!(
        diff.stdout
            .lines()
            .any(|line| line.starts_with("train.epochs  1 ") && line.trim_end().ends_with('2')),
        "{diff}"
    );
    assert!(diff.stdout.contains("test split") && diff.stdout.contains("McNemar"), "{diff}");
    let json = desk.ok(&["diff", "@1", "@0", "--json"]).json();
    let train =
        json["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == "train").unwrap();
    assert_eq!(
        (&train["parameters"][0]["key"], &train["output_changed"]),
        (&"epochs".into(), &true.into())
    );
    let same = desk.ok(&["diff", "@0", "@0"]);
    assert!(same.stdout.ends_with("identical parameters and outputs\n"), "{same}");

    let report = desk.ok(&["report", "@0"]);
    let page = desk.read(report.stdout.trim());
    assert!(
        page.starts_with("<!doctype html>") || page.starts_with("<!DOCTYPE html>"),
        "{}",
        &page[..100.min(page.len())]
    );
    for outside in ["http://", "https://", "src=\"/", "@import"] {
        let cleaned = page.replace("http://www.w3.org/", "");
        assert!(!cleaned.contains(outside), "the page needs {outside}");
    }
    desk.ok(&["report", "@1", "@0", "--output", "both.html"]);
    assert!(desk.path("both.html").exists());

    let log = desk.ok(&["log", "@0", "train"]);
    assert!(
        log.stdout.contains("starts: epochs: 1 -> 2") && log.stdout.contains("epoch 2: "),
        "{log}"
    );
    let replayed = desk.ok(&["log", "@0", "fetch"]);
    assert!(!replayed.stdout.is_empty(), "{replayed}");
    assert_eq!(desk.pipe(&["log", "@0", "trian"]).code, 2);
    assert_eq!(desk.pipe(&["show", "@7"]).code, 2);
}

#[test]
fn the_closing_lines_say_what_came_of_it() {
    let desk = Desk::tiny();
    let ran = desk.ok(&["run", "tiny.toml"]);
    let text = steady(&ran.stdout, &desk);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "", "{ran}");
    assert!(
        lines[1].starts_with("accuracy ")
            && lines[1].contains("% on 6 test images (95 % interval "),
        "{ran}"
    );
    assert!(
        lines[2].starts_with("run     ") && lines[2].ends_with("  (5 stages ran, TIME)"),
        "{ran}"
    );
    assert!(
        lines[3].starts_with("report  cache/v1/runs/") && lines[3].ends_with("/report.html"),
        "{ran}"
    );
    assert!(
        lines[4].starts_with("model   cache/v1/artifacts/")
            && lines[4].ends_with("/model.safetensors"),
        "{ran}"
    );
    assert_eq!(
        lines[5..],
        [
            "next    pipe predict @0 IMAGE…  classify your own images",
            "        edit tiny.toml          then run again: only affected stages run",
        ]
    );
    for path in [lines[3], lines[4]] {
        assert!(desk.path(&path[8..]).exists(), "{path}");
    }
}

/// A run that compares has several evaluations: none of them speaks for the others.
#[test]
fn every_evaluation_has_its_headline() {
    let desk = Desk::trained();
    let again = "\n[stages.again]\nkind = \"evaluate\"\nneeds = { data = \"preprocess\", model = \"train\" }\n";
    desk.write("tiny.toml", desk.read("tiny.toml") + again);
    let ran = desk.ok(&["run", "tiny.toml", "--force=again"]);
    let accuracies: Vec<&str> =
        ran.stdout.lines().filter(|line| line.starts_with("accuracy ")).collect();
    assert!(accuracies[0].ends_with(")  evaluate") && accuracies[1].ends_with(")  again"), "{ran}");
    let page = desk.read(desk.ok(&["report", "@0"]).stdout.trim());
    for stage in ["evaluate", "again"] {
        assert!(
            page.contains(&format!("<h2>{stage}</h2>\n<div class=\"headline\">")),
            "{stage} has no headline"
        );
    }
}

#[test]
fn no_run_yet() {
    let desk = Desk::tiny();
    assert_eq!(desk.pipe(&["runs"]).code, 2);
    desk.ok(&["status", "tiny.toml"]);
    assert_eq!(desk.ok(&["runs"]).stdout, "no runs yet: start one with `pipe run FILE`\n");
    let ran = desk.pipe(&["show", "@0"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (2, "error: there is no run yet; `pipe run FILE` makes one\n")
    );
}
