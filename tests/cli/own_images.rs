//! A user's own images: by `path:`, by `pipe init`, from anywhere.

use crate::support::Desk;

#[test]
fn images_of_ones_own_by_one_override() {
    let desk = Desk::tiny();
    desk.write("far/away/tiny.toml", desk.read("tiny.toml"));
    // A path in `--set` is relative to the working directory, a path in the file to the file's
    // folder.
    let ran = desk.pipe(&["run", "far/away/tiny.toml", "--until", "preprocess"]);
    assert_eq!(ran.code, 2, "{ran}");
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
    desk.ok(&["init", "shapes", "--scratch", "--output", "scratch.toml"]);
    desk.snapshot("init_from_scratch", &desk.read("scratch.toml"));
    // An existing file is never overwritten.
    let again = desk.pipe(&["init", "shapes"]);
    assert_eq!(again.code, 2, "{again}");
    again.snapshot("init_over_an_existing_file");
    assert_eq!(desk.ok(&["init", "shapes", "--output", "-"]).stdout, text);
    let ran = desk.pipe(&["init", "nowhere"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("init_of_a_missing_folder");
    desk.write("texts/a.txt", "");
    let ran = desk.pipe(&["init", "texts"]);
    assert_eq!(ran.code, 2, "{ran}");
    ran.snapshot("init_of_a_folder_without_images");
}

#[test]
fn init_of_names_that_look_like_variables_runs() {
    let desk = Desk::empty();
    desk.images("a${b} $${c}/${class}", &["disc"], 8);
    desk.images("a${b} $${c}/dog's", &["disc"], 8);
    desk.ok(&["init", "a${b} $${c}", "--scratch", "--output", "made.toml"]);
    desk.ok(&["run", "made.toml", "--until", "fetch"]);
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

/// A pipeline up to `preprocess`, with this `[dataset]`.
fn prepared(dataset: &str) -> String {
    format!(
        "[dataset]\n{dataset}\n[stages.fetch]\nsource = \"path:images\"\n[stages.explore]\n\
         needs = {{ images = \"fetch\" }}\n[stages.preprocess]\nneeds = {{ images = \"fetch\" }}\nsize = 32\n"
    )
}

/// Writes `each` images into every one of the folders, no two of them equal.
fn images_in_folders(desk: &Desk, folders: &[&str], each: u32) {
    let names: Vec<String> = (0..folders.len()).map(|at| at.to_string()).collect();
    desk.images("pool", &names.iter().map(String::as_str).collect::<Vec<_>>(), each);
    for entry in std::fs::read_dir(desk.path("pool")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let (number, rest) = name.split_once('_').unwrap();
        let folder: usize = rest.trim_end_matches(".png").parse().unwrap();
        let to = desk.path(folders[folder]);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::rename(entry.path(), to.join(format!("{number}.png"))).unwrap();
    }
    std::fs::remove_dir(desk.path("pool")).unwrap();
}

const HALVES: &str = "split = { method = \"exact\", train = 0.5, test = 0.5 }";

#[test]
fn a_table_beside_the_pipeline_file_labels_images_and_is_part_of_the_key() {
    let desk = Desk::empty();
    desk.images("images", &["x"], 8);
    let rows = |classes: [&str; 2]| -> String {
        let row = |at: usize| format!("{at}_x,{}\n", classes[at % 2]);
        format!("id,label\n{}gone,cat\n", (0..8).map(row).collect::<String>())
    };
    desk.write("train.csv", rows(["cat", "dog"]));
    let labels = "labels = { from = \"csv\", file = \"train.csv\" }";
    desk.write("p.toml", prepared(&format!("{labels}\n{HALVES}")));
    let refused = desk.pipe(&["run", "p.toml", "--jobs", "1"]);
    assert_eq!(refused.code, 1, "{refused}");
    refused.snapshot("too_many_rows_without_an_image");
    desk.edit("p.toml", "size = 32", "size = 32\nmax_rejected = 0.2");
    desk.ok(&["run", "p.toml", "--jobs", "1"]).snapshot("labels_from_a_table");
    assert_eq!(desk.events(&["p.toml"]).with_outcome("ran"), [""; 0]);
    desk.write("train.csv", rows(["bird", "dog"]));
    assert_eq!(desk.events(&["p.toml"]).with_outcome("ran"), ["explore", "preprocess"]);
    desk.edit("p.toml", "train.csv", "trian.csv");
    desk.pipe(&["run", "p.toml"]).snapshot("a_table_that_is_not_there");
}

#[test]
fn an_authors_split_is_kept_and_never_ignored_silently() {
    let desk = Desk::empty();
    let folders = ["train/cat", "train/dog", "val/cat", "val/dog", "test/cat", "test/dog"];
    let folders = folders.map(|folder| format!("images/{folder}"));
    images_in_folders(&desk, &folders.each_ref().map(String::as_str), 4);
    desk.write("p.toml", prepared(HALVES));
    desk.ok(&["run", "p.toml", "--until", "preprocess"]).snapshot("an_ignored_split");
    desk.write("p.toml", prepared("split = { from = \"folder\" }"));
    desk.ok(&["run", "p.toml", "--until", "preprocess"]).snapshot("a_split_by_folder");
    desk.ok(&["init", "images"]).snapshot("init_with_an_authors_split");
    desk.snapshot("init_for_an_authors_split", &desk.read("images.toml"));
}

/// tiny-imagenet: the classes of the validation images are in a table without a header.
#[test]
fn a_table_labels_what_is_not_in_a_folder_of_its_class() {
    let desk = Desk::empty();
    let folders = ["train/n1/images", "train/n2/images", "val/images", "test/images"];
    let folders = folders.map(|folder| format!("tiny/{folder}"));
    images_in_folders(&desk, &folders.each_ref().map(String::as_str), 8);
    let mut rows: Vec<String> = std::fs::read_dir(desk.path("tiny/val/images"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    rows.sort();
    // In the data set, names differ between the parts.
    let rename = |part: &str| {
        for entry in std::fs::read_dir(desk.path(&format!("tiny/{part}/images"))).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{part}_{}", path.file_name().unwrap().to_str().unwrap());
            std::fs::rename(&path, path.with_file_name(name)).unwrap();
        }
    };
    rename("val");
    rename("test");
    let row = |(at, name): (usize, &String)| format!("val_{name}\tn{}\t0\t0\t62\t62\n", at % 2 + 1);
    desk.write(
        "tiny/val/val_annotations.txt",
        rows.iter().enumerate().map(row).collect::<String>(),
    );
    desk.ok(&["init", "tiny", "--scratch"]).snapshot("init_of_tiny_imagenet");
    desk.snapshot("init_for_tiny_imagenet", &desk.read("tiny.toml"));
    desk.ok(&["run", "tiny.toml", "--until", "preprocess", "--jobs", "1"])
        .snapshot("run_of_tiny_imagenet");
}

#[test]
fn files_that_are_not_used_are_named() {
    let desk = Desk::empty();
    images_in_folders(&desk, &["images/cat", "images/Cat"], 8);
    desk.write("images/cat/notes.txt", "");
    desk.write("images/heic/1.HEIC", "x");
    std::fs::create_dir(desk.path("images/empty")).unwrap();
    std::os::unix::fs::symlink("annex/1.png", desk.path("images/cat/link.png")).unwrap();
    desk.write("p.toml", prepared(&format!("unlabelled = [\"tset\"]\n{HALVES}")));
    let refused = desk.pipe(&["run", "p.toml"]);
    assert_eq!(refused.code, 1, "{refused}");
    refused.snapshot("a_dangling_link");
    desk.edit("p.toml", "[stages.explore]", "on_missing = \"warn\"\n[stages.explore]");
    desk.edit("p.toml", "size = 32", "size = 32\nmax_rejected = 0.5");
    desk.ok(&["run", "p.toml", "--jobs", "1"]).snapshot("files_that_are_not_used");
}

#[test]
fn everything_is_trained_on_and_a_folder_is_predicted() {
    let desk = Desk::tiny();
    desk.images("images/test", &["a"], 4);
    desk.edit("tiny.toml", "[stages.fetch]", "unlabelled = [\"test\"]\n\n[stages.fetch]");
    desk.edit("tiny.toml", "train = 0.5, validation = 0.25, test = 0.25", "train = 1.0");
    desk.ok(&["run", "tiny.toml", "--jobs", "1"]).snapshot("everything_is_trained_on");
}
