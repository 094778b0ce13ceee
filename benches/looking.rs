//! Speed of looking at what happened, as whole processes: `pipe runs` over 1,000 runs, `pipe diff`
//! of two runs with 10,000 test images each, and the first output of `pipe run` on a terminal
//! (through `script`, where it is installed). The runs are copies of a small real one with other
//! ids, in format 2, which has no digests to check; the predictions are drawn at random.
//!
//! `cargo bench --bench looking`

#![allow(clippy::print_stdout, reason = "prints its measurements")]

mod timing;

use pipe::metrics::Scoring;
use pipe::random::Stream;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use timing::{PIPE, median, pipe, whole};

/// Measurements of each command.
const TIMES: usize = 21;
const RUNS: usize = 1_000;
const IMAGES: usize = 10_000;
/// The letters of run ids.
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";

const PIPELINE: &str = r#"
[pipeline]
name = "looking"
[dataset]
labels = { from = "file_name", pattern = '^(?<index>\d+)_(?<class>\d+)$' }
[stages.fetch]
source = "synthetic:garments"
synthetic = { count = 120, unlabelled = 0 }
[stages.explore]
needs = { images = "fetch" }
[stages.preprocess]
needs = { images = "fetch" }
size = 32
[stages.train]
needs = { data = "preprocess" }
backbone = "resnet18"
epochs = 1
[stages.evaluate]
needs = { data = "preprocess", model = "train" }
"#;

/// The time until a process writes its first byte.
fn first_byte(mut command: Command) -> f64 {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut output = child.stdout.take().expect("its output");
    let mut byte = [0];
    output.read_exact(&mut byte).expect("a first byte");
    let time = start.elapsed().as_secs_f64() * 1e3;
    // Dropping the output ends the process at its next write.
    drop(output);
    let _ = child.kill();
    let _ = child.wait();
    time
}

/// The folder of the only run.
fn original(runs: &Path) -> PathBuf {
    let mut entries = fs::read_dir(runs).expect("the folder of runs");
    entries.next().expect("a run").expect("a run").path()
}

fn id(mut number: usize) -> String {
    let mut digits = [0; 6];
    for digit in &mut digits {
        *digit = LETTERS[number % LETTERS.len()];
        number /= LETTERS.len();
    }
    String::from_utf8_lossy(&digits).into_owned()
}

/// Makes a record one of an earlier version, which has no seal: its files can be replaced.
fn unseal(record: &mut serde_json::Value) {
    record["format"] = 2.into();
    let fields = record.as_object_mut().expect("a record");
    for key in ["number", "files", "digest"] {
        fields.remove(key);
    }
}

/// Copies a run under another id, a minute later than the one before.
fn copy(original: &Path, number: usize) -> PathBuf {
    let id = id(number);
    let copy = original.with_file_name(&id);
    for entry in walkdir::WalkDir::new(original) {
        let entry = entry.expect("a file of the run");
        let place = copy.join(entry.path().strip_prefix(original).expect("a path in the run"));
        match entry.file_type().is_dir() {
            true => fs::create_dir_all(place).expect("a folder"),
            false => fs::copy(entry.path(), place).map(drop).expect("a copy"),
        }
    }
    let file = copy.join("run.json");
    let text = fs::read_to_string(&file).expect("a record");
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("a record");
    unseal(&mut record);
    record["id"] = id.into();
    record["seed"] = number.into();
    let minute = format!(
        "2026-01-{:02}T{:02}:{:02}:00.000Z",
        1 + number / 1440,
        number / 60 % 24,
        number % 60
    );
    record["started"] = minute.into();
    let text = serde_json::to_string_pretty(&record).expect("a record");
    fs::write(file, text).expect("a record");
    copy
}

