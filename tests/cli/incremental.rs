//! A data set that grows, shrinks and changes: what is decoded again, which files are named as the
//! reason, and how records are stored.

use crate::support::{Desk, Events};

const UNTIL: [&str; 3] = ["tiny.toml", "--until", "preprocess"];

/// Images that `preprocess` decoded and copied.
fn counts(events: &Events) -> [u64; 2] {
    ["decoded", "copied"].map(|name| events.count(name))
}

/// The sizes of the files called `records.bin` in artifacts, sorted.
fn records(desk: &Desk) -> Vec<u64> {
    let entries = walkdir::WalkDir::new(desk.path("cache/v1/artifacts")).into_iter().flatten();
    let found = entries.filter(|entry| entry.file_name() == "records.bin");
    let mut sizes: Vec<u64> = found.map(|entry| entry.metadata().unwrap().len()).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn new_images_alone_are_decoded() {
    let desk = Desk::tiny();
    let all = std::fs::read_dir(desk.path("images")).unwrap().count() as u64;
    assert_eq!(counts(&desk.events(&UNTIL)), [all, 0]);
    desk.images("more", &["disc", "bar", "frame"], 20);
    for index in 50..60 {
        let name = ["disc", "bar", "frame"][index % 3];
        let (from, to) = (format!("more/{index}_{name}.png"), format!("images/{index}_{name}.png"));
        std::fs::rename(desk.path(&from), desk.path(&to)).unwrap();
    }
    let grown = desk.events(&UNTIL);
    assert_eq!(counts(&grown), [10, all]);
    grown.snapshot_reasons("reasons_after_ten_images");
    // Neither labels nor the split need pixels.
    desk.edit("tiny.toml", "train = 0.5, validation = 0.25", "train = 0.25, validation = 0.5");
    assert_eq!(counts(&desk.events(&UNTIL)), [0, all + 10]);
    desk.edit(
        "tiny.toml",
        "[stages.fetch]",
        "class_names = { disc = \"round\" }\n\n[stages.fetch]",
    );
    assert_eq!(counts(&desk.events(&UNTIL)), [0, all + 10]);
    // A deleted image disappears.
    std::fs::remove_file(desk.path("images/50_frame.png")).unwrap();
    assert_eq!(counts(&desk.events(&UNTIL)), [0, all + 9]);
    desk.images("images", &["disc", "bar", "frame"], 18);
    std::fs::remove_file(desk.path("images/3_disc.png")).unwrap();
    desk.ok(&[&["run"], &UNTIL[..]].concat()).snapshot("some_images_came_and_one_went");
}

#[test]
fn explore_looks_at_new_images_alone_and_finds_the_same() {
    let desk = Desk::tiny();
    let until = ["tiny.toml", "--until", "explore"];
    let examined = |events: &Events| events.count("examined");
    assert_eq!(examined(&desk.events(&until)), 24);
    desk.images("images", &["disc", "bar", "frame"], 10);
    std::fs::remove_file(desk.path("images/3_disc.png")).unwrap();
    desk.write("images/broken.png", "no image");
    let grown = desk.events(&until);
    assert_eq!(examined(&grown), 7);
    let fresh = desk.events(&[&until[..], &["--cache", "fresh"]].concat());
    assert_eq!(examined(&fresh), 30);
    assert_eq!(grown.digests()["explore"], fresh.digests()["explore"]);
    // What can't be decoded is tried again.
    std::fs::remove_file(desk.path("images/4_bar.png")).unwrap();
    assert_eq!(examined(&desk.events(&until)), 1);
}

#[test]
fn files_that_came_went_and_changed_are_named() {
    let desk = Desk::tiny();
    desk.events(&UNTIL);
    for name in ["a_disc", "b_disc", "c_bar", "d_bar"] {
        let from = desk.path("images/0_disc.png");
        std::fs::copy(from, desk.path(&format!("images/9{}.png", name))).unwrap();
    }
    std::fs::remove_file(desk.path("images/1_bar.png")).unwrap();
    desk.write("images/notes.txt", "x");
    desk.write("images/.DS_Store", "x");
    std::fs::copy(desk.path("images/3_disc.png"), desk.path("images/6_disc.png")).unwrap();
    desk.ok(&["status", "tiny.toml"]).snapshot("status_after_changed_files");
    desk.ok(&["why", "tiny.toml", "fetch"]).snapshot("why_after_changed_files");
    let json = desk.ok(&["why", "tiny.toml", "fetch", "--json"]).json();
    let details = serde_json::to_string_pretty(&json["reason_details"]).unwrap();
    desk.snapshot("why_after_changed_files_as_json", &details);
    // The memo may be gone: the artifact has the earlier listing, too.
    std::fs::remove_dir_all(desk.path("cache/v1/memo")).unwrap();
    let again = desk.ok(&["why", "tiny.toml", "fetch", "--json"]).json();
    assert_eq!(again["reason_details"], json["reason_details"]);
}

#[test]
fn changed_rows_of_a_table_are_named() {
    let desk = Desk::empty();
    desk.images("images", &["x"], 12);
    let rows = |class: fn(usize) -> &'static str| -> String {
        (0..12).map(|at| format!("{at}_x,{}\n", class(at))).collect()
    };
    let file = "[dataset]\nlabels = { from = \"csv\", file = \"labels.csv\" }\n\
         split = { method = \"exact\", train = 0.5, test = 0.5 }\n[stages.fetch]\nsource = \"path:images\"\n\
         [stages.preprocess]\nneeds = { images = \"fetch\" }\nsize = 32\n";
    desk.write("p.toml", file);
    desk.write("labels.csv", format!("id,label\n{}", rows(|at| ["cat", "dog"][at % 2])));
    assert_eq!(counts(&desk.events(&["p.toml"])), [12, 0]);
    desk.write("labels.csv", format!("id,label\n{}", rows(|at| ["cat", "dog"][at / 9])));
    desk.ok(&["status", "p.toml"]).snapshot("status_after_changed_rows");
    let labelled = desk.events(&["p.toml"]);
    assert_eq!(labelled.with_outcome("ran"), ["preprocess"]);
    assert_eq!(counts(&labelled), [0, 12]);
}

