//! Compares each block of the backbones with torchvision's in float64: loss, logits, running
//! statistics, and the gradient of every parameter. The numbers in `tests/golden/blocks` were
//! written by `make.py` beside them, which makes parameters and images by the same formula.

use crate::nn::backbones::{alexnet, inception, resnet};
use crate::nn::graph::{Builder, Graph, Head, Op, Value, Window};
use crate::nn::number::to_f64;
use crate::nn::{
    AUXILIARY, BatchNorm, Network, NnError, Number, StepOptions, WeightTensor, Weights,
    soft_targets,
};
use crate::nn::{Parameter, ParameterInfo, Role, parameters};
use std::collections::BTreeMap;
use std::path::Path;

const CLASSES: usize = 5;
const BATCH: usize = 3;
/// The relative distance from float64 that is allowed in `f32`; gradients are 1e-5 away at worst,
/// most a few 1e-6.
const NEAR: f64 = 1e-4;
/// The same in `f64`, and that of logits, which are rounded to `f32`.
const NEAR_DOUBLE: [f64; 2] = [1e-8, 1e-6];

type Block = fn(&mut Builder, Value) -> Result<Value, NnError>;

/// FNV-1a, 64 bits.
fn key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |value, byte| {
        (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Splitmix64 of a name's key, counted up.
fn bits(name: &str) -> impl Iterator<Item = u64> {
    let mut state = key(name);
    std::iter::from_fn(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(z ^ z >> 31)
    })
}

/// Numbers in [-1, 1).
fn numbers(name: &str, count: usize) -> Vec<f32> {
    bits(name).take(count).map(|bits| (bits >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// A parameter's value at the start, in torch's layout.
fn start(info: &ParameterInfo) -> WeightTensor {
    let mut data = numbers(&info.name, info.shape.iter().product());
    let (scale, shift) = match info.role {
        Role::NormWeight => (0.25, 1.0),
        Role::NormBias => (0.25, 0.0),
        Role::Bias => (1.0, 0.0),
        Role::ConvWeight | Role::LinearWeight => {
            ((6.0 / info.shape[1..].iter().product::<usize>() as f32).sqrt(), 0.0)
        }
    };
    data.iter_mut().for_each(|value| *value = *value * scale + shift);
    WeightTensor { shape: info.shape.clone(), data }
}

/// Sums with the random signs of a name.
fn sums<N: Number>(name: &str, values: &[N]) -> Vec<f64> {
    let mut sums = vec![0.0; 32];
    for (value, signs) in values.iter().zip(bits(&format!("signs {name}"))) {
        let value: f64 = (*value).into();
        for (bit, sum) in sums.iter_mut().enumerate() {
            *sum += if signs >> bit & 1 == 1 { value } else { -value };
        }
    }
    sums
}

/// The Euclidean distance relative to the length of `exact`, or to a half where that is next to
/// nothing, as it is for the gradient of a bias before a norm; of sums with random signs, an
/// estimate of that of what was summed.
fn distance(ours: &[f64], exact: &[f64]) -> f64 {
    assert_eq!(ours.len(), exact.len());
    let difference: f64 = ours.iter().zip(exact).map(|(a, b)| (a - b) * (a - b)).sum();
    difference.sqrt() / exact.iter().map(|v| v * v).sum::<f64>().sqrt().max(0.5)
}

fn golden(name: &str) -> BTreeMap<String, Vec<f64>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/blocks");
    let text = std::fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next().unwrap().to_owned(), words.map(|word| word.parse().unwrap()).collect())
    };
    text.lines().map(line).collect()
}

/// stem -> block -> flatten -> fc, or the auxiliary head beside a global mean.
fn graph(channels: usize, size: (usize, usize), block: Option<Block>) -> Graph {
    let (mut b, x) = Builder::new(size.0, size.1, 3);
    b.layer_group("stem");
    let x = b
        .add(
            "stem",
            Op::Convolution { channels, window: Window::square(1, 1, 0), bias: true },
            &[x],
        )
        .unwrap();
    b.layer_group("block");
    let mean: Block = |b, x| b.add("mean", Op::AdaptivePool { height: 1, width: 1 }, &[x]);
    let made = b.within("block", |b| block.unwrap_or(mean)(b, x)).unwrap();
    let made = b.add("flatten", Op::Flatten, &[made]).unwrap();
    b.features(made);
    b.add("fc", Op::Linear { channels: CLASSES }, &[made]).unwrap();
    if block.is_none() {
        b.auxiliary();
        b.within(AUXILIARY, |b| inception::auxiliary_head(b, x, CLASSES)).unwrap();
    }
    b.finish().unwrap().without_dropout()
}

/// Compares a block (or the auxiliary head, without one) with its golden file, in both precisions.
fn check(name: &str, channels: usize, size: (usize, usize), block: Option<Block>) {
    let golden = golden(name);
    let graph = graph(channels, size, block);
    let mut weights = Weights::default();
    weights
        .tensors
        .extend(parameters::describe(&graph).iter().map(|info| (info.name.clone(), start(info))));
    for norm in parameters::statistics(&graph) {
        let (mean, variance) = norm.names();
        for (name, data) in [(mean, norm.mean), (variance, norm.variance)] {
            weights.tensors.insert(name, WeightTensor { shape: vec![data.len()], data });
        }
    }
    let made = Network::from_weights(graph.clone(), &Head::Original, &weights, 0);
    let network = made.unwrap().0;
    step::<f32>(&network, size, |what, ours| {
        let error = distance(ours, &golden[what]);
        assert!(error < NEAR, "{name} {what}, f32: {error:.1e} from float64");
    });
    step::<f64>(&network, size, |what, ours| {
        let error = distance(ours, &golden[what]);
        let near = NEAR_DOUBLE[usize::from(["logits", "evaluated"].contains(&what))];
        assert!(error < near, "{name} {what}, f64: {error:.1e} from float64");
    });
    assert_eq!(golden.len(), parameters::describe(&graph).len() + 3, "{name}");
}

/// Calls `check` with each result of a step and its name in the golden file.
fn step<N: Number>(network: &Network, size: (usize, usize), check: impl Fn(&str, &[f64])) {
    let mut network = network.converted::<N>().unwrap();
    let images = numbers("pictures", BATCH * size.0 * size.1 * 3);
    let targets =
        soft_targets(&(0..BATCH).map(|label| label % CLASSES).collect::<Vec<_>>(), CLASSES, 0.0);
    let options = StepOptions { seed: 0, step: 0, batch_norm: BatchNorm::Batch };
    let step = network.step(&images, BATCH, &targets, &options).unwrap();
    check("loss", &[step.loss]);
    check("logits", &to_f64(&step.logits));
    check("evaluated", &to_f64(&network.logits(&images, BATCH).unwrap()));
    for parameter in network.parameters() {
        let Parameter { info, .. } = parameter;
        let gradient = network.torch_layout(info, &step.gradients.get(&parameter.tensor).as_vec());
        check(&info.name, &sums(&info.name, &gradient));
    }
}

#[test]
fn residual_blocks_are_torchvisions() {
    check("basic", 16, (6, 5), Some(|b, x| resnet::basic(b, x, 16, 1)));
    check("basic_projected", 16, (7, 6), Some(|b, x| resnet::basic(b, x, 32, 2)));
    check("bottleneck", 32, (6, 5), Some(|b, x| resnet::bottleneck(b, x, 8, 1)));
    check("bottleneck_projected", 16, (7, 6), Some(|b, x| resnet::bottleneck(b, x, 16, 2)));
}

#[test]
fn inception_blocks_are_torchvisions() {
    check("inception_a", 24, (6, 7), Some(|b, x| inception::block_a(b, x, 32)));
    check("inception_b", 24, (7, 8), Some(inception::block_b));
    check("inception_c", 24, (6, 7), Some(|b, x| inception::block_c(b, x, 128)));
    check("inception_d", 24, (7, 8), Some(inception::block_d));
    check("inception_e", 24, (4, 5), Some(inception::block_e));
}

#[test]
fn the_auxiliary_head_is_torchvisions() {
    check("auxiliary", 16, (17, 18), None);
}

#[test]
fn the_classifier_is_alexnets() {
    check("alexnet_classifier", 8, (6, 6), Some(|b, x| alexnet::classifier(b, x, 64)));
}

/// The estimate detects one wrong value among thousands, so the tests above can fail.
#[test]
fn random_signs_detect_a_small_difference() {
    let exact = numbers("values", 5000);
    let mut wrong = exact.clone();
    wrong[1234] += 0.05;
    let exact_sums = sums("x", &exact);
    let error = distance(&sums("x", &wrong), &exact_sums);
    let true_error = 0.05 / exact.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    assert!(error > NEAR && (0.6..1.6).contains(&(error / true_error)), "{error} {true_error}");
    assert_eq!(distance(&exact_sums, &exact_sums), 0.0);
}
