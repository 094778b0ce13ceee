//! Real images: some thousands of Debian's `dataset-fashion-mnist` (70,000 garments) in the layout of
//! the data set `caavo`. Passes with a message where the package isn't installed.

use crate::support::{Desk, Events};
use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};
use std::io::Read;
use std::path::Path;

const FOLDER: &str = "/usr/share/datasets/fashion-mnist";
const SIDE: usize = 28;
const TRAIN: usize = 2_000;
const UNLABELLED: usize = 100;
/// The lowest accuracy on the test split that is believable for so short a training.
const ACCURACY: f64 = 0.6;

const PIPELINE: &str = r#"[dataset]
labels = { from = "file_name", pattern = '^(?<index>\d+)_(?<class>\d+)$' }
unlabelled = ["test"]
split = { train = 0.8, validation = 0.1, test = 0.1 }

[stages.fetch]
source = "path:images"

[stages.explore]
needs = { images = "fetch" }

[stages.preprocess]
needs = { images = "fetch" }
size = 32

[stages.train]
needs = { data = "preprocess" }
backbone = "resnet18"
epochs = 2
batch_size = 32
augment = "none"

[stages.evaluate]
needs = { data = "preprocess", model = "train" }
"#;

/// The pixels and classes of a part of the data set. None if the package isn't installed.
fn read(name: &str) -> Option<Vec<(Vec<u8>, u8)>> {
    let unpacked = |file: String| {
        let file = std::fs::File::open(Path::new(FOLDER).join(file)).ok()?;
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        Some(bytes)
    };
    let images = unpacked(format!("{name}-images-idx3-ubyte.gz"))?;
    let labels = unpacked(format!("{name}-labels-idx1-ubyte.gz"))?;
    let images = images[16..].chunks_exact(SIDE * SIDE).map(<[u8]>::to_vec);
    Some(images.zip(labels[8..].iter().copied()).collect())
}

fn write(desk: &Desk, path: &str, pixels: &[u8]) {
    let mut bytes = Vec::new();
    let side = SIDE as u32;
    JpegEncoder::new_with_quality(&mut bytes, 95)
        .encode(pixels, side, side, ExtendedColorType::L8)
        .unwrap();
    desk.write(path, bytes);
}

fn count(events: &Events, name: &str) -> u64 {
    let is = |event: &&serde_json::Value| event["event"] == "count" && event["name"] == name;
    events.all.iter().find(is).unwrap()["value"].as_u64().unwrap()
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
    desk.write("fashion.toml", PIPELINE);
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
    assert_eq!(count(&first, "decoded"), (TRAIN + UNLABELLED) as u64);
    let show = desk.ok(&["show", "@0", "--json"]).json();
    let folder = desk.path(show["folder"].as_str().unwrap());
    let explored = std::fs::read(folder.join("results/explore/explore.json")).unwrap();
    let explored: serde_json::Value = serde_json::from_slice(&explored).unwrap();
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
    assert_eq!(count(&trained, "decoded"), (TRAIN / 100) as u64);
    assert_eq!(count(&trained, "copied"), (TRAIN + UNLABELLED) as u64);
    let show = desk.ok(&["show", "@0", "--json"]).json();
    let accuracy = show["evaluations"][0]["metrics"]["splits"]["test"]["accuracy"].as_f64();
    assert!(accuracy.unwrap() > ACCURACY, "{accuracy:?}");
    assert_eq!(desk.events(&["fashion.toml"]).with_outcome("ran"), [""; 0]);
}

/// Copies of an image are in one split, and the splits have about the sizes that were asked for.
fn assert_splits(desk: &Desk) {
    let tables = walkdir::WalkDir::new(desk.path("cache/v1/artifacts")).into_iter().flatten();
    let mut tables = tables.filter(|entry| entry.file_name() == "samples.tsv");
    let text = std::fs::read_to_string(tables.next().unwrap().path()).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|row| row.split('\t').collect()).collect();
    let of = |split: &str| rows.iter().filter(|row| row[4] == split).count();
    assert_eq!(of("unlabelled"), UNLABELLED);
    assert!(of("test").abs_diff(TRAIN / 10) < 50 && of("train").abs_diff(TRAIN * 8 / 10) < 80);
    for row in rows.iter().filter(|row| row[0].starts_with("train/train/9000")) {
        let twin = rows.iter().find(|other| other[1] == row[1] && other[0] != row[0]);
        assert_eq!(twin.unwrap()[4], row[4]);
    }
}
