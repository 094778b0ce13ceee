//! Anonymous memory of training on 1,000 and on 20,000 records. The tensor cache is memory-mapped,
//! so anonymous memory must not grow with the data set. Runs `pipe` on drawn garments and samples
//! RssAnon of its worker processes. Both trainings take the same number of steps and keep the last
//! epoch, so that they write about as many checkpoints, which is when memory peaks, and neither
//! keeps the best epoch's weights beside the current ones. Uses only the command line. Needs Linux
//! for `/proc`.
//!
//! `cargo bench --bench memory`

#![allow(clippy::print_stdout, reason = "prints its measurements")]

mod watched;

use std::collections::BTreeMap;
use std::path::Path;
use watched::Peak;

const PIPELINE: &str = r#"
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

/// Runs the pipeline on `count` images up to the stage `until`. Returns the peak of each worker
/// process by stage.
fn run(folder: &Path, count: usize, epochs: usize, until: &str) -> BTreeMap<String, Peak> {
    let count = format!("stages.fetch.synthetic.count={count}");
    let epochs = format!("stages.train.epochs={epochs}");
    let arguments = ["run", "memory.toml", "--until", until, "--set", &count, "--set", &epochs];
    watched::run(folder, &arguments)
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("memory.toml"), PIPELINE).expect("a pipeline file");
    let mut anonymous = Vec::new();
    for (count, epochs) in [(1_000, 20), (20_000, 1)] {
        let mut peaks = run(folder.path(), count, epochs, "train");
        peaks.remove(watched::PARENT);
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
