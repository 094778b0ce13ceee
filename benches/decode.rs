//! Throughput of JPEG files on one thread, in images per second of CPU time, compared with Pillow
//! and torchvision if Python has them (`PIPE_PEER_PYTHON` names another Python than `python3`):
//!
//! - decoding and resizing to 224 x 224 squares, from memory;
//! - the whole way to records: reading, checking the digest, decoding, resizing, digesting, writing;
//! - loading batches from raw and from JPEG records.
//!
//! `cargo bench --bench decode [-- FOLDER]`: FOLDER contains JPEG files; without it, the benchmark
//! draws photo-like images of about 700 x 850 pixels.

#![allow(clippy::print_stdout, reason = "prints its measurements")]

mod photos;
mod squares;

use pipe::data::decode;
use pipe::data::images::{self, FOLDER, Image, ImageSet, LISTING};
use pipe::data::tensor_cache::{RECORDS, Sketching, Storage, Writer, write_table};
use pipe::data::{InputInfo, Loader, LoaderOptions, Sample, Split, TensorCache};
use pipe::events::{CancellationToken, EventSink};
use pipe::store::digest_bytes;
use squares::preprocessing;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The goal from file to record, in images per second on one core.
const GOAL: f64 = 510.0;
/// Goals in multiples of torchvision's decode and resize: to a record; loading JPEG records.
const GOALS: [f64; 2] = [2.5, 1.5];
/// The peers that `pipe` is compared with, as [`PEERS`] names them.
const RESIZED: &str = "torchvision, decode and resize";
const STORED: &str = "torchvision, stored 224 x 224";
const DRAWN: u64 = 60;

const PEERS: &str = r#"
import glob, io, sys, time
data = [open(f, "rb").read() for f in sorted(glob.glob(sys.argv[1] + "/*.jpg"))]
def rate(name, work, data):
    for d in data[:5]: work(d)
    start, count = time.process_time(), 0
    while count == 0 or time.process_time() - start < 3:
        for d in data: work(d)
        count += len(data)
    print(name + "\t" + str(count / (time.process_time() - start)))
try:
    from PIL import Image
    rate("Pillow, decode and resize", lambda d: Image.open(io.BytesIO(d)).convert("RGB").resize((224, 224), Image.BILINEAR), data)
except ImportError: pass
try:
    import torch, torchvision
    torch.set_num_threads(1)
    tensor = lambda d: torch.frombuffer(bytearray(d), dtype=torch.uint8)
    resized = lambda d: torchvision.transforms.functional.resize(torchvision.io.decode_jpeg(tensor(d)), [224, 224], antialias=True)
    rate("torchvision, decode and resize", resized, data)
    mean, std = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.5)
    stored = [bytes(torchvision.io.encode_jpeg(resized(d), quality=95).numpy()) for d in data]
    rate("torchvision, stored 224 x 224", lambda d: (torchvision.io.decode_jpeg(tensor(d)).float() / 255 - mean) / std, stored)
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
    // The writer's pool.
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let files = read(folder)?;
    let bytes: usize = files.iter().map(Vec::len).sum();
    println!(
        "{} JPEG files, {} kB each on average, to 224 x 224, one thread, images/s of CPU time",
        files.len(),
        bytes / files.len() / 1000
    );
    let preprocessing = preprocessing();
    let decoded = rate(&files, |file| decode::preprocess(file, &preprocessing).map(drop))?;
    let alone = rate(&files, |file| decode::decode(file, Default::default()).map(drop))?;
    let fetched = fetched(&files)?;
    let set = images::open(fetched.path(), None)?;
    let raw = tempfile::tempdir()?;
    let jpeg = tempfile::tempdir()?;
    let to_raw = to_records(&set, raw.path(), Storage::Raw)?;
    let to_jpeg = to_records(&set, jpeg.path(), Storage::Jpeg { quality: 95 })?;
    let [from_raw, from_jpeg] = [load(raw.path())?, load(jpeg.path())?];
    let ours = [
        ("pipe, decode and resize", decoded),
        ("pipe, decode only", alone),
        ("pipe, file to raw record", to_raw),
        ("pipe, file to JPEG record", to_jpeg),
        ("pipe, load raw records", from_raw),
        ("pipe, load JPEG records", from_jpeg),
    ];
    for (name, rate) in ours {
        println!("{name:32} {rate:8.0}");
    }
    println!("{:32} {:8.2} of the goal of {GOAL}", "file to raw record", to_raw / GOAL);
    let size = |folder: &Path| std::fs::metadata(folder.join(RECORDS)).map(|found| found.len());
    let share = size(jpeg.path())? as f64 / size(raw.path())? as f64;
    println!("{:32} {:8.2} of raw ones' bytes", "JPEG records", share);
    let peers = peers(folder);
    for (name, peer) in &peers {
        println!("{name:32} {peer:8.0}");
    }
    let find = |wanted: &str| peers.iter().find(|(name, _)| name == wanted).map(|(_, rate)| *rate);
    match (find(RESIZED), find(STORED)) {
        (Some(resized), Some(stored)) => {
            let ratios = [("file to raw record", to_raw), ("load JPEG records", from_jpeg)];
            for ((name, rate), goal) in ratios.into_iter().zip(GOALS) {
                println!("{name:32} {:8.2} times {RESIZED}; goal {goal}", rate / resized);
            }
            println!("{:32} {:8.2} times {STORED}", "load JPEG records", from_jpeg / stored);
        }
        _ => println!("no comparison: the Python has no torchvision"),
    }
    Ok(())
}