#[test]
fn records_are_stored_as_jpeg_and_the_pipeline_runs() {
    let desk = Desk::tiny();
    desk.events(&UNTIL);
    desk.edit("tiny.toml", "size = 32", "size = 32\nstore = \"jpeg\"");
    let stored = desk.events(&["tiny.toml", "--threads", "1"]);
    let all = std::fs::read_dir(desk.path("images")).unwrap().count() as u64;
    // Raw records aren't copied into JPEG ones.
    assert_eq!(counts(&stored), [all, 0]);
    let sizes = records(&desk);
    assert!(sizes.len() == 2 && sizes[0] * 2 < sizes[1], "{sizes:?}");
    let again = desk.events(&["tiny.toml", "--threads", "3", "--cache", "other"]);
    assert_eq!(again.digests(), stored.digests());
    desk.ok(&["cache", "verify"]);
    let wrong = ["status", "tiny.toml", "--set", "stages.preprocess.store=\"raw\"", "--set"];
    let ran = desk.pipe(&[&wrong[..], &["stages.preprocess.jpeg_quality=90"]].concat());
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("a_quality_of_raw_records");
}

#[test]
fn disk_usage_is_shown_by_pipeline_and_run() {
    let desk = Desk::tiny();
    desk.events(&UNTIL);
    desk.write("other.toml", desk.read("tiny.toml"));
    desk.events(&["other.toml", "--until", "preprocess", "--set", "stages.preprocess.size=16"]);
    desk.ok(&["cache", "du"]).snapshot("du_of_two_pipelines");
    let json = desk.ok(&["cache", "du", "--json"]).json();
    let [other, tiny] = [0, 1].map(|at| json["by_pipeline"][at].clone());
    assert_eq!((&other["pipeline"], &tiny["pipeline"]), (&"other".into(), &"tiny".into()));
    // Both have the fetched listing; each has its own records.
    assert_eq!(other["shared"], tiny["shared"]);
    let exclusive = |one: &serde_json::Value| one["exclusive"].as_u64().unwrap();
    let [small, large] = [0, 1].map(|at| records(&desk)[at]);
    assert!(exclusive(&other) > small && exclusive(&other) < large);
    assert!(exclusive(&tiny) > large);
    assert_eq!(json["by_run"][0]["exclusive"], other["exclusive"]);
    assert_eq!(json["unused_artifacts"]["count"], 0);
}
