//! Networks on a GPU against the same networks on the CPU in f64: every launch of training and
//! inference, on the fake driver and the fake cuDNN.

use super::card::bench::settings::numbers;
use super::{Case, Outcome, Scenario};
use pipe::cuda::NoCache;
use pipe::cuda::convolution::Precision;
use pipe::nn::cuda::{CudaNetwork, Gpu};
use pipe::nn::{
    BatchNorm, Builder, Graph, Head, Input, Learner, Network, Op, Rule, StepOptions, TrainingNeeds,
    WeightTensor, Weights, Window, backbone,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(super) const SCENARIOS: &[Scenario] = &[
    ("small_f32", || Ok(compare(small(), Precision::F32, SGD))),
    ("small_bf16", || Ok(compare(small(), Precision::Bf16, SGD))),
    ("small_adamw", || Ok(compare(small(), Precision::F32, ADAMW))),
    ("resnet18", || Ok(compare(of_backbone("resnet18", 64), Precision::F32, GENTLE))),
    ("alexnet", || Ok(compare(of_backbone("alexnet", 64), Precision::F32, GENTLE))),
    ("inception_v3", || Ok(compare(of_backbone("inception_v3", 107), Precision::F32, GENTLE))),
    ("frozen", frozen),
    ("moments", moments),
    ("restored", restored),
    ("reserved", reserved),
];

const SGD: Rule =
    Rule::Sgd { learning_rate: 0.05, momentum: 0.9, nesterov: true, weight_decay: 1e-3 };
/// For deep networks from random weights, in which larger steps make small differences large.
const GENTLE: Rule =
    Rule::Sgd { learning_rate: 1e-4, momentum: 0.9, nesterov: false, weight_decay: 1e-3 };
const ADAMW: Rule = Rule::Adamw {
    learning_rate: 1e-3,
    betas: [0.9, 0.999],
    epsilon: 1e-8,
    weight_decay: 0.05,
    step: 1,
};

const CLASSES: usize = 3;
const BATCH: usize = 3;

fn head(dropout: f32) -> Head {
    Head::Dense { hidden: vec![5], dropout, classes: CLASSES }
}

/// Residual blocks, a concatenation, all pools, biases and dropout, at sizes that divide by
/// nothing.
fn small() -> Network {
    let (mut b, input) = Builder::new(11, 9, 3);
    let norm = || Op::BatchNorm { epsilon: 1e-3 };
    let biased = |channels, window| Op::Convolution { channels, window, bias: true };
    b.layer_group("all");
    let x = b.convolution("stem", input, 8, Window::square(3, 1, 1)).unwrap();
    let x = b.add("stem_norm", norm(), &[x]).unwrap();
    let x = b.relu(x).unwrap();
    let x = b.add("pool", Op::MaxPool(Window::square(3, 2, 1)), &[x]).unwrap();
    let y = b.convolution("a", x, 8, Window::square(3, 1, 1)).unwrap();
    let y = b.add("a_norm", norm(), &[y]).unwrap();
    let sum = b.add("sum", Op::Add, &[y, x]).unwrap();
    let x = b.relu(sum).unwrap();
    let left = b.add("left", biased(4, Window::square(1, 1, 0)), &[x]).unwrap();
    let left = b.add("left_relu", Op::Relu, &[left]).unwrap();
    let window = Window { kernel: (3, 1), stride: (1, 1), padding: (1, 0) };
    let right = b.convolution("right", x, 6, window).unwrap();
    let right = b.add("right_norm", norm(), &[right]).unwrap();
    let mean = Op::AveragePool { window: Window::square(3, 1, 1), count_padding: true };
    let mean = b.add("mean", mean, &[x]).unwrap();
    let x = b.add("joint", Op::Concatenate, &[left, right, mean]).unwrap();
    let x = b.add("bins", Op::AdaptivePool { height: 2, width: 2 }, &[x]).unwrap();
    let x = b.add("flatten", Op::Flatten, &[x]).unwrap();
    b.features(x);
    b.dense_head("fc", x, &head(0.3)).unwrap();
    network(b.finish().unwrap(), &head(0.3))
}

fn of_backbone(name: &str, side: usize) -> Network {
    let head = head(0.0);
    network(backbone(name).unwrap().graph(&head, (side, side)).unwrap(), &head)
}

fn network(graph: Graph, head: &Head) -> Network {
    Network::from_graph(graph, head, 5).unwrap()
}

fn gpu() -> Gpu {
    Gpu::open(0, Box::new(NoCache)).unwrap()
}

fn images(graph: &Graph, seed: u64) -> Vec<f32> {
    numbers(BATCH * graph.nodes()[0].shape.len(), seed)
}

fn targets() -> Vec<f32> {
    numbers(BATCH * CLASSES, 3).into_iter().map(f32::abs).collect()
}

/// The largest difference, relative to the largest number (1e-3 at least).
fn distance<'a>(pairs: impl Iterator<Item = (&'a f64, &'a f32)>) -> f64 {
    let (mut difference, mut largest) = (0.0_f64, 1e-3_f64);
    for (&expected, &found) in pairs {
        assert!(found.is_finite());
        difference = difference.max((expected - f64::from(found)).abs());
        largest = largest.max(expected.abs());
    }
    difference / largest
}

