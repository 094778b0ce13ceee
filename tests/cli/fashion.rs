//! Real images: some thousands of Debian's `dataset-fashion-mnist` (70,000 garments) in the layout
//! of the data set `caavo`. Passes with a message where the package isn't installed.

use crate::fashion_mnist::{jpeg, read};
use crate::support::{Desk, tiny_of};

const TRAIN: usize = 2_000;
const UNLABELLED: usize = 100;
/// The lowest accuracy on the test split that is believable for so short a training.
const ACCURACY: f64 = 0.6;

const DATASET: &str = r#"labels = { from = "file_name", pattern = '^(?<index>\d+)_(?<class>\d+)$' }
unlabelled = ["test"]
split = { train = 0.8, validation = 0.1, test = 0.1 }
"#;

fn write(desk: &Desk, path: &str, pixels: &[u8]) {
    desk.write(path, jpeg(pixels, 95));
}

#[test]
fn real_garments_are_ingested_split_and_learned() {
    let (Some(train), Some(test)) = (read("train"), read("t10k")) else {
        #[expect(clippy::print_stderr, reason = "the test is skipped, and says so")]
        {
            eprintln!("skipped: install the Debian package dataset-fashion-mnist");
        }
        return;
    };
    let desk = Desk::empty();
    desk.write("fashion.toml", tiny_of(DATASET, "path:images"));
    let training = "epochs = 1\nbatch_size = 5\nschedule = { warmup_epochs = 0 }";
    desk.edit("fashion.toml", training, "epochs = 2\nbatch_size = 32\naugment = \"none\"");
    let labelled = |row: usize, class: u8| format!("images/train/train/{row}_{class}.jpg");
    for (row, (pixels, class)) in train[..TRAIN].iter().enumerate() {
        write(&desk, &labelled(row, *class), pixels);
    }
    // Five images a second time, under other rows.
    for (row, (pixels, class)) in train[..5].iter().enumerate() {
        write(&desk, &labelled(90_000 + row, *class), pixels);
    }
    for (row, (pixels, _)) in test[..UNLABELLED].iter().enumerate() {
        write(&desk, &format!("images/test/test/{row}.jpg"), pixels);
    }
    let until = ["fashion.toml", "--until", "preprocess", "--until", "explore"];
    let first = desk.events(&until);
    assert_eq!(first.count("decoded"), (TRAIN + UNLABELLED) as u64);
    let explored = desk.result("explore/explore.json");
    let explored: serde_json::Value = serde_json::from_str(&explored).unwrap();
    assert_eq!(explored["images"], (TRAIN + 5 + UNLABELLED) as u64);
    assert_eq!(explored["duplicates"]["count"], 5);
    assert_splits(&desk);

    // One percent more, and two less.
    for (row, (pixels, class)) in train.iter().enumerate().skip(TRAIN).take(TRAIN / 100) {
        write(&desk, &labelled(row, *class), pixels);
    }
    for row in [90_000, 90_001] {
        std::fs::remove_file(desk.path(&labelled(row, train[row - 90_000].1))).unwrap();
    }
    let trained = desk.events(&["fashion.toml"]);
    assert_eq!(trained.count("decoded"), (TRAIN / 100) as u64);
    assert_eq!(trained.count("copied"), (TRAIN + UNLABELLED) as u64);
    let show = desk.ok(&["show", "@0", "--json"]).json();
    let accuracy = show["evaluations"][0]["metrics"]["splits"]["test"]["accuracy"].as_f64();
    assert!(accuracy.unwrap() > ACCURACY, "{accuracy:?}");
    assert_eq!(desk.events(&["fashion.toml"]).with_outcome("ran"), [""; 0]);
}

/// Copies of an image are in one split, and the splits have about the sizes that were asked for.
fn assert_splits(desk: &Desk) {
    let text = desk.result("preprocess/samples.tsv");
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|row| row.split('\t').collect()).collect();
    let of = |split: &str| rows.iter().filter(|row| row[4] == split).count();
    assert_eq!(of("unlabelled"), UNLABELLED);
    assert!(of("test").abs_diff(TRAIN / 10) < 50 && of("train").abs_diff(TRAIN * 8 / 10) < 80);
    for row in rows.iter().filter(|row| row[0].starts_with("train/train/9000")) {
        let twin = rows.iter().find(|other| other[1] == row[1] && other[0] != row[0]);
        assert_eq!(twin.unwrap()[4], row[4]);
    }
}