/// Replaces the results of a run by those of 10,000 test images of 10 classes, 90 % of them right.
fn predict(run: &Path, seed: u64) {
    let classes: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
    let results = run.join("results/evaluate");
    let file = fs::File::create(results.join("predictions.csv")).expect("a file");
    let mut scoring = Scoring::new(std::io::BufWriter::new(file), &classes).expect("a table");
    let mut random = Stream::new(seed, "looking", &[0]);
    for image in 0..IMAGES {
        let label = image % 10;
        let best = if random.uniform() < 0.9 { label } else { (label + 1) % 10 };
        let row: Vec<f32> = (0..10).map(|class| if class == best { 0.55 } else { 0.05 }).collect();
        let path = format!("folder of images/{image:06}_{label}.jpg");
        scoring.push(&path, "test", Some(label as u32), &row).expect("a row");
    }
    let (evaluation, curves) = scoring.finish().expect("a table");
    let curves = curves.expect("labelled test images");
    fs::write(results.join("curves.json"), curves.to_json()).expect("a file");
    fs::write(results.join("metrics.json"), evaluation.to_json()).expect("a file");
}

/// Gives a run another preprocessing output, with a table of 40,000 samples.
fn prepare_other_data(run: &Path) {
    let file = run.join("run.json");
    let text = fs::read_to_string(&file).expect("a record");
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("a record");
    for stage in record["stages"].as_array_mut().expect("stages") {
        if stage["stage"] == "preprocess" {
            stage["digest"] = "ab".repeat(32).into();
        }
    }
    fs::write(file, record.to_string()).expect("a record");
    write_samples(run);
}

fn write_samples(run: &Path) {
    let mut table = "# pipe samples 1 rows=40000 sha256=0\n".to_owned();
    for sample in 0..4 * IMAGES {
        let split = if sample < IMAGES { "test" } else { "train" };
        let (class, digest) = (sample % 10, "cd".repeat(32));
        table += &format!(
            "folder of images/{sample:06}_{class}.jpg\t{digest}\t{sample}\t{class}\t{split}\t\n"
        );
    }
    let table_file = run.join("results/preprocess/samples.tsv");
    // It may be a link to the artifact's.
    let _ = fs::remove_file(&table_file);
    fs::write(table_file, table).expect("a table");
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    fs::write(folder.join("looking.toml"), PIPELINE).expect("a pipeline file");
    whole(pipe(&["run", "looking.toml"], folder));
    let original = original(&folder.join("cache/v1/runs"));
    let copies: Vec<PathBuf> = (0..RUNS - 1).map(|number| copy(&original, number)).collect();
    for (seed, run) in copies.iter().take(3).enumerate() {
        predict(run, seed as u64);
        write_samples(run);
    }
    prepare_other_data(&copies[2]);
    let name = |at: usize| id(at);
    println!("medians of {TIMES}");
    let command = |arguments: &[&str]| median(TIMES, &|| whole(pipe(arguments, folder)));
    report("pipe runs, 1,000 runs", command(&["runs"]), Some(50.0));
    report("pipe runs train.epochs=1", command(&["runs", "train.epochs=1"]), None);
    report("pipe show @0", command(&["show", "@0"]), None);
    let [a, b, c] = [name(0), name(1), name(2)];
    report("pipe diff, 10,000 images", command(&["diff", &a, &b]), Some(200.0));
    report("pipe diff, other data", command(&["diff", &a, &c]), Some(200.0));
    report("pipe report, 10,000 images", command(&["report", &a]), None);
    report("pipe report, two runs", command(&["report", &a, &b]), None);
    let terminal = || {
        let mut command = Command::new("script");
        let run = format!("'{PIPE}' run looking.toml --force");
        command.args(["--quiet", "--flush", "--command", &run, "/dev/null"]).current_dir(folder);
        command.env("TERM", "xterm");
        command
    };
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_ok() {
        report("pipe run, first output", median(TIMES, &|| first_byte(terminal())), Some(50.0));
    } else {
        println!("`script` isn't installed: the first output of a run wasn't measured");
    }
}

fn report(name: &str, milliseconds: f64, limit: Option<f64>) {
    let verdict = match limit {
        Some(limit) if milliseconds <= limit => format!("limit {limit} ms: met"),
        Some(limit) => format!("limit {limit} ms: EXCEEDED"),
        None => String::new(),
    };
    println!("{name:32} {milliseconds:8.2} ms  {verdict}");
}
