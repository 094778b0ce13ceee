//! The whole program on a machine with a fake GPU: a pipeline is trained there as on the CPU.

use super::Case;
use crate::harness::Machine;
use pipe::nn::{Head, Network, write_safetensors};
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// Images are drawn, so that nothing else is needed.
const PIPELINE: &str = r#"[dataset]
labels = { from = "file_name", pattern = '^(?<index>\d+)_(?<class>\w+)$' }
split = { method = "exact", train = 0.5, validation = 0.25, test = 0.25 }

[stages.fetch]
source = "synthetic:garments"
synthetic = { count = 48, unlabelled = 0, kinds = [1, 5, 6] }

[stages.preprocess]
needs = { images = "fetch" }
resize = 36
crop = 32

[stages.train]
needs = { data = "preprocess" }
backbone = "resnet18"
epochs = 2
batch_size = 6
precision = "f32"
checkpoint = { every = 0.0 }
optimizer = { learning_rate = 1e-4 }
schedule = { warmup_epochs = 0 }
augment = { horizontal_flip = true, color_jitter = { brightness = 0.2, contrast = 0.2 } }

[stages.evaluate]
needs = { data = "preprocess", model = "train" }
"#;

/// A folder with the pipeline, on a machine.
struct Desk {
    folder: TempDir,
    machine: Machine,
}

/// What a command printed.
struct Ran {
    code: i32,
    text: String,
}

impl Desk {
    /// `None` where nothing can be compiled here.
    fn new(pipeline: &str) -> Option<Desk> {
        let machine = Case::new("none").kernels().machine()?;
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("p.toml"), pipeline).unwrap();
        Some(Desk { folder, machine })
    }

    fn pipe(&self, arguments: &[&str]) -> Ran {
        self.pipe_with(arguments, &[])
    }

    fn pipe_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
        command.args(arguments).current_dir(self.folder.path());
        self.machine.be_of(&mut command);
        command.env_remove("CUDA_VISIBLE_DEVICES").env_remove("PIPE_CACHE");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let code = output.status.code().unwrap_or(-1);
        Ran { code, text: String::from_utf8(text).unwrap() }
    }

    /// A folder in an artifact of a store.
    fn folder_of(&self, store: &str, name: &str) -> String {
        let found = walkdir::WalkDir::new(self.folder.path().join(store).join("v1/artifacts"));
        let mut paths = found.into_iter().map(|entry| entry.unwrap().into_path());
        let path = paths.find(|path| path.is_dir() && path.ends_with(name)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The bytes of a file in the latest artifact of a store that has it.
    fn file(&self, store: &str, name: &str) -> Vec<u8> {
        let found = walkdir::WalkDir::new(self.folder.path().join(store).join("v1/artifacts"));
        let files = found.into_iter().map(|entry| entry.unwrap().into_path());
        let mut files: Vec<_> = files.filter(|path| path.ends_with(name)).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        fs::read(files.remove(0)).unwrap()
    }
}

/// The numbers of a column of `history.csv`.
fn column(history: &[u8], name: &str) -> Vec<f64> {
    let text = std::str::from_utf8(history).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let place = lines.next().unwrap().iter().position(|field| *field == name).unwrap();
    lines.map(|line| line[place].parse().unwrap()).collect()
}

#[track_caller]
fn assert_ok(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}", ran.text);
}

#[test]
fn a_pipeline_trains_on_the_gpu_as_on_the_processor() {
    let Some(desk) = Desk::new(PIPELINE) else { return };
    let on_gpu = desk.pipe(&["run", "p.toml", "--cache", "gpu"]);
    assert_ok(&on_gpu);
    for sentence in ["on the GPU: Fake H100, cuDNN ", ", f32", "of GPU memory; ", " are left"] {
        assert!(on_gpu.text.contains(sentence), "{sentence}: {}", on_gpu.text);
    }
    assert_ok(&desk.pipe(&["run", "p.toml", "--cache", "cpu", "--device", "cpu"]));
    let losses = |store: &str| column(&desk.file(store, "history.csv"), "train_loss");
    for (found, expected) in losses("gpu").iter().zip(losses("cpu")) {
        assert!((found - expected).abs() < 5e-3 * expected, "{found} {expected}");
    }
    // A model that was trained there answers on the processor what it answers there.
    let images = desk.folder_of("gpu", "images");
    let predict = |device: &str| {
        let arguments = ["predict", "@0", &images, "--cache", "gpu", "--format", "csv"];
        let ran = desk.pipe(&[&arguments[..], &["--device", device]].concat());
        assert_ok(&ran);
        ran.text
    };
    let (there, here) = (predict("cuda"), predict("cpu"));
    assert!(here.lines().count() == there.lines().count() && here.lines().count() > 48, "{here}");
    for (there, here) in there.lines().zip(here.lines()).skip(1) {
        let [there, here] = [there, here].map(|line| {
            line.rsplit(',').next().unwrap().parse::<f64>().unwrap_or_else(|_| panic!("{line}"))
        });
        assert!((there - here).abs() < 1e-3, "{there} {here}");
    }
    let again = desk.pipe(&["run", "p.toml", "--cache", "gpu"]);
    assert!(again.code == 0 && again.text.contains("nothing to do"), "{}", again.text);
    // It doesn't even start the driver, which takes longer than the rest.
    let broken = [("FAKE_CUDA_FAIL", "cuInit:1:999")];
    let idle = desk.pipe_with(&["run", "p.toml", "--cache", "gpu"], &broken);
    assert!(idle.code == 0 && idle.text.contains("nothing to do"), "{}", idle.text);
    let forced =
        desk.pipe_with(&["run", "p.toml", "--cache", "gpu", "--dry-run", "--force"], &broken);
    assert!(forced.text.contains("since the GPU can't be used"), "{}", forced.text);
    let shown = desk.pipe(&["show", "@0", "--cache", "gpu", "--json"]);
    assert!(
        shown.text.contains("cuda:0 (Fake H100, driver for CUDA 13.0, cuDNN "),
        "{}",
        shown.text
    );
    let on_cpu = desk.pipe(&["status", "p.toml", "--cache", "gpu", "--device", "cpu"]);
    assert!(on_cpu.text.contains("cuda"), "{}", on_cpu.text);
    a_lost_gpu_costs_no_byte(&desk);
}

