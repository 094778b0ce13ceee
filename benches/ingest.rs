//! Time and memory from a folder of small files to a tensor cache. Uses only the command line.
//!
//! - 70,000 JPEG files are listed, digested, labelled and stored at 32 x 32 pixels, and the run is
//!   repeated with everything fresh. They are the images of Debian's `dataset-fashion-mnist`, if it
//!   is installed, in the layout of the data set `caavo`; otherwise noise of the same size.
//! - A curve over numbers of files up to a million: nothing may grow faster than they do.
//! - Reruns with 1 % new images, interleaved with `cp`, `sha256sum` and `sync` of `records.bin`.
//!
//! `cargo bench --bench ingest [-- LARGEST]`: LARGEST is the end of the curve. Needs Linux and 8 GB
//! of disk space: for the reruns, each of which writes a gigabyte, and for a million files.

#![allow(clippy::print_stdout, reason = "prints its measurements")]

mod fashion;
mod watched;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Goals in seconds, for two cores.
const GOALS: [f64; 2] = [3.0, 0.4];
const FILES: usize = 70_000;
/// Images and side of the records of the reruns: a gigabyte.
const RERUN: (usize, u32) = (20_000, 128);

fn main() {
    let largest = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let images = fashion::images(FILES);
    println!("{} images of {}", images.files.len(), images.source);
    whole(&images);
    rerun(&images);
    curve(&images, largest.unwrap_or(1_000_000));
}

/// A temporary folder with a pipeline at this size.
fn desk(size: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = format!(
        r#"
[dataset]
labels = {{ from = "file_name", pattern = '^(?<index>\d+)_(?<class>\d+)$' }}
[stages.fetch]
source = "path:images"
[stages.preprocess]
needs = {{ images = "fetch" }}
size = {size}
"#
    );
    std::fs::write(folder.path().join("ingest.toml"), text).expect("a pipeline file");
    folder
}

/// Runs the pipeline. Returns the seconds that it took and the peak anonymous memory of a process,
/// in MB.
fn run(desk: &Path, more: &[&str]) -> (f64, f64) {
    let start = Instant::now();
    let peaks = watched::run(desk, &[&["run", "ingest.toml"], more].concat());
    let seconds = start.elapsed().as_secs_f64();
    (seconds, peaks.values().map(|peak| peak.anonymous).max().unwrap_or(0) as f64 / 1e3)
}

/// Writes the images with these numbers, each with content of its own.
fn write(images: &fashion::Images, folder: &Path, numbers: std::ops::Range<usize>) {
    let folder = folder.join("images/train/train");
    std::fs::create_dir_all(&folder).expect("a folder");
    for number in numbers {
        let (bytes, class) = &images.files[number % images.files.len()];
        // A comment after the first marker makes the file unique.
        let comment = [0xff, 0xfe, 0, 10].into_iter().chain((number as u64).to_be_bytes());
        let bytes: Vec<u8> =
            bytes[..2].iter().copied().chain(comment).chain(bytes[2..].iter().copied()).collect();
        std::fs::write(folder.join(format!("{number}_{class}.jpg")), bytes).expect("an image");
    }
    // So that writing them isn't measured, and that their digests are remembered.
    assert!(Command::new("sync").status().is_ok_and(|status| status.success()));
    std::thread::sleep(std::time::Duration::from_millis(2500));
}

fn whole(images: &fashion::Images) {
    let desk = desk(32);
    write(images, desk.path(), 0..FILES);
    let (first, _) = run(desk.path(), &[]);
    let again: Vec<f64> = (0..5).map(|_| run(desk.path(), &[]).0).collect();
    for (name, seconds, goal) in
        [("first run", first, GOALS[0]), ("no-op", median(again), GOALS[1])]
    {
        println!("{name:24} {seconds:8.2} s, goal {goal} s on two cores");
    }
}

/// Reruns with 1 % new images, and the system's own copy, digest and sync of as many bytes.
fn rerun(images: &fashion::Images) {
    let (count, size) = RERUN;
    let desk = desk(size);
    write(images, desk.path(), 0..count);
    run(desk.path(), &[]);
    let (mut ours, mut copies, mut end) = (Vec::new(), Vec::new(), count);
    for _ in 0..5 {
        write(images, desk.path(), end..end + count / 100);
        end += count / 100;
        ours.push(run(desk.path(), &[]).0);
        copies.push(copy(&largest_records(desk.path()), &desk.path().join("copy.bin")));
    }
    let (ours, copy) = (median(ours), median(copies));
    println!(
        "{:24} {ours:8.2} s, {:.2} times cp + sha256sum + sync of records.bin ({copy:.2} s); goal 1.3",
        "1 % new images",
        ours / copy
    );
}

/// Seconds that `cp`, `sha256sum` and `sync` take together.
fn copy(records: &Path, to: &Path) -> f64 {
    let start = Instant::now();
    for (program, files) in [("cp", &[records, to][..]), ("sha256sum", &[to]), ("sync", &[to])] {
        let output = Command::new(program).args(files).output();
        assert!(output.is_ok_and(|output| output.status.success()), "{program}");
    }
    let seconds = start.elapsed().as_secs_f64();
    std::fs::remove_file(to).expect("the copy is removed");
    seconds
}

fn largest_records(desk: &Path) -> PathBuf {
    let files = walkdir::WalkDir::new(desk.join("cache/v1/artifacts")).into_iter().flatten();
    let records = files.filter(|entry| entry.file_name() == "records.bin");
    let largest = records.max_by_key(|entry| entry.metadata().map_or(0, |found| found.len()));
    largest.expect("there are records").into_path()
}

fn curve(images: &fashion::Images, largest: usize) {
    let desk = desk(8);
    let mut written = 0;
    for count in [10_000, 30_000, 100_000, 300_000, 1_000_000] {
        if count > largest {
            break;
        }
        write(images, desk.path(), written..count);
        written = count;
        // A store of its own: every file is new.
        let cache = format!("cache-{count}");
        let (first, peak) = run(desk.path(), &["--cache", &cache]);
        let (again, _) = run(desk.path(), &["--cache", &cache]);
        println!(
            "{count:9} files {first:8.2} s, {:5.1} µs each; no-op {again:6.2} s, {:5.1} µs each; peak memory {peak:6.0} MB",
            first / count as f64 * 1e6,
            again / count as f64 * 1e6
        );
        std::fs::remove_dir_all(desk.path().join(cache)).expect("the store is removed");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
