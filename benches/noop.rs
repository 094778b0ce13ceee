//! Latency of `pipe --help` and of a second `pipe run`, where every stage is fresh, as whole
//! processes. Compared with two limits (5 ms and 15 ms) and with the startup time of ninja, DVC and
//! Snakemake if they are on PATH. Uses only the command line.
//!
//! `cargo bench --bench noop`

#![allow(clippy::print_stdout, reason = "prints its measurements")]

mod timing;

use std::process::{Command, Stdio};
use timing::{median, pipe, whole};

const RUNS: usize = 41;

/// The median of `RUNS` wall times of a command, in milliseconds.
fn median_ms(command: &dyn Fn() -> Command) -> f64 {
    median(RUNS, &|| whole(command()))
}

/// The quickstart's five stages and images with a short training: the latency depends on the number
/// of stages and files, not on what was computed.
fn pipeline(source: &str) -> String {
    format!(
        r#"
[pipeline]
name = "noop"
[dataset]
labels = {{ from = "file_name", pattern = '^(?<index>\d+)_(?<class>\d+)$' }}
[stages.fetch]
source = "{source}"
[stages.explore]
needs = {{ images = "fetch" }}
[stages.preprocess]
needs = {{ images = "fetch" }}
size = 32
[stages.train]
needs = {{ data = "preprocess" }}
backbone = "resnet18"
epochs = 1
[stages.evaluate]
needs = {{ data = "preprocess", model = "train" }}
"#
    )
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("noop.toml");
    std::fs::write(&file, pipeline("synthetic:garments")).expect("a pipeline file");
    let run = ["run", "noop.toml"];
    assert!(
        pipe(&run, folder.path()).status().is_ok_and(|status| status.success()),
        "the first run failed"
    );
    println!("medians of {RUNS} whole processes");
    report("true (cost of a process)", median_ms(&|| Command::new("true")), None);
    report("pipe --help", median_ms(&|| pipe(&["--help"], folder.path())), Some(5.0));
    report("pipe run, everything fresh", median_ms(&|| pipe(&run, folder.path())), Some(15.0));
    report("pipe status", median_ms(&|| pipe(&["status", "noop.toml"], folder.path())), None);
    for (name, arguments) in
        [("ninja", "--version"), ("dvc", "--version"), ("snakemake", "--version")]
    {
        let installed = Command::new(name)
            .arg(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok();
        if installed {
            report(
                &format!("{name} {arguments} (startup only)"),
                median_ms(&|| {
                    let mut command = Command::new(name);
                    command.arg(arguments);
                    command
                }),
                None,
            );
        }
    }
}

fn report(name: &str, milliseconds: f64, limit: Option<f64>) {
    let verdict = match limit {
        Some(limit) if milliseconds <= limit => format!("limit {limit} ms: met"),
        Some(limit) => format!("limit {limit} ms: EXCEEDED"),
        None => String::new(),
    };
    println!("{name:40} {milliseconds:8.2} ms  {verdict}");
}