/// A run whose GPU fails goes on from its last checkpoint, and ends in the bytes of one that didn't.
fn a_lost_gpu_costs_no_byte(desk: &Desk) {
    // Error 719 in the launch of a captured graph, in the middle of training.
    let lost = [("FAKE_CUDA_FAIL", "cuGraphLaunch:3:719")];
    let failed = desk.pipe_with(&["run", "p.toml", "--cache", "resumed"], &lost);
    assert!(failed.code != 0 && failed.text.contains("the GPU failed while"), "{}", failed.text);
    let resumed = desk.pipe(&["run", "p.toml", "--cache", "resumed"]);
    assert_ok(&resumed);
    assert!(resumed.text.contains("resuming from a checkpoint"), "{}", resumed.text);
    let model = |store: &str| desk.file(store, "model.safetensors");
    assert!(model("gpu") == model("resumed"));
}

#[test]
fn a_frozen_backbone_trains_from_features_of_the_gpu() {
    let frozen = PIPELINE
        .replace(
            "{ data = \"preprocess\" }\nbackbone",
            "{ data = \"preprocess\", weights = \"weights\" }\nbackbone",
        )
        .replace("batch_size = 6\n", "batch_size = 6\nfreeze = \"all\"\n");
    let without_augmentation = frozen.lines().filter(|line| !line.starts_with("augment"));
    let weights = ["[stages.weights]", "kind = \"fetch\"", "source = \"path:weights.safetensors\""];
    let lines: Vec<&str> = without_augmentation.chain(weights).collect();
    let Some(desk) = Desk::new(&lines.join("\n")) else { return };
    let head = Head::Dense { hidden: vec![], dropout: 0.0, classes: 5 };
    let network = Network::new("resnet18", &head, (32, 32), 7).unwrap();
    write_safetensors(&desk.folder.path().join("weights.safetensors"), &network.save()).unwrap();
    assert_ok(&desk.pipe(&["run", "p.toml", "--cache", "gpu"]));
    assert_ok(&desk.pipe(&["run", "p.toml", "--cache", "cpu", "--device", "cpu"]));
    let losses = |store: &str| column(&desk.file(store, "history.csv"), "validation_loss");
    for (found, expected) in losses("gpu").iter().zip(losses("cpu")) {
        assert!((found - expected).abs() < 1e-3 * expected, "{found} {expected}");
    }
}

#[test]
fn what_a_gpu_cannot_do_is_said_before_anything_runs() {
    let Some(desk) = Desk::new(PIPELINE) else { return };
    let refused = |arguments: &[&str], variables: &[(&str, &str)], sentence: &str| {
        let ran = desk.pipe_with(&[&["run", "p.toml"], arguments].concat(), variables);
        assert!(ran.code != 0 && ran.text.contains(sentence), "{}", ran.text);
        let artifacts = desk.folder.path().join("cache/v1/artifacts");
        assert!(fs::read_dir(artifacts).map_or(true, |mut all| all.next().is_none()));
    };
    let precision = |precision| format!("stages.train.precision=\"{precision}\"");
    refused(&["--set", &precision("f64")], &[], "`precision = \"f64\"` isn't possible on a GPU");
    refused(&["--device", "cuda:3"], &[], "there is no GPU 3; there is only 0: Fake H100");
    let on_cpu = ["--device", "cpu", "--set", &precision("tf32")];
    refused(&on_cpu, &[], "`precision = \"tf32\"` isn't possible on the processor");
    let old = [("FAKE_CUDA_CAPABILITY", "75")];
    refused(&["--set", &precision("bf16")], &old, "does not compute in bf16");
}

#[test]
fn a_batch_that_does_not_fit_is_named_with_one_that_does() {
    let Some(desk) = Desk::new(PIPELINE) else { return };
    let small = [("FAKE_CUDA_MEMORY", "300000000")];
    let many = [
        "run",
        "p.toml",
        "--set",
        "stages.train.batch_size=24",
        "--set",
        "stages.preprocess.crop=224",
        "--set",
        "stages.preprocess.resize=256",
    ];
    let ran = desk.pipe_with(&many, &small);
    assert!(ran.code != 0, "{}", ran.text);
    assert!(
        ran.text.contains("a batch of 24 needs ") && ran.text.contains("use `batch_size = "),
        "{}",
        ran.text
    );
}
