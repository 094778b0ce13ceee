//! Training from a tensor cache that isn't held in memory: `pipe run` on images that it draws,
//! CARD_CACHE_GB in all (4). Images per second, the share of
//! time that the GPU waits for images, anonymous memory of the host, and memory of the card beside
//! what the program announced.

use super::settings::{gpu_index, models, number, side, words};
use super::{Outcome, line, watched};
use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const EPOCHS: usize = 3;

/// What stands before and after the size in the sentence that announces it.
const ANNOUNCED: [&str; 2] = [" need ", " of GPU memory; "];

/// Runs the pipeline in `folder`.
pub(crate) fn run(folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    let batch = number("CARD_STREAMING_BATCH", 256);
    fs::write(folder.join("streaming.toml"), pipeline(batch)?)?;
    let log = folder.join("streaming.log");
    let before = used();
    let mut child = Command::new(program())
        .args(["run", "streaming.toml", "--json", "--device", &format!("cuda:{}", gpu_index())])
        .current_dir(folder)
        .stdout(File::create(&log)?)
        .stderr(Stdio::inherit())
        .spawn()?;
    let ((status, peaks), most) = while_sampling(|| watched::watch(&mut child));
    let text = fs::read_to_string(&log)?;
    if !status.success() {
        let last = text.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        return Err(format!("the run ended with {status}:\n{last}").into());
    }
    let train = peaks.get("train").copied().unwrap_or_default();
    line(&["streaming", "batch", &batch.to_string()]);
    let rates = scalars(&text, "images_per_second", 1);
    line(&["streaming", "images per second, by epoch", &rates]);
    let waiting = scalars(&text, "gpu_waiting", 4);
    line(&["streaming", "share of waiting, by epoch", &waiting]);
    let anonymous = format!("{:.0} MB", train.anonymous as f64 / 1e3);
    line(&["streaming", "anonymous memory of the host", &anonymous]);
    line(&["streaming", "memory of the card, announced", &announced(&text)]);
    let more = |(most, before): (u64, u64)| format!("{} MiB", most.saturating_sub(before));
    let used = most.zip(before).map_or_else(|| "unknown".to_owned(), more);
    line(&["streaming", "memory of the card, used", &used]);
    Ok(())
}

/// PIPE_EXE, where the benchmark runs on another machine than it was built on.
fn program() -> String {
    std::env::var("PIPE_EXE").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pipe").to_owned())
}

fn pipeline(batch: usize) -> Result<String, Box<dyn Error>> {
    let model = models().into_iter().next().ok_or("no model is chosen")?;
    let side = side(&model);
    let gigabytes: f64 = words("CARD_CACHE_GB", "4").concat().parse()?;
    let count = (gigabytes * 1e9 / (side * side * 3) as f64).ceil() as usize;
    let precision = words("CARD_STREAMING_PRECISION", "bf16").concat();
    Ok(format!(
        r#"[dataset]
labels = {{ from = "file_name", pattern = '^(?<index>\d+)_(?<class>\w+)$' }}
split = {{ train = 0.9, validation = 0.1, test = 0.0 }}

[stages.fetch]
source = "synthetic:garments"
synthetic = {{ count = {count}, unlabelled = 0, kinds = [1, 6] }}

[stages.preprocess]
needs = {{ images = "fetch" }}
size = {side}

[stages.train]
needs = {{ data = "preprocess" }}
backbone = "{model}"
epochs = {EPOCHS}
batch_size = {batch}
precision = "{precision}"
keep = "last"
augment = {{ horizontal_flip = true }}
"#
    ))
}

/// The values of a scalar, one for each epoch.
fn scalars(log: &str, name: &str, digits: usize) -> String {
    let value = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        (event.get("name")?.as_str()? == name).then(|| event.get("value")?.as_f64()).flatten()
    };
    let values = log.lines().filter_map(value).map(|value| format!("{value:.digits$}"));
    values.collect::<Vec<_>>().join(" ")
}

/// The memory of the card that the program said it needs.
fn announced(log: &str) -> String {
    let sentence =
        log.split_once(ANNOUNCED[1]).and_then(|(before, _)| before.rsplit_once(ANNOUNCED[0]));
    sentence.map_or("unknown", |(_, needed)| needed).to_owned()
}

/// The result of `work`, and the most memory of the card that was used meanwhile.
fn while_sampling<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut most = None;
            while !ended.load(Ordering::Relaxed) {
                most = most.max(used());
                std::thread::sleep(Duration::from_millis(500));
            }
            most
        });
        let result = work();
        ended.store(true, Ordering::Relaxed);
        (result, sampler.join().unwrap_or(None))
    })
}

/// MiB of the card's memory that all programs use.
fn used() -> Option<u64> {
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=memory.used", "--format=csv,noheader,nounits"])
        .args(["-i", &gpu_index().to_string()])
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
