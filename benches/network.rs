//! Images per second of ResNet-50 at 224x224 (batch 16) and ResNet-18 at 64x64 (batch 32), forward
//! and as a training step, medians of several runs. Where `PIPE_PEER_PYTHON` names a Python that
//! has torch and torchvision, PyTorch runs the same (channels last, the faster of its layouts) in
//! the same go and the ratio is printed. `cargo bench --bench network [-- resnet18]`; as many
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

const CASES: [Case; 2] = [
    Case { model: "resnet18", size: 64, batch: 32, runs: 9 },
    Case { model: "resnet50", size: 224, batch: 16, runs: 3 },
];

const PEER: &str = r#"
import sys, time, torch, torchvision
model, size, batch, runs, threads = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
net = getattr(torchvision.models, model)(weights=None).to(memory_format=torch.channels_last)
x = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
y = torch.randint(0, 1000, (batch,))
def forward():
    with torch.no_grad():
        net(x)
def step():
    net.zero_grad()
    torch.nn.functional.cross_entropy(net(x), y).backward()
def rate(work):
    times = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return batch / sorted(times[1:])[runs // 2]
net.eval()
a = rate(forward)
net.train()
print(a, rate(step))
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

/// Images per second of forward passes in evaluation, of steps in `f32` and of steps in `f64`.
fn ours(case: &Case) -> [f64; 3] {
    let network =
        Network::new(case.model, &Head::Original, (case.size, case.size), 1, Cpu::default())
            .expect("a network");
    let images: Vec<f32> = (0..case.batch * case.size * case.size * 3)
        .map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0)
        .collect();
    let targets = soft_targets(&(0..case.batch).map(|i| i * 31).collect::<Vec<_>>(), 1000, 0.0);
    let total = ((case.runs + 1) * case.batch) as f64;
    let begin = processor_seconds();
    let forward = rate(case, || drop(network.logits(&images, case.batch).expect("logits")));
    let mut used = vec![processor_seconds() - begin];
    let mut timed = |work: &dyn Fn() -> f64| {
        let begin = processor_seconds();
        let rate = work();
        used.push(processor_seconds() - begin);
        rate
    };
    let narrow = timed(&|| steps::<f32>(&network, case, &images, &targets));
    let wide = timed(&|| steps::<f64>(&network, case, &images, &targets));
    let milliseconds: Vec<String> =
        used.iter().map(|seconds| format!("{:.1}", 1e3 * seconds / total)).collect();
    println!("    processor time an image, forward and steps: {} ms", milliseconds.join(", "));
    [forward, narrow, wide]
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

fn peer(case: &Case) -> Option<(f64, f64)> {
    let python = std::env::var_os("PIPE_PEER_PYTHON")?;
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let numbers = [case.size, case.batch, case.runs, threads].map(|number| number.to_string());
    let output = Command::new(python).args(["-c", PEER, case.model]).args(numbers).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut rates = text.split_whitespace().flat_map(str::parse);
    Some((rates.next()?, rates.next()?))
}

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for case in CASES
        .iter()
        .filter(|case| wanted.is_empty() || wanted.iter().any(|name| name == case.model))
    {
        println!("{} at {}x{}, batch {}", case.model, case.size, case.size, case.batch);
        let [forward, narrow, wide] = ours(case);
        let (torch_forward, torch_step) = peer(case).unzip();
        for (what, ours, torch) in [
            ("forward", forward, torch_forward),
            ("training step, f32", narrow, torch_step),
            ("training step, f64", wide, torch_step),
        ] {
            let ratio = torch.map_or(String::new(), |torch| {
                format!(", PyTorch in f32 {torch:.1}, ratio {:.2}", ours / torch)
            });
            println!("    {what}: {ours:.1} images/s{ratio}");
        }
    }
}
