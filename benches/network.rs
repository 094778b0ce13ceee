//! Images per second of ResNet-18 at 64x64 (batch 32), AlexNet and ResNet-50 at 224x224 and Inception
//! V3 at 299x299 (batch 16), forward and as a training step, in f32 and, where the processor has the
//! instructions, in bf16, medians of several runs. Where `PIPE_PEER_PYTHON` names a Python that has
//! torch and torchvision, PyTorch (channels last; autocast for bf16) runs the same in turn; if it has
//! them, ONNX Runtime (onnx, onnxruntime; f32 alone) and OpenVINO run the forward pass, too. The
//! median of the ratios to each is printed, and how far bf16 moves the logits.
//! `cargo bench --bench network [-- forward] [alexnet …]`: `forward` leaves out training, `bf16`
//! leaves out f32, `f64` adds training steps in f64; as many threads as there are cores.

#![allow(clippy::print_stdout, reason = "prints its measurements")]

use pipe::nn::{
    BatchNorm, Head, Network, Number, Products, StepOptions, has_bf16, keep_freed_memory,
    soft_targets,
};
use std::process::Command;
use std::time::Instant;

struct Case {
    model: &'static str,
    size: usize,
    batch: usize,
    runs: usize,
}

const CASES: [Case; 4] = [
    Case { model: "resnet18", size: 64, batch: 32, runs: 9 },
    Case { model: "alexnet", size: 224, batch: 16, runs: 9 },
    Case { model: "resnet50", size: 224, batch: 16, runs: 3 },
    Case { model: "inception_v3", size: 299, batch: 16, runs: 3 },
];

/// Rounds of ours and the peer in turn.
const ROUNDS: usize = 3;

/// Prints a line per measurement: what, of whom, images per second.
const PEER: &str = r#"
import io, sys, time, torch, torchvision
model, size, batch, runs, threads, training, bf16 = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
options = {"init_weights": False} if model == "inception_v3" else {}
net = getattr(torchvision.models, model)(weights=None, **options).to(memory_format=torch.channels_last)
x = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
y = torch.randint(0, 1000, (batch,))
def autocast(bf16):
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16)
def forward(bf16=False):
    with torch.no_grad(), autocast(bf16):
        net(x)
def step(bf16=False):
    net.zero_grad()
    with autocast(bf16):
        out = net(x)
        out = out.logits if hasattr(out, "logits") else out
        loss = torch.nn.functional.cross_entropy(out, y)
    loss.backward()
