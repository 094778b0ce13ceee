//! Schedules against dfdx's tape: a training step of every family of backbones, in `f64`, at several
//! freeze points, with batch and running statistics. Auxiliary heads, which need larger images, are held to
//! finite differences in `gradients`.

use super::executor::{Inputs, from_cpu_layout, run, to_cpu_layout};
use super::{Case, Random};
use crate::nn::graph::{Graph, Head};
use crate::nn::schedule::{Element, Options, Schedule, TrainingInput};
use crate::nn::{
    BatchNorm, Network, ParameterInfo, StepOptions, WeightTensor, Weights, backbone, layout,
};

/// The largest distance of a gradient from the tape's, relative to the gradient's norm. Sums are in
/// another order, and a few values that are nearly 0 fall on the other side of a ReLU.
const NEAR: f64 = 1e-6;

fn head() -> Head {
    Head::Dense { hidden: vec![7], dropout: 0.0, classes: 3 }
}

/// A value that is the same in `f32`.
fn rounded(value: f64) -> f64 {
    f64::from(value as f32)
}

/// The values of a case that a network takes in `f32`, rounded.
fn case(graph: Graph) -> Case {
    let mut case = Case::new(graph, 2, 11);
    let mut random = Random(12);
    case.parameters.iter_mut().flatten().for_each(|value| *value *= 0.3);
    for (mean, variance) in &mut case.running {
        mean.iter_mut().for_each(|value| *value = rounded(0.1 * *value));
        variance.iter_mut().for_each(|value| *value = rounded(1.0 + 0.3 * random.value()));
    }
    case.images.iter_mut().for_each(|value| *value = rounded(*value));
    case.targets.iter_mut().for_each(|value| *value = rounded(*value));
    case
}

fn outputs(info: &ParameterInfo) -> usize {
    if info.shape.len() > 1 { info.shape[0] } else { 1 }
}

/// A network on the CPU with a case's parameters and statistics.
fn network(case: &Case) -> Network<f64> {
    let network = Network::from_graph(case.graph.clone(), &head(), 1).unwrap();
    let mut network = network.converted::<f64>().unwrap();
    let mut weights = Weights::default();
    for (parameter, values) in network.parameters().iter().zip(&case.parameters) {
        let info = &parameter.info;
        let data = layout::to_torch(info, &to_cpu_layout(values, outputs(info)));
        weights.tensors.insert(info.name.clone(), WeightTensor { shape: info.shape.clone(), data });
    }
    let names = network.names();
    let buffers = names[case.parameters.len()..].chunks_exact(2).zip(&case.running);
    for (names, (mean, variance)) in buffers {
        for (name, data) in names.iter().zip([mean, variance]) {
            let tensor = WeightTensor { shape: vec![data.len()], data: data.clone() };
            weights.tensors.insert(name.clone(), tensor);
        }
    }
    network.restore(&weights).unwrap();
    network
}

fn to_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

/// The distance of two vectors, relative to the second.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| a - b));
    difference / norm(&mut b.iter().copied()).max(1e-12)
}

/// Compares one step of everything from the layer group `from` on.
fn check(case: &Case, network: &mut Network<f64>, from: usize, batch_norm: BatchNorm, what: &str) {
    network.set_trainable(|info| info.depth >= from);
    let trainable: Vec<bool> =
        network.parameters().iter().map(|parameter| parameter.trainable).collect();
    let options = Options { batch: case.batch, element: Element::F32 };
    let schedule =
        Schedule::training(&case.graph, &trainable, TrainingInput::Images, batch_norm, options);
    let inputs = Inputs {
        parameters: &case.parameters,
        running: &case.running,
        input: &case.images,
        targets: &case.targets,
        key: &|_| 0,
    };
    let own = run(&schedule.unwrap(), &inputs);
    let (images, targets) = (to_f32(&case.images), to_f32(&case.targets));
    let options = StepOptions { seed: 0, step: 0, batch_norm };
    let mut step = network.step(&images, case.batch, &targets, &options).unwrap();
    assert!((own.loss / step.loss - 1.0).abs() < NEAR, "{what}: {} {}", own.loss, step.loss);
    let logits: Vec<f64> = step.logits.iter().map(|&logit| logit.into()).collect();
    assert!(distance(&own.output, &logits) < 1e-6, "{what}: logits");
    for (parameter, gradient) in network.parameters().iter().zip(&own.gradients) {
        let name = &parameter.info.name;
        assert_eq!(gradient.is_some(), parameter.trainable, "{what}: {name}");
        let Some(gradient) = gradient else { continue };
        let tape = step.gradients.get_or_alloc_mut(&parameter.tensor).unwrap();
        let tape = from_cpu_layout(tape, outputs(&parameter.info));
        let far = distance(gradient, &tape);
        assert!(far < NEAR, "{what}: the gradient of {name} is {far:.1e} from the tape's");
    }
}

fn check_backbone(name: &str, size: usize) {
    let graph = backbone(name).unwrap().graph(&head(), (size, size)).unwrap();
    let case = case(graph.without_dropout());
    let groups = case.graph.layer_groups().len();
    for from in [0, groups / 2, groups - 1] {
        for batch_norm in [BatchNorm::Batch, BatchNorm::Running] {
            let mut network = network(&case);
            let what = format!("{name} from group {from} on, {batch_norm:?}");
            check(&case, &mut network, from, batch_norm, &what);
        }
    }
}

#[test]
fn a_step_of_residual_networks_is_the_tapes() {
    check_backbone("resnet18", 40);
    check_backbone("resnet50", 40);
}

#[test]
fn a_step_of_inception_is_the_tapes() {
    check_backbone("inception_v3", 87);
}

#[test]
fn a_step_of_alexnet_is_the_tapes() {
    check_backbone("alexnet", 63);
}
