//! The cost of running `pipe` again where little or nothing has to be done, as whole processes and
//! through the command line alone:
//!
//! - starting it, with limits of 5 ms (`pipe --help`) and 8 ms (nothing to do, 10 files);
//! - nothing to do over 10 and 20,000 image files, which are compared by content. Ninja, DVC and
//!   Snakemake, if they are on PATH, look at the same files in a graph of five stages: ninja and
//!   Snakemake at times only. Limit at 20,000 files: 1.5 times ninja;
//! - the first digest of 1 GB in 20,000 files in the page cache, beside `sha256sum` on as many
//!   cores. Limit: 80 % of its speed.
//!
//! `cargo bench --bench noop`; `-- files N` measures nothing to do over N files (limit at 1,000,000:
//! 3 s and 400 MB); `-- quickstart` trains the quickstart and prints which part of its time the
//! checks of inputs take (limit: 3 %).

#![allow(clippy::print_stdout, reason = "prints its measurements")]

mod padded;
mod peers;
mod timing;
mod watched;

use std::path::Path;
use std::process::Command;
use timing::{median, pipe, whole};

const RUNS: usize = 21;
/// Of what takes seconds.
const LONG_RUNS: usize = 3;

const PIPELINE: &str = r#"
[pipeline]
name = "noop"
[dataset]
labels = { from = "folder" }
limit_per_class = 5
split = { train = 0.6, validation = 0.2, test = 0.2, method = "exact" }
[stages.fetch]
source = "path:images"
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

/// The fifth stage, which decodes every image: left out where there are very many.
const EXPLORE: &str = "[stages.explore]\nneeds = { images = \"fetch\" }\n";

const RUN: [&str; 2] = ["run", "noop.toml"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {
            startup();
            nothing_to_do(10);
            nothing_to_do(20_000);
            first_digest(20_000, 50_000);
        }
        ["files", count] => nothing_to_do(count.parse().expect("a number of files")),
        ["quickstart"] => checks_at_use(),
        _ => panic!("usage: cargo bench --bench noop [-- files N | -- quickstart]"),
    }
}

fn startup() {
    let here = Path::new(".");
    println!("starting, medians of {RUNS} whole processes");
    report("true (cost of a process)", median_ms(RUNS, &|| Command::new("true")), None);
    report("pipe --help", median_ms(RUNS, &|| pipe(&["--help"], here)), Some(5.0));
    for name in ["ninja", "dvc", "snakemake"].into_iter().filter(|name| peers::is_installed(name)) {
        let start = || {
            let mut command = Command::new(name);
            command.arg("--version");
            command
        };
        report(&format!("{name} --version"), median_ms(LONG_RUNS, &start), None);
    }
}

/// The median of the wall times of a command, in milliseconds.
fn median_ms(runs: usize, command: &dyn Fn() -> Command) -> f64 {
    median(runs, &|| whole(command()))
}

fn nothing_to_do(count: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let with_peers = count <= 20_000;
    padded::write(&folder.join("images"), count, 4096);
    let text = if with_peers { format!("{PIPELINE}{EXPLORE}") } else { PIPELINE.to_owned() };
    std::fs::write(folder.join("noop.toml"), text).expect("a pipeline file");
    whole(pipe(&RUN, folder));
    // Digests of files that were written a moment ago aren't remembered.
    std::thread::sleep(std::time::Duration::from_secs(3));
    whole(pipe(&RUN, folder));
    let stages = if with_peers { "five" } else { "four" };
    println!("nothing to do, {count} files of 4 kB, {stages} stages");
    let runs = if with_peers { RUNS } else { LONG_RUNS };
    let own = median_ms(runs, &|| pipe(&RUN, folder));
    report("pipe run", own, (count == 10).then_some(8.0));
    report("pipe status", median_ms(runs, &|| pipe(&["status", "noop.toml"], folder)), None);
    if !with_peers {
        // Of a shorter run, a look every few milliseconds sees too little.
        let peaks = watched::run(folder, &RUN);
        let peak = peaks.get(watched::PARENT).map_or(0, |peak| peak.anonymous);
        println!("{:40} {:8.1} MB of memory", "pipe run", peak as f64 / 1e3);
        return;
    }
    for (name, command) in peers::prepare(folder) {
        let runs = if name == "ninja" { RUNS } else { LONG_RUNS };
        let peer = median_ms(runs, &command);
        report(&format!("{name} (pipe takes {:.3} of it)", own / peer), peer, None);
    }
}

fn first_digest(count: usize, bytes: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    padded::write(&folder.join("images"), count, bytes);
    std::fs::write(folder.join("noop.toml"), PIPELINE).expect("a pipeline file");
    let own = median(LONG_RUNS, &|| {
        let store = folder.join("cache");
        let _ = std::fs::remove_dir_all(&store);
        whole(pipe(&["run", "noop.toml", "--until", "fetch"], folder))
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let peer = median_ms(LONG_RUNS, &|| {
        let mut command = Command::new("sh");
        let line = format!("find images -type f -print0 | xargs -0 -n 500 -P {cores} sha256sum");
        command.args(["-c", &line]).current_dir(folder);
        command
    });
    println!("the first digest of {count} files of {bytes} bytes in the page cache");
    report("pipe run --until fetch", own, None);
    report(&format!("sha256sum, {cores} processes ({:.2} x pipe)", peer / own), peer, None);
}

/// Trains the quickstart and prints the part of its time in which inputs are checked, by the
/// diagnostic log.
fn checks_at_use() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/quickstart.toml");
    let mut command = pipe(&["run", file], folder.path());
    command.env("PIPE_LOG", &log);
    let run = whole(command);
    let log = std::fs::read_to_string(log).expect("the diagnostic log");
    let checks: f64 = log.lines().filter(|line| line.contains("check inputs")).map(busy_ms).sum();
    println!("the quickstart: {:.1} s", run / 1e3);
    println!("checks of inputs: {checks:.1} ms, {:.3} % (limit 3 %)", 100.0 * checks / run);
}

/// The busy time of a span that closed, in milliseconds: `… time.busy=1.23ms time.idle=…`.
fn busy_ms(line: &str) -> f64 {
    let time = line.split("time.busy=").nth(1).and_then(|rest| rest.split(' ').next());
    let time = time.expect("a line of the diagnostic log has a busy time");
    let unit = time.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let (number, unit) = time.split_at(unit.expect("a time has a unit"));
    let number: f64 = number.parse().expect("a time is a number");
    number
        * [("s", 1e3), ("ms", 1.0), ("µs", 1e-3), ("ns", 1e-6)]
            .into_iter()
            .find_map(|(name, factor)| (name == unit).then_some(factor))
            .expect("a unit of time")
}

fn report(name: &str, milliseconds: f64, limit: Option<f64>) {
    let verdict = match limit {
        Some(limit) if milliseconds <= limit => format!("limit {limit} ms: met"),
        Some(limit) => format!("limit {limit} ms: EXCEEDED"),
        None => String::new(),
    };
    println!("{name:40} {milliseconds:8.2} ms  {verdict}");
}
