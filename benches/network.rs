//! Images per second of ResNet-18 at 64x64 (batch 32), AlexNet and ResNet-50 at 224x224 and Inception
//! V3 at 299x299 (batch 16), forward and as a training step, medians of several runs. Where
//! `PIPE_PEER_PYTHON` names a Python that has torch and torchvision, PyTorch runs the same (channels
//! last, the faster of its layouts) in turn, and the median of the ratios is printed.
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

const PEER: &str = r#"
import sys, time, torch, torchvision
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
def rate(work):
    times = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return batch / sorted(times[1:])[runs // 2]
net.eval()
print(rate(forward))
if training:
    net.train()
    print(rate(step))
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

/// PyTorch's images per second of forward passes and, with `training`, of steps.
fn peer(case: &Case, training: bool) -> Option<Vec<f64>> {
    let python = std::env::var_os("PIPE_PEER_PYTHON")?;
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let numbers = [case.size, case.batch, case.runs, threads, usize::from(training)]
        .map(|number| number.to_string());
    let output = Command::new(python).args(["-c", PEER, case.model]).args(numbers).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let rates: Vec<f64> = text.split_whitespace().flat_map(str::parse).collect();
    (rates.len() == 1 + usize::from(training)).then_some(rates)
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
        let rounds: Vec<_> =
            (0..ROUNDS).map(|_| (ours(case, training), peer(case, training))).collect();
        let kinds = [("forward", 0), ("training step, f32", 1), ("training step, f64", 1)];
        for (index, (name, of_peer)) in
            kinds.iter().enumerate().take(if training { kinds.len() } else { 1 })
        {
            let rates = rounds.iter().map(|(ours, _)| ours[index]).collect();
            print!("    {name}: {:.1} images/s", median(rates));
            let pairs: Vec<(f64, f64)> = rounds
                .iter()
                .filter_map(|(ours, peer)| Some((ours[index], peer.as_ref()?[*of_peer])))
                .collect();
            if !pairs.is_empty() {
                let theirs = median(pairs.iter().map(|pair| pair.1).collect());
                let ratio = median(pairs.iter().map(|pair| pair.0 / pair.1).collect());
                print!(", PyTorch in f32 {theirs:.1}, ratio {ratio:.2}");
            }
            println!();
        }
    }
}
