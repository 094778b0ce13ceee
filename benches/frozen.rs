//! Transfer learning end to end: a frozen ResNet-50 with a dense head, 20 epochs on photographs,
//! from JPEG files to metrics. Runs `pipe` on an empty store, then again with another head.
//! Compared with Keras on the same files, with the backbone in every epoch and, as Keras's guide
//! recommends, with features extracted once. Seconds and peak memory, medians of several runs. Uses
//! only the command line. Needs Linux for `/proc`.
//!
//! `PIPE_PEER_PYTHON=PYTHON cargo bench --bench frozen [-- FOLDER]`: PYTHON has Keras and
//! TensorFlow; FOLDER contains JPEG files named `index_class.jpg`; without it, the benchmark draws
//! photo-like images.

#![allow(clippy::print_stdout, reason = "prints its measurements")]

mod photos;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PIPE: &str = env!("CARGO_BIN_EXE_pipe");
const DRAWN: u64 = 240;
const EPOCHS: u32 = 20;
const REPEATS: usize = 3;

const PEER: &str = r#"
import glob, os, resource, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np, tensorflow as tf
folder, epochs, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
files = sorted(glob.glob(folder + "/*.jpg"))
labels = np.array([int(os.path.splitext(f)[0].rsplit("_", 1)[1]) for f in files])
classes = int(labels.max()) + 1
def load(path, label):
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    return tf.image.resize(image, [224, 224]), tf.one_hot(label, classes)
data = tf.data.Dataset.from_tensor_slices((files, labels)).map(load, num_parallel_calls=2).batch(32).prefetch(2)
backbone = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
backbone.trainable = False
head = [keras.layers.Dense(256, activation="relu"), keras.layers.Dense(classes, activation="softmax")]
model = keras.Sequential(head if mode == "features" else [backbone, *head])
model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
start = time.perf_counter()
if mode == "features":
    features = backbone.predict(data, verbose=0)
    model.fit(features, keras.utils.to_categorical(labels, classes), epochs=epochs, verbose=0)
    seconds = time.perf_counter() - start
else:
    model.fit(data, epochs=1, verbose=0)
    start = time.perf_counter()
    model.fit(data, epochs=2, verbose=0)
    seconds = (time.perf_counter() - start) / 2 * epochs
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, keras.__version__)
"#;

/// Time and peak memory of one run.
#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    /// Most resident memory at a time, of all processes together.
    megabytes: f64,
}

fn pipeline(work: &Path, images: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let file = work.join("frozen.toml");
    let text = format!(
        r#"
[pipeline]
name = "frozen"
[dataset]
labels = {{ from = "file_name", pattern = '^(?<index>\d+)_(?<class>\d+)$' }}
split = {{ method = "exact", train = 0.8, validation = 0.1, test = 0.1 }}
[stages.fetch]
source = "path:{}"
[stages.preprocess]
needs = {{ images = "fetch" }}
size = 224
fit = "stretch"
[stages.train]
needs = {{ data = "preprocess" }}
backbone = "resnet50"
freeze = "all"
head = {{ hidden = [256] }}
epochs = {EPOCHS}
batch_size = 32
[stages.evaluate]
needs = {{ data = "preprocess", model = "train" }}
"#,
        images.display()
    );
    std::fs::write(&file, text)?;
    Ok(file)
}

/// Runs `pipe` and measures it.
fn ours(file: &Path, store: &Path, more: &[&str]) -> Result<Cost, Box<dyn Error>> {
    let start = Instant::now();
    let mut child = Command::new(PIPE)
        .args(["run".as_ref(), file.as_os_str(), "--cache".as_ref(), store.as_os_str()])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut kilobytes = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        kilobytes = kilobytes.max(resident(child.id()));
        std::thread::sleep(Duration::from_millis(10));
    };
    if !status.success() {
        return Err(format!("the run ended with {status}").into());
    }
    Ok(Cost { seconds: start.elapsed().as_secs_f64(), megabytes: kilobytes as f64 / 1e3 })
}

/// Resident kilobytes of a process and its children.
fn resident(parent: u32) -> u64 {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let of = |path: PathBuf| {
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let field = |name: &str| -> Option<u64> {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        };
        let ours = [field("PPid:")?, field("Pid:")?].contains(&u64::from(parent));
        ours.then(|| field("VmRSS:")).flatten()
    };
    entries.filter_map(|entry| of(entry.ok()?.path())).sum()
}

/// Runs Keras and measures it. Also returns its version.
fn keras(python: &str, images: &Path, mode: &str) -> Result<(Cost, String), Box<dyn Error>> {
    let output = Command::new(python)
        .args(["-c", PEER])
        .arg(images)
        .args([&EPOCHS.to_string(), mode])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [seconds, megabytes, version] = fields[..] else {
        return Err(
            format!("{python} has no Keras: {}", String::from_utf8_lossy(&output.stderr)).into()
        );
    };
    Ok((Cost { seconds: seconds.parse()?, megabytes: megabytes.parse()? }, version.to_owned()))
}

fn median(costs: &[Cost]) -> Cost {
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Cost {
        seconds: middle(costs.iter().map(|cost| cost.seconds).collect()),
        megabytes: middle(costs.iter().map(|cost| cost.megabytes).collect()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let given =
        std::env::args().skip(1).find(|argument| !argument.starts_with('-')).map(PathBuf::from);
    let (drawn, work) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let images = match given {
        Some(folder) => folder.canonicalize()?,
        None => {
            photos::draw(drawn.path(), DRAWN)?;
            drawn.path().to_owned()
        }
    };
    let file = pipeline(work.path(), &images)?;
    let python = std::env::var("PIPE_PEER_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let (mut whole, mut again, mut features, mut peer) =
        (Vec::new(), Vec::new(), Vec::new(), Ok(String::new()));
    for repeat in 0..REPEATS {
        let store = work.path().join(format!("store-{repeat}"));
        whole.push(ours(&file, &store, &[])?);
        again.push(ours(&file, &store, &["--set", "stages.train.head.hidden=[64]"])?);
        if peer.is_ok() {
            peer = keras(&python, &images, "features").map(|(cost, version)| {
                features.push(cost);
                version
            });
        }
    }
    let (whole, again) = (median(&whole), median(&again));
    let count = std::fs::read_dir(&images)?.count();
    println!(
        "{count} photographs, frozen ResNet-50 at 224 x 224, dense head, {EPOCHS} epochs; medians of {REPEATS} runs"
    );
    let line = |name: &str, cost: Cost| {
        println!("{name:42} {:7.1} s {:6.0} MB", cost.seconds, cost.megabytes)
    };
    line("pipe, from JPEG files to metrics", whole);
    line("pipe, second run with another head", again);
    match peer {
        Err(reason) => println!("no comparison: {reason}"),
        Ok(version) => {
            let features = median(&features);
            let (stream, _) = keras(&python, &images, "stream")?;
            let compare = |name: &str, cost: Cost| {
                line(&format!("Keras {version}, {name}"), cost);
                let (speedup, fraction) =
                    (cost.seconds / whole.seconds, whole.megabytes / cost.megabytes);
                println!(
                    "{:42} pipe is {speedup:.1} times as fast, in {fraction:.2} of the memory",
                    ""
                );
            };
            compare("features extracted once", features);
            compare("the backbone in every epoch", stream);
        }
    }
    Ok(())
}
