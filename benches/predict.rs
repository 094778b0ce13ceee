//! `pipe predict` on a folder of photographs, against the stages that do the same in a run: it
//! should be no slower than preprocessing and evaluation together. Seconds of whole processes, from the command line
//! alone; medians of several repeats.
//!
//! `cargo bench --bench predict [-- BACKBONE]`

#![allow(clippy::print_stdout, reason = "prints its measurements")]

mod photos;

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const PIPE: &str = env!("CARGO_BIN_EXE_pipe");
/// Images to learn from: enough for a model, which needn't be a good one.
const LEARNED: u64 = 24;
const IMAGES: u64 = 256;
const REPEATS: usize = 3;

fn pipeline(backbone: &str) -> String {
    format!(
        r#"
[dataset]
labels = {{ from = "file_name", pattern = '^(?<index>\d+)_(?<class>\d+)$' }}
split = {{ method = "exact", train = 0.7, validation = 0.3, test = 0 }}
[stages.few]
kind = "fetch"
source = "path:few"
[stages.learned]
kind = "preprocess"
needs = {{ images = "few" }}
size = 224
[stages.train]
needs = {{ data = "learned" }}
backbone = "{backbone}"
epochs = 1
batch_size = 8
[stages.many]
kind = "fetch"
source = "path:many"
[stages.squares]
kind = "preprocess"
needs = {{ images = "many" }}
only = "test"
size = 224
[stages.evaluate]
needs = {{ data = "squares", model = "train" }}
"#
    )
}

/// Runs `pipe` in a folder and returns its seconds and its output.
fn pipe(folder: &Path, arguments: &[&str]) -> Result<(f64, String), Box<dyn Error>> {
    let start = Instant::now();
    let output =
        Command::new(PIPE).args(arguments).current_dir(folder).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("pipe {}: {}", arguments.join(" "), output.status).into());
    }
    Ok((start.elapsed().as_secs_f64(), String::from_utf8(output.stdout)?))
}

/// The seconds of a stage in the events of a run.
fn seconds_of(events: &str, stage: &str) -> Result<f64, Box<dyn Error>> {
    for line in events.lines() {
        let event: serde_json::Value = serde_json::from_str(line)?;
        if event["event"] == "stage-finished" && event["stage"] == stage {
            return event["seconds"].as_f64().ok_or_else(|| format!("{event}").into());
        }
    }
    Err(format!("{stage} didn't run").into())
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Box<dyn Error>> {
    let backbone = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let backbone = backbone.unwrap_or_else(|| "resnet18".to_owned());
    let work = tempfile::tempdir()?;
    for (folder, count) in [("few", LEARNED), ("many", IMAGES)] {
        std::fs::create_dir(work.path().join(folder))?;
        photos::draw(&work.path().join(folder), count)?;
    }
    std::fs::write(work.path().join("bench.toml"), pipeline(&backbone))?;
    let (_, events) = pipe(work.path(), &["run", "bench.toml", "--json"])?;
    let decoded = seconds_of(&events, "squares")?;
    let (mut evaluated, mut predicted) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        let again = ["run", "bench.toml", "--json", "--force=evaluate"];
        evaluated.push(seconds_of(&pipe(work.path(), &again)?.1, "evaluate")?);
        let (seconds, rows) = pipe(work.path(), &["predict", "@0", "many", "--format", "csv"])?;
        assert_eq!(rows.lines().count() as u64, IMAGES + 1);
        predicted.push(seconds);
    }
    let (evaluated, predicted) = (median(evaluated), median(predicted));
    println!("{IMAGES} photographs, {backbone} at 224 x 224; medians of {REPEATS} repeats");
    for (name, seconds) in [
        ("preprocess (decode once)", decoded),
        ("evaluate (from the tensor cache)", evaluated),
        ("both", decoded + evaluated),
        ("predict (from JPEG files)", predicted),
    ] {
        let each = seconds * 1e3 / IMAGES as f64;
        println!("{name:34} {seconds:6.2} s  {each:6.2} ms per image");
    }
    let ratio = predicted / (decoded + evaluated);
    println!("predict takes {ratio:.2} times as long as preprocess and evaluate; goal 1");
    Ok(())
}
