//! A user's own images: by `path:`, by `pipe init`, from anywhere.

use crate::support::Desk;

#[test]
fn images_of_ones_own_by_one_override() {
    let desk = Desk::tiny();
    desk.write("far/away/tiny.toml", desk.read("tiny.toml"));
    // A path in `--set` starts where the user stands, a path in the file starts at the file.
    let ran = desk.pipe(&["run", "far/away/tiny.toml", "--until", "preprocess"]);
    assert_eq!(ran.code, 1, "{ran}");
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
    desk.ok(&["run", "tiny.toml"]);
    let show = desk.ok(&["show", "@0", "--json"]).json();
    assert_eq!(show["evaluations"][0]["metrics"]["splits"]["test"]["count"], 6);
    let folder = show["folder"].as_str().unwrap().to_owned();
    let predictions = std::fs::read_to_string(format!(
        "{}/results/evaluate/predictions.csv",
        folder_here(&desk, &folder)
    ));
    let rows = predictions.unwrap();
    assert_eq!(
        rows.lines().filter(|line| line.contains("test/") && line.contains("unlabelled")).count(),
        4,
        "{rows}"
    );
}

fn folder_here(desk: &Desk, folder: &str) -> String {
    desk.path(folder).display().to_string()
}

#[test]
fn init_writes_a_file_that_runs() {
    let desk = Desk::empty();
    desk.images("shapes", &["disc", "bar", "frame"], 8);
    let wrote = desk.ok(&["init", "shapes"]);
    assert_eq!(
        wrote.stdout,
        "wrote shapes.toml: 3 classes of 24 images\nnext    pipe run shapes.toml\n"
    );
    let text = desk.read("shapes.toml");
    assert!(text.contains(r"labels = { from = 'file_name'".replace('\'', "\"").as_str()), "{text}");
    assert!(text.contains("source = \"path:shapes\""), "{text}");
    desk.ok(&["run", "shapes.toml", "--until", "preprocess", "--until", "explore"]);
    // What is there already is never written over.
    let again = desk.pipe(&["init", "shapes"]);
    assert_eq!(again.code, 2, "{again}");
    assert_eq!(desk.ok(&["init", "shapes", "--output", "-"]).stdout, text);
    assert_eq!(desk.pipe(&["init", "nowhere"]).code, 1);
    desk.write("texts/a.txt", "");
    assert_eq!(desk.pipe(&["init", "texts"]).code, 1);
}

#[test]
fn init_sees_folders_of_classes() {
    let desk = Desk::empty();
    for class in ["cat", "dog"] {
        desk.images(&format!("pets/{class}"), &["disc"], 8);
    }
    let wrote = desk.ok(&["init", "pets", "--output", "made.toml"]);
    assert!(wrote.stdout.starts_with("wrote made.toml: 2 classes of 16 images"), "{wrote}");
    assert!(desk.read("made.toml").contains("labels = { from = \"folder\" }"));
    desk.ok(&["status", "made.toml"]);
}
