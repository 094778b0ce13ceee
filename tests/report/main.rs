//! Pages of made-up runs: complete, truncated, hostile, enormous. They are made through the
//! library, since no pipeline makes such runs. `INSTA_UPDATE=always cargo test --test report`
//! rewrites the snapshots of their structure and text.

mod browser;
mod case;
mod interrupted;
mod outline;

use case::{Case, path_of, stored};
use interrupted::interrupted;
use outline::{assert_snapshot, check, outline};
use pipe::report::page;
use pipe::runs::{Record, Results, StageRecord, Status};
use pipe::store::Store;
use serde_json::{Value, json};
use std::fs;

/// A run in a folder of its own.
fn run(case: &Case) -> (tempfile::TempDir, Record) {
    let runs = tempfile::tempdir().unwrap();
    let record = case.run(runs.path(), StageRecord::default());
    (runs, record)
}

#[test]
fn a_page_shows_all_results_of_a_run() {
    let (_runs, record) = run(&Case::default());
    let html = page(&[Results::of(&record)], None);
    check(&html);
    assert_snapshot("complete", &outline(&html, &record));
    assert_eq!(html, page(&[Results::of(&record)], None));
}

#[test]
fn the_page_of_a_failed_run_begins_with_the_error() {
    let (_runs, record) =
        run(&Case { error: Some("the loss is <NaN in step 4"), ..Case::default() });
    let html = page(&[Results::of(&record)], None);
    assert_snapshot("failed", &outline(&html, &record));
}

#[test]
fn an_empty_record_makes_a_page() {
    for status in [
        Status::Running,
        Status::Ok,
        Status::Failed,
        Status::Cancelled,
        Status::Died,
        Status::Unreadable,
    ] {
        let record = Record { status, ..Record::default() };
        let html = page(&[Results::of(&record)], None);
        check(&html);
        assert_snapshot(&format!("empty_{status:?}").to_lowercase(), &outline(&html, &record));
    }
    check(&page(&[], None));
}

#[test]
fn names_are_escaped_everywhere() {
    let name = "</td><script>alert('1')</script>\" onload=\"x";
    let case = Case {
        classes: vec![name.to_owned(), "&amp;".to_owned()],
        explored: json!({ "classes": [{ "class": name, "count": 1 }], "formats": [{ "format": name, "count": 1 }],
            "rejected": { "count": 1, "examples": [{ "path": name, "reason": name }] } }),
        ..Case::default()
    };
    let (_runs, record) = run(&case);
    let stage = StageRecord {
        stage: name.to_owned(),
        error: Some(name.to_owned()),
        ..record.stages[0].clone()
    };
    let hostile = Record {
        pipeline: name.to_owned(),
        file: name.to_owned(),
        overrides: vec![name.to_owned()],
        stages: vec![record.stages[0].clone(), stage],
        ..record
    };
    for html in [
        page(&[Results::of(&hostile)], None),
        page(&[Results::of(&hostile), Results::of(&hostile)], None),
    ] {
        assert!(
            !html.contains("<script")
                && !html.contains("\" onload")
                && html.contains("&lt;script&gt;")
        );
        assert!(html.contains("&amp;amp;"));
    }
}

#[test]
fn a_page_of_twenty_thousand_images_and_a_thousand_classes_stays_small() {
    let classes: Vec<String> = (0..1000).map(|class| format!("class number {class}")).collect();
    let counts: Vec<Value> =
        classes.iter().map(|class| json!({ "class": class, "count": 20 })).collect();
    let (_runs, record) = run(&Case {
        classes,
        images: 20_000,
        epochs: 5_000,
        explored: json!({ "classes": counts }),
        ..Case::default()
    });
    let html = page(&[Results::of(&record)], None);
    check(&html);
    assert!(html.len() < 2_000_000, "{}", html.len());
    let outline = outline(&html, &record);
    let lines: Vec<&str> = outline.lines().map(str::trim).collect();
    let is_heading = |pair: &&[&str]| {
        ["h1 ", "h2 ", "h3 ", "summary "].iter().any(|name| pair[1].starts_with(name))
            || pair[0] == "figcaption"
    };
    let headings: Vec<&str> = lines.windows(2).filter(is_heading).map(|pair| pair[1]).collect();
    assert_snapshot("headings_of_a_large_run", &headings.join("\n"));
}

