//! Copies of images across splits: found, listed, shown and dropped; similar images aren't copies.

use crate::support::Desk;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use pipe::random::Stream;
use std::fs;

/// Smooth colors, different for each number.
fn photo(number: u64) -> RgbImage {
    let mut stream = Stream::new(5, "photo", &[number]);
    let cells = RgbImage::from_fn(7, 7, |_, _| Rgb([0; 3].map(|_: u8| stream.below(256) as u8)));
    imageops::resize(&cells, 160, 150, FilterType::CatmullRom)
}

/// A garment of one color on white.
fn product(number: u32) -> RgbImage {
    let color = [40 + 20 * (number % 5) as u8, 60, 90 + 25 * (number / 5) as u8];
    let width = 60 + 3 * (number % 7);
    RgbImage::from_fn(160, 160, |x, y| {
        let inside = x.abs_diff(80) * 2 < width && (30..130).contains(&y);
        Rgb(if inside { color } else { [255; 3] })
    })
}

/// Folders of an author's split with `draw`n images, all different.
fn split_folders(desk: &Desk, draw: impl Fn(u32) -> RgbImage) {
    let mut number = 0;
    for split in ["train", "val", "test"] {
        for class in ["cat", "dog"] {
            let folder = desk.path(&format!("images/{split}/{class}"));
            fs::create_dir_all(&folder).unwrap();
            for index in 0..4 {
                draw(number).save(folder.join(format!("{index}.png"))).unwrap();
                number += 1;
            }
        }
    }
}

/// Smaller copies of two training images, as JPEG files of the test split, one of another class; and
/// a validation image with equal pixels in the training split.
fn add_copies(desk: &Desk) {
    for (number, to) in [(1, "test/cat/copy.jpg"), (2, "test/dog/copy.jpg")] {
        let small = imageops::resize(&photo(number), 112, 105, FilterType::Triangle);
        let file = fs::File::create(desk.path(&format!("images/{to}"))).unwrap();
        image::codecs::jpeg::JpegEncoder::new_with_quality(file, 70).encode_image(&small).unwrap();
    }
    let [from, to] = ["val/dog/0.png", "train/cat/same.bmp"];
    let image = image::open(desk.path(&format!("images/{from}"))).unwrap();
    image.save(desk.path(&format!("images/{to}"))).unwrap();
}

const PIPELINE: &str = "[dataset]\nsplit = { from = \"folder\" }\n[stages.fetch]\nsource = \"path:images\"\n\
    [stages.explore]\nneeds = { images = \"fetch\" }\n\
    [stages.preprocess]\nneeds = { images = \"fetch\" }\nsize = 64\n";

#[test]
fn copies_across_splits_are_listed() {
    let desk = Desk::empty();
    split_folders(&desk, |number| photo(number.into()));
    add_copies(&desk);
    desk.write("p.toml", PIPELINE);
    desk.ok(&["run", "p.toml", "--jobs", "1"]).snapshot("copies_across_splits");
    desk.snapshot("leaks_csv", &desk.result("preprocess/leaks.csv"));
    let explored = desk.result("explore/explore.json");
    let explored: serde_json::Value = serde_json::from_str(&explored).unwrap();
    let found = serde_json::json!({
        "duplicates": explored["duplicates"],
        "near_duplicates": explored["near_duplicates"],
        "cropped": explored["cropped"],
    });
    desk.snapshot("explored_copies", &serde_json::to_string_pretty(&found).unwrap());
    // The same from another number of threads.
    let first = desk.events(&["p.toml"]).digests();
    let again = desk.events(&["p.toml", "--force=preprocess", "--threads", "3"]);
    assert_eq!(again.with_outcome("ran"), ["preprocess"]);
    assert_eq!(again.digests()["preprocess"], first["preprocess"]);
}

#[test]
fn copies_are_dropped_from_training_and_validation_and_never_from_test() {
    let desk = Desk::empty();
    split_folders(&desk, |number| photo(number.into()));
    add_copies(&desk);
    desk.write("p.toml", format!("{PIPELINE}on_leak = \"drop\"\n"));
    desk.ok(&["run", "p.toml", "--until", "preprocess"]).snapshot("dropped_copies");
    desk.snapshot("rejected_copies", &desk.result("preprocess/rejected.csv"));
    for index in 0..4 {
        let path = |split: &str| desk.path(&format!("images/{split}/cat/{index}.png"));
        fs::copy(path("test"), path("val")).unwrap();
        let path = |split: &str| desk.path(&format!("images/{split}/dog/{index}.png"));
        fs::copy(path("test"), path("val")).unwrap();
    }
    let refused = desk.pipe(&["run", "p.toml", "--until", "preprocess"]);
    assert_eq!(refused.code, 1, "{refused}");
    refused.snapshot("nothing_left_after_dropping");
}

#[test]
fn similar_products_are_not_copies() {
    let desk = Desk::empty();
    split_folders(&desk, product);
    desk.write("p.toml", PIPELINE);
    desk.ok(&["run", "p.toml", "--jobs", "1"]).snapshot("similar_products");
    assert_eq!(desk.result("preprocess/leaks.csv").lines().count(), 1);
}