def rate(what, whose, work):
    times = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    print(what, whose, batch / sorted(times[1:])[runs // 2])
net.eval()
rate("forward", "PyTorch", forward)
if bf16:
    rate("forward_bf16", "PyTorch", lambda: forward(True))
try:
    import onnx, onnxruntime
    file = io.BytesIO()
    torch.onnx.export(net, (x,), file, dynamo=False)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file.getvalue(), settings, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    rate("forward", "ONNX_Runtime", lambda: session.run(None, feed))
    import openvino
    converted = openvino.convert_model(net, example_input=x)
    for name, hint in [("forward", "f32"), ("forward_bf16", "bf16")][: 1 + bf16]:
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
        request = openvino.Core().compile_model(converted, "CPU", settings).create_infer_request()
        rate(name, "OpenVINO", lambda: request.infer({0: x.numpy()}))
except ImportError as missing:
    print(missing, file=sys.stderr)
if training:
    net.train()
    rate("step", "PyTorch", step)
    if bf16:
        rate("step_bf16", "PyTorch", lambda: step(True))
"#;

/// Images per second: the median of `runs`, after one that isn't counted.
fn rate(case: &Case, mut work: impl FnMut()) -> f64 {
    work();
    let mut seconds: Vec<f64> = (0..case.runs)
        .map(|_| {
            let begin = Instant::now();
            work();
            begin.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    case.batch as f64 / seconds[case.runs / 2]
}

/// Processor time of this process so far, user and system, in seconds.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .skip(11)
        .take(2)
        .flat_map(str::parse)
        .collect();
    fields.iter().sum::<f64>() / 100.0
}

/// What is measured: its name here and in the peers' lines.
const KINDS: [(&str, &str); 5] = [
    ("forward, f32", "forward"),
    ("forward, bf16", "forward_bf16"),
    ("training step, f32", "step"),
    ("training step, bf16", "step_bf16"),
    ("training step, f64", "step"),
];

/// What the command line asks for.
struct Wanted {
    training: bool,
    f64: bool,
    f32: bool,
    models: Vec<String>,
}

impl Wanted {
    fn from_arguments() -> Wanted {
        let mut wanted = Wanted { training: true, f64: false, f32: true, models: Vec::new() };
        for word in std::env::args().skip(1).filter(|word| !word.starts_with('-')) {
            match &word[..] {
                "forward" => wanted.training = false,
                "f64" => wanted.f64 = true,
                "bf16" => wanted.f32 = false,
                _ => wanted.models.push(word),
            }
        }
        wanted
    }

    /// Indices of [`KINDS`].
    fn kinds(&self) -> Vec<usize> {
        let bf16 = has_bf16();
        let training = self.training;
        let chosen = [self.f32, bf16, training && self.f32, training && bf16, training && self.f64];
        (0..KINDS.len()).filter(|&kind| chosen[kind]).collect()
    }
}

/// Images per second of each of some kinds.
fn ours(case: &Case, kinds: &[usize]) -> Vec<f64> {
    let new = |products| {
        let input = (case.size, case.size);
        let mut network = Network::new(case.model, &Head::Original, input, 1).expect("a network");
        network.set_products(products).expect("a processor with AVX2");
        network
    };
    let images: Vec<f32> = (0..case.batch * case.size * case.size * 3)
        .map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0)
        .collect();
    let targets = soft_targets(&(0..case.batch).map(|i| i * 31).collect::<Vec<_>>(), 1000, 0.0);
    let logits = |network: &Network| network.logits(&images, case.batch).expect("logits");
    let forward = |products| {
        let network = new(products);
        rate(case, || drop(logits(&network)))
    };
    let mut used = Vec::new();
    let timed = |&kind: &usize| {
        let begin = processor_seconds();
        let rate = match kind {
            0 => forward(Products::Own),
            1 => forward(Products::Bf16),
            2 => steps::<f32>(new(Products::Own), case, &images, &targets),
            3 => steps::<f32>(new(Products::Bf16), case, &images, &targets),
            _ => {
                let network = new(Products::Own).converted::<f64>().expect("a network");
                steps(network, case, &images, &targets)
            }
        };
        let images = ((case.runs + 1) * case.batch) as f64;
        used.push(format!("{:.1}", 1e3 * (processor_seconds() - begin) / images));
        rate
    };
    let rates = kinds.iter().map(timed).collect();
    println!("    processor time an image: {} ms", used.join(", "));
    if kinds.contains(&1) {
        let distance = distance(&logits(&new(Products::Bf16)), &logits(&new(Products::Own)));
        println!("    relative distance of logits in bf16: {distance:.1e}");
    }
    rates
}

/// |a - b| / |b|.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b)));
    difference / norm(&mut b.iter().map(|&b| f64::from(b)))
}

/// Training steps.
fn steps<N: Number>(mut network: Network<N>, case: &Case, images: &[f32], targets: &[f32]) -> f64 {
    let mut step = 0;
    rate(case, || {
        step += 1;
        let options = StepOptions { seed: 1, step, batch_norm: BatchNorm::Batch };
        drop(network.step(images, case.batch, targets, &options).expect("a step"));
    })
}

/// What a peer measured: `forward` or `step`, its name, images per second.
type Measured = (String, String, f64);

/// The peers' images per second of forward passes and, with `training`, of steps.
fn peers(case: &Case, training: bool) -> Vec<Measured> {
    let Some(python) = std::env::var_os("PIPE_PEER_PYTHON") else { return Vec::new() };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let flags = [training, has_bf16()].map(usize::from);
    let numbers = [case.size, case.batch, case.runs, threads, flags[0], flags[1]]
        .map(|number| number.to_string());
    let output = Command::new(python).args(["-c", PEER, case.model]).args(numbers).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let measured = |line: &str| {
        let mut words = line.split(' ');
        let (what, whose) = (words.next()?.to_owned(), words.next()?.replace('_', " "));
        Some((what, whose, words.next()?.parse().ok()?))
    };
    text.unwrap_or_default().lines().filter_map(measured).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let wanted = Wanted::from_arguments();
    let kinds = wanted.kinds();
    if wanted.training {
        // As the train stage does.
        keep_freed_memory();
    }
    let is_wanted = |case: &&Case| {
        wanted.models.is_empty() || wanted.models.iter().any(|name| name == case.model)
    };
    for case in CASES.iter().filter(is_wanted) {
        println!("{} at {}x{}, batch {}", case.model, case.size, case.size, case.batch);
        let rounds: Vec<(Vec<f64>, Vec<Measured>)> =
            (0..ROUNDS).map(|_| (ours(case, &kinds), peers(case, wanted.training))).collect();
        for (index, (name, what)) in kinds.iter().map(|&kind| KINDS[kind]).enumerate() {
            let rates = rounds.iter().map(|(ours, _)| ours[index]).collect();
            println!("    {name}: {:.1} images/s", median(rates));
            for whose in ["PyTorch", "ONNX Runtime", "OpenVINO"] {
                let pairs: Vec<(f64, f64)> = rounds
                    .iter()
                    .flat_map(|(ours, peers)| peers.iter().map(|peer| (ours[index], peer)))
                    .filter(|(_, peer)| (&peer.0[..], &peer.1[..]) == (what, whose))
                    .map(|(ours, peer)| (ours, peer.2))
                    .collect();
                if !pairs.is_empty() {
                    let theirs = median(pairs.iter().map(|pair| pair.1).collect());
                    let ratio = median(pairs.iter().map(|pair| pair.0 / pair.1).collect());
                    println!("        {whose}: {theirs:.1}, ratio {ratio:.2}");
                }
            }
        }
    }
}
