//! Images per second of ResNet-18 at 64x64 (batch 32), AlexNet and ResNet-50 at 224x224 and Inception
//! V3 at 299x299 (batch 16), forward and as a training step, medians of several runs. Where
//! `PIPE_PEER_PYTHON` names a Python that has torch and torchvision, PyTorch (channels last) runs the
//! same in turn; if it has them, ONNX Runtime (onnx, onnxruntime) and OpenVINO run the forward pass,
//! too. The median of the ratios to each is printed.
//! `cargo bench --bench network [-- forward] [alexnet …]`: `forward` leaves out training; as many
//! threads as there are cores.

#![allow(clippy::print_stdout, reason = "prints its measurements")]

use pipe::nn::{Backend, BatchNorm, Cpu, Head, Network, Number, StepOptions, soft_targets};
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
model, size, batch, runs, threads, training = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
options = {"init_weights": False} if model == "inception_v3" else {}
net = getattr(torchvision.models, model)(weights=None, **options).to(memory_format=torch.channels_last)
x = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
y = torch.randint(0, 1000, (batch,))
def forward():
    with torch.no_grad():
        net(x)
def step():
    net.zero_grad()
    out = net(x)
    out = out.logits if hasattr(out, "logits") else out
    torch.nn.functional.cross_entropy(out, y).backward()
def rate(what, whose, work):
    times = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    print(what, whose, batch / sorted(times[1:])[runs // 2])
net.eval()
rate("forward", "PyTorch", forward)
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
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(openvino.convert_model(net, example_input=x), "CPU", settings)
    request = compiled.create_infer_request()
    rate("forward", "OpenVINO", lambda: request.infer({0: x.numpy()}))
except ImportError as missing:
    print(missing, file=sys.stderr)
if training:
    net.train()
    rate("step", "PyTorch", step)
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

/// Images per second of forward passes in evaluation; with `training`, of steps in `f32` and in
/// `f64`, too.
fn ours(case: &Case, training: bool) -> Vec<f64> {
    let network =
        Network::new(case.model, &Head::Original, (case.size, case.size), 1, Cpu::default())
            .expect("a network");
    let images: Vec<f32> = (0..case.batch * case.size * case.size * 3)
        .map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0)
        .collect();
    let targets = soft_targets(&(0..case.batch).map(|i| i * 31).collect::<Vec<_>>(), 1000, 0.0);
    let forward = || rate(case, || drop(network.logits(&images, case.batch).expect("logits")));
    let narrow = || steps::<f32>(&network, case, &images, &targets);
    let wide = || steps::<f64>(&network, case, &images, &targets);
    let works: [&dyn Fn() -> f64; 3] = [&forward, &narrow, &wide];
    let mut used = Vec::new();
    let timed = |work: &&dyn Fn() -> f64| {
        let begin = processor_seconds();
        let rate = work();
        let images = ((case.runs + 1) * case.batch) as f64;
        used.push(format!("{:.1}", 1e3 * (processor_seconds() - begin) / images));
        rate
    };
    let rates = works[..if training { 3 } else { 1 }].iter().map(timed).collect();
    println!("    processor time an image: {} ms", used.join(", "));
    rates
}

/// Training steps in a precision.
fn steps<N: Number>(network: &Network<Cpu>, case: &Case, images: &[f32], targets: &[f32]) -> f64
where
    Cpu: Backend<N>,
{
    let mut network = network.converted::<N>().expect("a network");
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
    let numbers = [case.size, case.batch, case.runs, threads, usize::from(training)]
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
    let given: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let training = !given.iter().any(|word| word == "forward");
    let models: Vec<&String> = given.iter().filter(|word| *word != "forward").collect();
    let wanted = |case: &&Case| models.is_empty() || models.iter().any(|name| *name == case.model);
    for case in CASES.iter().filter(wanted) {
        println!("{} at {}x{}, batch {}", case.model, case.size, case.size, case.batch);
        let rounds: Vec<(Vec<f64>, Vec<Measured>)> =
            (0..ROUNDS).map(|_| (ours(case, training), peers(case, training))).collect();
        let kinds = [
            ("forward", "forward"),
            ("step", "training step, f32"),
            ("step", "training step, f64"),
        ];
        for (index, (what, name)) in kinds.iter().enumerate().take(if training { 3 } else { 1 }) {
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
                    println!("        {whose} in f32: {theirs:.1}, ratio {ratio:.2}");
                }
            }
        }
    }
}