/// The median over tensors: in a deep network, one value that rounding moves across a ReLU's zero
/// changes some tensors' gradients much.
fn median_distance(
    expected: &BTreeMap<String, WeightTensor<f64>>,
    found: &BTreeMap<String, WeightTensor>,
) -> f64 {
    assert!(expected.keys().eq(found.keys()));
    let each = expected.values().zip(found.values()).map(|(expected, found)| {
        assert_eq!(expected.shape, found.shape);
        distance(expected.data.iter().zip(&found.data))
    });
    let mut all: Vec<f64> = each.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn rules(learner: &dyn Learner, rule: Rule, step: u64) -> Vec<Option<Rule>> {
    let of = |trainable: bool| {
        trainable.then_some(match rule {
            Rule::Adamw { learning_rate, betas, epsilon, weight_decay, .. } => {
                Rule::Adamw { learning_rate, betas, epsilon, weight_decay, step }
            }
            sgd => sgd,
        })
    };
    learner.parameters().into_iter().map(|(_, trainable)| of(trainable)).collect()
}

/// Trains all three with accumulation and clipping, and reports distances from the CPU in f64: the
/// GPU's and those of the CPU in f32, which show how much a network makes of rounding.
fn compare(network: Network, precision: Precision, rule: Rule) -> String {
    let gpu = gpu();
    let mut own = CudaNetwork::new(&gpu, &network, precision).unwrap();
    let mut exact = network.converted::<f64>().unwrap();
    let (mut single, graph) = (network, exact.graph().clone());
    let mut report = String::new();
    let mut note = |what: &str, [found, usual]: [f64; 2]| {
        writeln!(report, "{what} {found:.1e} {usual:.1e}").unwrap();
    };
    let relative = |found: f64, exact: f64| (found - exact).abs() / exact.abs();
    let all = |_: &str| true;
    for (step, (passes, batch_norm)) in
        [(1, BatchNorm::Batch), (2, BatchNorm::Batch), (1, BatchNorm::Running)]
            .into_iter()
            .enumerate()
    {
        for pass in 0..passes {
            let seed = (10 * step + pass) as u64;
            let options = StepOptions { seed: 7, step: seed, batch_norm };
            let images = images(&graph, seed);
            let input = Input::Images(&images);
            let of_gpu = own.pass(input, None, BATCH, &targets(), &options).unwrap();
            let of_cpu = Learner::pass(&mut single, input, None, BATCH, &targets(), &options);
            let of_cpu = of_cpu.unwrap();
            let right = exact.pass(input, None, BATCH, &targets(), &options).unwrap();
            note("loss", [of_gpu.loss, of_cpu.loss].map(|loss| relative(loss, right.loss)));
            let logits: Vec<f64> = right.logits.iter().map(|&logit| logit.into()).collect();
            let from = |found: &[f32]| distance(logits.iter().zip(found));
            note("logits", [from(&of_gpu.logits), from(&of_cpu.logits)]);
        }
        let limit = (step > 0).then_some(1.0);
        let rules = rules(&own, rule, step as u64 + 1);
        let right = exact.update(&rules, limit).unwrap();
        let norms = [own.update(&rules, limit), Learner::update(&mut single, &rules, limit)];
        if let Some(right) = right {
            note("norm", norms.map(|norm| relative(norm.unwrap().unwrap(), right)));
        }
        let tensors = exact.tensors(&all).unwrap();
        let found = [own.tensors(&all), Learner::tensors(&single, &all)];
        note("tensors", found.map(|found| median_distance(&tensors, &found.unwrap())));
    }
    let (moments, found) = (exact.moments().unwrap(), [own.moments(), Learner::moments(&single)]);
    note("moments", found.map(|found| median_distance(&moments, &found.unwrap())));
    let batch = 35;
    let images = numbers(batch * graph.nodes()[0].shape.len(), 99);
    let logits = exact.interpreted_logits(&images, batch).unwrap();
    let from = |found: Vec<f32>| distance(logits.iter().zip(&found));
    let of_cpu = from(single.logits(&images, batch).unwrap());
    let of_gpu = own.evaluate(Input::Images(&images), batch).unwrap();
    note("evaluation", [from(of_gpu), of_cpu]);
    let features = own.features(Input::Images(&images), batch).unwrap();
    let again = own.evaluate(Input::Features(&features), batch).unwrap();
    note("from features", [from(again), of_cpu]);
    report
}

/// With a frozen backbone: from images and from features, the same step.
fn frozen() -> Outcome {
    let gpu = gpu();
    let network = small();
    let choose = |info: &pipe::nn::ParameterInfo| info.group == "head";
    let images = images(network.graph(), 1);
    let step = |from_features: bool| {
        let mut own = CudaNetwork::new(&gpu, &network, Precision::F32).unwrap();
        own.set_trainable(&choose);
        let features = own.features(Input::Images(&images), BATCH).unwrap();
        let input = if from_features { Input::Features(&features) } else { Input::Images(&images) };
        let options = StepOptions { seed: 7, step: 3, batch_norm: BatchNorm::Batch };
        let pass = own.pass(input, None, BATCH, &targets(), &options).unwrap();
        own.update(&rules(&own, SGD, 1), None).unwrap();
        (pass, own.tensors(&|_| true).unwrap(), own.moments().unwrap())
    };
    let (from_images, from_features) = (step(false), step(true));
    assert_eq!(from_images.0.logits, from_features.0.logits);
    assert!(from_images.1 == from_features.1 && from_images.2 == from_features.2);
    let before = network.save().tensors;
    let changed: Vec<&String> =
        before.keys().filter(|&name| before[name] != from_images.1[name]).collect();
    Ok(format!("{changed:?} {:?}", from_images.2.keys().collect::<Vec<_>>()))
}

/// Moments and weights go from the GPU to the CPU and back, and training goes on alike.
fn moments() -> Outcome {
    let gpu = gpu();
    let network = small();
    let options = |step| StepOptions { seed: 7, step, batch_norm: BatchNorm::Batch };
    let images = images(network.graph(), 1);
    let step = |learner: &mut dyn Learner, number: u64| {
        learner.pass(Input::Images(&images), None, BATCH, &targets(), &options(number)).unwrap();
        let rules = rules(learner, ADAMW, number);
        learner.update(&rules, None).unwrap();
    };
    let mut straight = CudaNetwork::new(&gpu, &network, Precision::F32).unwrap();
    step(&mut straight, 1);
    let weights = Weights { tensors: straight.tensors(&|_| true).unwrap(), ..Weights::default() };
    let moments = straight.moments().unwrap();
    let mut on_cpu = small();
    Learner::restore(&mut on_cpu, &weights).unwrap();
    on_cpu.restore_moments(moments.clone()).unwrap();
    assert_eq!(on_cpu.moments().unwrap(), moments);
    let mut back = CudaNetwork::new(&gpu, &on_cpu, Precision::F32).unwrap();
    back.restore_moments(on_cpu.moments().unwrap()).unwrap();
    step(&mut straight, 2);
    step(&mut back, 2);
    assert!(straight.tensors(&|_| true).unwrap() == back.tensors(&|_| true).unwrap());
    Ok("the same".to_owned())
}

/// Steps and evaluations allocate nothing but small change after what was reserved for them.
fn reserved() -> Outcome {
    let gpu = gpu();
    let network = of_backbone("resnet18", 64);
    let mut own = CudaNetwork::new(&gpu, &network, Precision::F32).unwrap();
    let needs = TrainingNeeds {
        batch: BATCH,
        from_features: false,
        squares: None,
        batch_norm: BatchNorm::Batch,
        accumulates: true,
        has_second_moments: true,
    };
    let announced = own.reserve(&needs).unwrap().unwrap();
    // As a training begins.
    own.restore_moments(BTreeMap::new()).unwrap();
    let (before, _) = gpu.card().memory().unwrap();
    let images = images(network.graph(), 1);
    let input = Input::Images(&images);
    for step in 1..3 {
        let options = StepOptions { seed: 7, step, batch_norm: BatchNorm::Batch };
        for _ in 0..2 {
            own.pass(input, None, BATCH, &targets(), &options).unwrap();
        }
        own.update(&rules(&own, ADAMW, step), Some(1.0)).unwrap();
        own.evaluate(input, BATCH).unwrap();
    }
    let (after, _) = gpu.card().memory().unwrap();
    assert!(before - after < 500_000, "{} bytes after {announced}", before - after);
    Ok(announced.split(' ').take(4).collect::<Vec<_>>().join(" "))
}

/// What doesn't match is named, and nothing changes.
fn restored() -> Outcome {
    let gpu = gpu();
    let network = small();
    let mut own = CudaNetwork::new(&gpu, &network, Precision::F32).unwrap();
    let mut weights = network.save();
    weights.tensors.insert("other".into(), WeightTensor { shape: vec![1], data: vec![1.0] });
    let unknown = own.restore(&weights).unwrap_err().to_string();
    weights.tensors.remove("other");
    let bias = weights.tensors.get_mut("left.bias").unwrap();
    *bias = WeightTensor { shape: vec![5], data: vec![1.0; 5] };
    let shape = own.restore(&weights).unwrap_err().to_string();
    assert!(own.tensors(&|_| true).unwrap() == network.save().tensors);
    let short = own.pass(
        Input::Images(&[0.0; 7]),
        None,
        BATCH,
        &targets(),
        &StepOptions { seed: 1, step: 1, batch_norm: BatchNorm::Batch },
    );
    Ok(format!("{unknown}\n{shape}\n{}", short.unwrap_err()))
}

/// Runs a scenario and checks that no distance is above `limit`, unless the CPU's in f32 is about
/// as large.
#[track_caller]
fn within(scenario: &'static str, limit: f64) {
    let Some(report) = Case::new(scenario).kernels().run() else { return };
    let distances = report.lines().map(|line| {
        let mut words = line.rsplit(' ').map(|word| word.parse().unwrap_or(f64::INFINITY));
        let (usual, found) = (words.next(), words.next());
        (line, found.unwrap_or(f64::INFINITY), usual.unwrap_or(0.0))
    });
    let is_beyond = |&(_, found, usual): &(&str, f64, f64)| {
        let is_near = found <= limit || found < 3.0 * usual;
        !is_near
    };
    let beyond: Vec<_> = distances.clone().filter(is_beyond).collect();
    assert!(distances.count() > 10 && beyond.is_empty(), "{beyond:?}\n{report}");
}

#[test]
fn a_small_network_trains_as_on_the_cpu() {
    within("small_f32", 1e-4);
    within("small_adamw", 1e-3);
}

#[test]
fn bf16_is_near() {
    within("small_bf16", 0.2);
}

#[test]
fn resnet18_trains_as_on_the_cpu() {
    within("resnet18", 1e-3);
}

#[test]
fn alexnet_trains_as_on_the_cpu() {
    within("alexnet", 1e-3);
}

#[test]
fn inception_v3_trains_as_on_the_cpu() {
    within("inception_v3", 1e-3);
}

#[test]
fn a_head_trains_from_images_as_from_features() {
    Case::new("frozen").kernels().reports(r#"["fc.0.bias", "fc.0.weight", "fc.3.bias", "fc.3.weight"] ["first/fc.0.bias", "first/fc.0.weight", "first/fc.3.bias", "first/fc.3.weight"]"#);
}

#[test]
fn moments_go_to_the_cpu_and_back() {
    Case::new("moments").kernels().reports("the same");
}

#[test]
fn memory_is_allocated_before_the_first_step() {
    Case::new("reserved").kernels().reports("batches of 3 need");
}

#[test]
fn mismatches_are_named() {
    Case::new("restored").kernels().reports(
        "1 of the weights don't match the network: other: the network has no such tensor\n\
         1 of the weights don't match the network: left.bias is [5], the network's is [4]\n\
         7 values for a batch of 3, each 11 x 9 x 3",
    );
}