/// The files as a fetched artifact.
fn fetched(files: &[Vec<u8>]) -> Result<tempfile::TempDir, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join(FOLDER))?;
    let mut list = Vec::new();
    for (index, bytes) in files.iter().enumerate() {
        let path = format!("{index:05}.jpg");
        std::fs::write(folder.path().join(FOLDER).join(&path), bytes)?;
        list.push(Image { path, length: bytes.len() as u64, digest: digest_bytes(bytes) });
    }
    std::fs::write(folder.path().join(LISTING), images::listing(list))?;
    Ok(folder)
}

/// Writes a tensor cache again and again. Returns the images per second of CPU time.
fn to_records(set: &ImageSet, folder: &Path, storage: Storage) -> Result<f64, Box<dyn Error>> {
    let (geometry, cancel) = (preprocessing().geometry(), CancellationToken::new());
    let task = EventSink::silent().task("decode", None, "images");
    let writer = Writer {
        images: set,
        geometry: &geometry,
        storage,
        earlier: None,
        sketches: Some(Sketching { path: &folder.join("sketches"), earlier: None }),
        task: &task,
        cancel: &cancel,
    };
    let path = folder.join(RECORDS);
    let mut made = writer.write(&path)?;
    let (start, mut count) = (cpu_seconds()?, 0);
    while count == 0 || cpu_seconds()? - start < 3.0 {
        made = writer.write(&path)?;
        count += set.list().len();
    }
    let rate = count as f64 / (cpu_seconds()? - start);
    let sample = |image: &Image| {
        let record = made.entries.iter().position(|entry| entry.image_digest == image.digest);
        Some(Sample {
            path: image.path.clone(),
            image_digest: image.digest,
            record: record? as u32,
            class: Some(0),
            split: Split::Train,
            note: String::new(),
        })
    };
    let samples: Vec<Sample> = set.list().iter().filter_map(sample).collect();
    let info = InputInfo { preprocessing: preprocessing(), classes: vec!["one".into()] };
    write_table(folder, &info, samples.into_iter())?;
    Ok(rate)
}

/// Loads batches again and again. Returns the images per second of CPU time.
fn load(folder: &Path) -> Result<f64, Box<dyn Error>> {
    let cache = Arc::new(TensorCache::open(folder)?);
    let pass = || -> Result<usize, Box<dyn Error>> {
        let options = LoaderOptions { ahead: 0, ..LoaderOptions::default() };
        let mut count = 0;
        for batch in Loader::new(Arc::clone(&cache), cache.of_split(Split::Train), options) {
            count += batch?.samples.len();
        }
        Ok(count)
    };
    pass()?;
    let (start, mut count) = (cpu_seconds()?, 0);
    while count == 0 || cpu_seconds()? - start < 3.0 {
        count += pass()?;
    }
    Ok(count as f64 / (cpu_seconds()? - start))
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
    let python = std::env::var("PIPE_PEER_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let Ok(output) = Command::new(python).arg("-c").arg(PEERS).arg(folder).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| line.split_once('\t'))
        .filter_map(|(a, b)| Some((a.to_owned(), b.parse().ok()?)))
        .collect()
}