#[test]
fn truncated_results_are_left_out() {
    let (_runs, mut record) = run(&Case::default());
    // Without a seal the files are believed, as those of earlier versions are.
    record.format = 2;
    let folder = record.folder.join("results/all");
    for name in ["metrics.json", "curves.json", "history.csv", "explore.json", "predictions.csv"] {
        let text = fs::read(folder.join(name)).unwrap();
        for length in (0..text.len()).step_by(if text.len() > 400 { 37 } else { 7 }) {
            fs::write(folder.join(name), &text[..length]).unwrap();
            check(&page(&[Results::of(&record)], None));
        }
        fs::write(folder.join(name), &text).unwrap();
    }
}

#[test]
fn inconsistent_metrics_still_make_a_page() {
    let (_runs, mut record) = run(&Case::default());
    // Without a seal the files are believed, as those of earlier versions are.
    record.format = 2;
    let path = record.folder.join("results/all/metrics.json");
    let mut metrics: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    metrics["splits"]["test"]["confusion"] = json!([[1], [2, 3, 4, 5], []]);
    metrics["splits"]["test"]["accuracy"] = json!(1e300);
    metrics["splits"]["test"]["count"] = json!(u64::MAX);
    metrics["classes"] = json!(["a", "b", "c", "d", "e", "f", "g"]);
    fs::write(&path, metrics.to_string()).unwrap();
    check(&page(&[Results::of(&record)], None));
    check(&page(&[Results::of(&record), Results::of(&record)], None));
}

#[test]
fn several_runs_are_compared_with_the_first() {
    let runs = tempfile::tempdir().unwrap();
    let first = Case::default().run(runs.path(), StageRecord::default());
    let second = Case { epochs: 5, ..Case::default() }.run(runs.path(), StageRecord::default());
    let failed =
        Case { error: Some("no"), ..Case::default() }.run(runs.path(), StageRecord::default());
    let html = page(&[Results::of(&first), Results::of(&second), Results::of(&failed)], None);
    check(&html);
    let mut text = outline(&html, &first);
    for (record, name) in [(&second, "[second]"), (&failed, "[failed]")] {
        text = text.replace(record.id.as_str(), name);
    }
    assert_snapshot("comparison", &text);
}

/// Of six images, 2 and 5 are mistakes: each image is in the gallery and in its cell.
#[test]
fn mistakes_and_hits_are_shown_as_images() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let case = Case::default();
    let source = tempfile::tempdir().unwrap();
    for image in 0..case.images {
        image::RgbImage::from_pixel(12, 10, image::Rgb([40 * image as u8, 90, 30]))
            .save(source.path().join(path_of(image)))
            .unwrap();
    }
    let record = stored(&case, &store, source.path(), 8);
    let html = page(&[Results::of(&record).with_store(&store)], None);
    check(&html);
    assert_eq!(html.matches("data:image/jpeg;base64,").count(), 12);
    for image in 0..case.images {
        let title =
            format!("<img src=\"[^\"]*\" alt=\"{image}.png: [^\"]*\" title=\"{image}.png\"");
        assert_eq!(regex::Regex::new(&title).unwrap().find_iter(&html).count(), 2, "{image}");
    }
    assert_snapshot("images", &outline(&html, &record));
    let html = page(&[Results::of(&record)], None);
    check(&html);
    assert!(!html.contains("base64"));
    assert_snapshot("images_that_were_collected", &outline(&html, &record));
}

/// The page of a run that was interrupted or failed has the epochs up to then.
#[test]
fn a_training_that_did_not_end_has_curves() {
    for (name, error) in [
        ("interrupted_training", None),
        ("failed_training", Some("step 70 of `train` has no loss")),
    ] {
        let runs = tempfile::tempdir().unwrap();
        let record = interrupted(runs.path(), error);
        let html = page(&[Results::of(&record)], None);
        check(&html);
        assert_snapshot(name, &outline(&html, &record));
    }
}

/// A class without test images is named, and isn't among those with the lowest F1.
#[test]
fn a_class_without_test_images_is_said_to_be_absent() {
    let classes = ["shirt", "dress", "hat", "sock"].map(str::to_owned).to_vec();
    let (_runs, record) = run(&Case { classes, labels: 2, images: 9, ..Case::default() });
    let html = page(&[Results::of(&record)], None);
    check(&html);
    let outline = outline(&html, &record);
    let (_, section) = outline.split_once("h2 Classes").unwrap();
    let (section, _) = section.split_once("    section\n").unwrap();
    assert_snapshot("absent_classes", section);
}
