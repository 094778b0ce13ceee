//! A user's own images: by `path:`, by `pipe init`, from anywhere.

use crate::support::Desk;

#[test]
fn images_of_ones_own_by_one_override() {
    let desk = Desk::tiny();
    desk.write("far/away/tiny.toml", desk.read("tiny.toml"));
    // A path in `--set` is relative to the working directory, a path in the file to the file's
    // folder.
    let ran = desk.pipe(&["run", "far/away/tiny.toml", "--until", "preprocess"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("images_beside_another_file");
    let events = desk.events(&[
        "far/away/tiny.toml",
        "--until",
        "preprocess",
        "--set",
        "stages.fetch.source=path:images",
    ]);
    assert_eq!(events.with_outcome("ran"), ["fetch", "preprocess"]);
}

#[test]
fn unlabelled_images_are_predicted_and_never_scored() {
    let desk = Desk::tiny();
    desk.images("more/train", &["disc", "bar", "frame"], 8);
    desk.images("more/test", &["a", "b"], 2);
    for (index, name) in ["0_a", "1_b", "2_a", "3_b"].iter().enumerate() {
        std::fs::rename(
            desk.path(&format!("more/test/{name}.png")),
            desk.path(&format!("more/test/{index}.png")),
        )
        .unwrap();
    }
    desk.edit("tiny.toml", "path:images", "path:more");
    desk.edit("tiny.toml", "[stages.fetch]", "unlabelled = [\"test\"]\n\n[stages.fetch]");
    desk.ok(&["run", "tiny.toml", "--jobs", "1"]).snapshot("run_with_unlabelled_images");
    let show = desk.ok(&["show", "@0", "--json"]).json();
    assert_eq!(show["evaluations"][0]["metrics"]["splits"]["test"]["count"], 6);
    let folder = desk.path(show["folder"].as_str().unwrap());
    let path = folder.join("results/evaluate/predictions.csv");
    let predictions = std::fs::read_to_string(path).unwrap();
    let unlabelled = |line: &&str| line.contains("test/") && line.contains("unlabelled");
    assert_eq!(predictions.lines().filter(unlabelled).count(), 4, "{predictions}");
}

#[test]
fn init_writes_a_file_that_runs() {
    let desk = Desk::empty();
    desk.images("shapes", &["disc", "bar", "frame"], 8);
    desk.ok(&["init", "shapes"]).snapshot("init");
    let text = desk.read("shapes.toml");
    desk.snapshot("init_for_classes_in_file_names", &text);
    desk.ok(&["run", "shapes.toml", "--until", "preprocess", "--until", "explore"]);
    // An existing file is never overwritten.
    let again = desk.pipe(&["init", "shapes"]);
    assert_eq!(again.code, 2, "{again}");
    again.snapshot("init_over_an_existing_file");
    assert_eq!(desk.ok(&["init", "shapes", "--output", "-"]).stdout, text);
    let ran = desk.pipe(&["init", "nowhere"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("init_of_a_missing_folder");
    desk.write("texts/a.txt", "");
    let ran = desk.pipe(&["init", "texts"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("init_of_a_folder_without_images");
}

#[test]
fn init_recognizes_a_folder_for_each_class() {
    let desk = Desk::empty();
    for class in ["cat", "dog"] {
        desk.images(&format!("pets/{class}"), &["disc"], 8);
    }
    desk.ok(&["init", "pets", "--output", "made.toml"]).snapshot("init_with_an_output");
    desk.snapshot("init_for_folders_of_classes", &desk.read("made.toml"));
    desk.ok(&["status", "made.toml"]).snapshot("status_of_an_initialized_file");
}
