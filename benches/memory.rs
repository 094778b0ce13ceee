//! Anonymous memory of training on 1,000 and on 20,000 records. The tensor cache is memory-mapped,
//! so anonymous memory must not grow with the data set. Runs `pipe` on drawn garments and samples
//! RssAnon of its worker processes. Both trainings take the same number of steps and keep the last
//! epoch, so that they write about as many checkpoints, which is when memory peaks, and neither
//! keeps the best epoch's weights beside the current ones. Uses only the command line. Needs Linux
//! for `/proc`.
//!
//! `cargo bench --bench memory`

#![allow(clippy::print_stdout, reason = "prints its measurements")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PIPE: &str = env!("CARGO_BIN_EXE_pipe");

/// Peak memory of a process in kB.
#[derive(Clone, Copy, Default)]
struct Peak {
    anonymous: u64,
    file: u64,
}

fn pipeline(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("memory.toml");
    let text = r#"
[pipeline]
name = "memory"
[dataset]
labels = { from = "file_name", pattern = '^(?<index>\d+)_(?<class>\d+)$' }
split = { train = 0.96, validation = 0.02, test = 0.02 }
[stages.fetch]
source = "synthetic:garments"
[stages.preprocess]
needs = { images = "fetch" }
size = 32
[stages.train]
needs = { data = "preprocess" }
backbone = "resnet18"
batch_size = 32
keep = "last"
checkpoint = { every = 2 }
"#;
    std::fs::write(&file, text).expect("a pipeline file");
    file
}

/// Runs the pipeline on `count` images up to the stage `until`. Returns the peak of each worker
/// process by stage.
fn run(folder: &Path, count: usize, epochs: usize, until: &str) -> BTreeMap<String, Peak> {
    let mut child = Command::new(PIPE)
        .args([
            "run",
            "memory.toml",
            "--until",
            until,
            "--set",
            &format!("stages.fetch.synthetic.count={count}"),
        ])
        .args(["--set", &format!("stages.train.epochs={epochs}")])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut peaks = BTreeMap::new();
    while running(&mut child) {
        for (stage, peak) in children(child.id()) {
            let so_far: &mut Peak = peaks.entry(stage).or_default();
            so_far.anonymous = so_far.anonymous.max(peak.anonymous);
            so_far.file = so_far.file.max(peak.file);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    peaks
}

fn running(child: &mut Child) -> bool {
    match child.try_wait().expect("the child can be waited for") {
        None => true,
        Some(status) => {
            assert!(status.success(), "the run failed: {status}");
            false
        }
    }
}

/// The worker processes of `parent` that run now: stage and memory.
fn children(parent: u32) -> Vec<(String, Peak)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let status = std::fs::read_to_string(folder.join("status")).ok()?;
            let field = |name: &str| {
                status.lines().find_map(|line| {
                    line.strip_prefix(name)?.split_whitespace().next()?.parse().ok()
                })
            };
            (field("PPid:")? == u64::from(parent)).then_some(())?;
            let command = std::fs::read_to_string(folder.join("cmdline")).ok()?;
            let job = command.split('\0').nth(2)?.to_owned();
            let text = std::fs::read_to_string(&job).ok()?;
            let job: serde_json::Value = serde_json::from_str(&text).ok()?;
            let stage = job.get("stage")?.as_str()?.to_owned();
            Some((stage, Peak { anonymous: field("RssAnon:")?, file: field("RssFile:")? }))
        })
        .collect()
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    pipeline(folder.path());
    let mut anonymous = Vec::new();
    for (count, epochs) in [(1_000, 20), (20_000, 1)] {
        let peaks = run(folder.path(), count, epochs, "train");
        for (stage, peak) in &peaks {
            println!(
                "{count:6} images, {stage:10} peak RssAnon {:7.1} MB, RssFile {:7.1} MB",
                peak.anonymous as f64 / 1e3,
                peak.file as f64 / 1e3
            );
        }
        anonymous.push(peaks.get("train").copied().unwrap_or_default().anonymous);
    }
    let records = 20_000.0 * 32.0 * 32.0 * 3.0 / 1e6;
    println!(
        "train, 20,000 and 1,000 records: anonymous memory {:.2} times as large (20,000 records are {records:.0} MB)",
        anonymous[1] as f64 / anonymous[0].max(1) as f64
    );
}
