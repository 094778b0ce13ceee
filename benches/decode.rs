//! Throughput of decoding and resizing: JPEG files in memory to 224 x 224 squares on one thread, in
//! images per second of CPU time, compared with Pillow and torchvision if Python has them.
//!
//! `cargo bench --bench decode [-- FOLDER]`: FOLDER contains JPEG files; without it, the benchmark
//! draws photo-like images of about 700 x 850 pixels.

#![allow(clippy::print_stdout, reason = "prints its measurements")]

mod photos;

use pipe::data::decode;
use pipe::data::{Fit, Interpolation, Preprocessing};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The goal in images per second on one core.
const GOAL: f64 = 450.0;
const DRAWN: u64 = 60;

const PEERS: &str = r#"
import glob, io, sys, time
data = [open(f, "rb").read() for f in sorted(glob.glob(sys.argv[1] + "/*.jpg"))]
def rate(name, work):
    for d in data[:5]: work(d)
    start = time.process_time()
    for d in data: work(d)
    print(name, len(data) / (time.process_time() - start))
try:
    from PIL import Image
    rate("Pillow", lambda d: Image.open(io.BytesIO(d)).convert("RGB").resize((224, 224), Image.BILINEAR))
except ImportError: pass
try:
    import torch, torchvision
    torch.set_num_threads(1)
    def vision(d):
        t = torchvision.io.decode_jpeg(torch.frombuffer(bytearray(d), dtype=torch.uint8))
        torchvision.transforms.functional.resize(t, [224, 224], antialias=True)
    rate("torchvision", vision)
except ImportError: pass
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let given =
        std::env::args().skip(1).find(|argument| !argument.starts_with('-')).map(PathBuf::from);
    let drawn = tempfile::tempdir()?;
    let folder = match &given {
        Some(folder) => folder.as_path(),
        None => {
            photos::draw(drawn.path(), DRAWN)?;
            drawn.path()
        }
    };
    let files = read(folder)?;
    let bytes: usize = files.iter().map(Vec::len).sum();
    println!(
        "{} JPEG files, {} kB each on average, to 224 x 224, one thread",
        files.len(),
        bytes / files.len() / 1000
    );
    let (fit, interpolation) = (Fit::Crop, Interpolation::Bilinear);
    let preprocessing = Preprocessing {
        resize: 224,
        crop: 224,
        fit,
        interpolation,
        mean: [0.5; 3],
        std: [0.5; 3],
        decoding: Default::default(),
    };
    let ours = rate(&files, |file| decode::preprocess(file, &preprocessing).map(drop))?;
    println!(
        "{:24} {ours:8.0} images/s of CPU time, {:.2} of the goal of {GOAL}",
        "pipe, decode and resize",
        ours / GOAL
    );
    let alone = rate(&files, |file| decode::decode(file, Default::default()).map(drop))?;
    println!("{:24} {alone:8.0}", "pipe, decode only");
    let mut found = false;
    for (name, peer) in peers(folder) {
        found = true;
        println!("{name:24} {peer:8.0}   pipe is {:.2} times as fast", ours / peer);
    }
    if !found {
        println!("no comparison: python3 has neither Pillow nor torchvision");
    }
    Ok(())
}

fn read(folder: &Path) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(std::fs::read).collect::<Result<_, _>>()?;
    if files.is_empty() {
        Err(format!("no .jpg files in {}", folder.display()).into())
    } else {
        Ok(files)
    }
}

/// Images per second of CPU time, so that other load on the machine doesn't count.
fn rate<E: Error + 'static>(
    files: &[Vec<u8>],
    work: impl Fn(&[u8]) -> Result<(), E>,
) -> Result<f64, Box<dyn Error>> {
    for file in files.iter().take(5) {
        work(file)?;
    }
    let (start, mut count) = (cpu_seconds()?, 0);
    while count == 0 || cpu_seconds()? - start < 3.0 {
        for file in files {
            work(file)?;
        }
        count += files.len();
    }
    Ok(count as f64 / (cpu_seconds()? - start))
}

/// CPU seconds of this process, from `/proc/self/stat`, whose unit is 10 ms on Linux.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 =
        fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

fn peers(folder: &Path) -> Vec<(String, f64)> {
    let Ok(output) = Command::new("python3").arg("-c").arg(PEERS).arg(folder).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(a, b)| Some((a.to_owned(), b.parse().ok()?)))
        .collect()
}
