//! Compares the optimizer with PyTorch and with its formulas.

use super::*;
use crate::nn::{Cpu, Shape};
use crate::training::HEAD;
use dfdx::tensor::TensorFromVec;

const START: [f32; 3] = [0.5, -1.0, 2.0];
const GRADIENTS: [[f32; 3]; 3] = [[0.1, -0.2, 0.3], [0.4, 0.05, -0.6], [-0.7, 0.8, 0.9]];

fn parameter(device: &Cpu, name: &str, role: Role, group: &str, values: &[f32]) -> Parameter<Cpu> {
    let info = ParameterInfo {
        name: name.to_owned(),
        shape: vec![values.len()],
        role,
        group: group.to_owned(),
        depth: 0,
        source: Shape::vector(values.len()),
    };
    let tensor = device.tensor_from_vec(values.to_vec(), (values.len(),));
    Parameter { info, tensor, trainable: true }
}

fn options(kind: OptimizerKind, rate: f64, decay: f64) -> OptimizerConfig {
    OptimizerConfig {
        kind,
        learning_rate: rate,
        backbone_learning_rate: None,
        layer_decay: 1.0,
        weight_decay: decay,
        momentum: 0.0,
        nesterov: false,
        betas: [0.9, 0.999],
        epsilon: 1e-8,
    }
}

fn gradients(device: &Cpu, parameters: &[Parameter<Cpu>], values: &[f32]) -> Gradients<f32, Cpu> {
    let mut gradients = Gradients::leaky();
    for parameter in parameters {
        *gradients.get_or_alloc_mut(&parameter.tensor).unwrap() =
            buffers::write(device, values.to_vec()).unwrap();
    }
    gradients
}

/// One parameter after three steps.
fn run(options: &OptimizerConfig, role: Role) -> Vec<f32> {
    let device = Cpu::default();
    let mut parameters = vec![parameter(&device, "x", role, HEAD, &START)];
    let mut optimizer = Optimizer::new(options, None, &parameters, &device).unwrap();
    for values in &GRADIENTS {
        let gradients = gradients(&device, &parameters, values);
        optimizer.step(&mut parameters, gradients, 1.0, &device).unwrap();
    }
    parameters[0].tensor.as_vec()
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 5e-7, "{found:?} is not {expected:?}");
    }
}

/// PyTorch 2.15:
///
/// ```python
/// import torch
/// def run(make):
///     p = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))
///     o = make([p])
///     for g in ([0.1, -0.2, 0.3], [0.4, 0.05, -0.6], [-0.7, 0.8, 0.9]):
///         p.grad = torch.tensor(g); o.step()
///     print(p.detach().tolist())
/// run(lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1))
/// run(lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.0))
/// run(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01))
/// run(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01))
/// run(lambda p: torch.optim.SGD(p, lr=0.1))
/// ```
#[test]
fn steps_equal_pytorch() {
    let adamw = options(OptimizerKind::Adamw, 0.01, 0.1);
    close(&run(&adamw, Role::ConvWeight), &[0.48172346, -0.9876147, 1.9842511]);
    // No weight decay for norms and biases.
    for role in [Role::Bias, Role::NormWeight, Role::NormBias] {
        close(&run(&adamw, role), &[0.48319313, -0.99058694, 1.9902287]);
    }
    let sgd = OptimizerConfig { momentum: 0.9, ..options(OptimizerKind::Sgd, 0.1, 0.01) };
    close(&run(&sgd, Role::LinearWeight), &[0.46417537, -1.0297657, 1.9315436]);
    let nesterov = OptimizerConfig { nesterov: true, ..sgd };
    close(&run(&nesterov, Role::LinearWeight), &[0.48643976, -1.0889226, 1.872452]);
    let plain = options(OptimizerKind::Sgd, 0.1, 0.0);
    close(&run(&plain, Role::LinearWeight), &[0.52000004, -1.065, 1.9399999]);
}

#[test]
fn one_step_follows_the_formula() {
    // SGD: p - lr (g + decay p). AdamW's first: p - lr decay p - lr g/(|g| + eps).
    let device = Cpu::default();
    for (kind, expected) in [
        (OptimizerKind::Sgd, 2.0 - 0.1 * (0.5 + 0.01 * 2.0)),
        (OptimizerKind::Adamw, 2.0 - 0.1 * 0.01 * 2.0 - 0.1),
    ] {
        let mut parameters = vec![parameter(&device, "x", Role::LinearWeight, HEAD, &[2.0])];
        let mut optimizer =
            Optimizer::new(&options(kind, 0.1, 0.01), None, &parameters, &device).unwrap();
        let gradients = gradients(&device, &parameters, &[0.5]);
        optimizer.step(&mut parameters, gradients, 1.0, &device).unwrap();
        close(&parameters[0].tensor.as_vec(), &[expected]);
    }
}

#[test]
fn groups_have_their_own_learning_rates_and_frozen_parameters_stay() {
    let device = Cpu::default();
    let mut parameters = vec![
        parameter(&device, "a", Role::ConvWeight, "layer1", &[1.0]),
        parameter(&device, "b", Role::LinearWeight, HEAD, &[1.0]),
        parameter(&device, "c", Role::ConvWeight, "conv1", &[1.0]),
    ];
    parameters[2].trainable = false;
    let options = OptimizerConfig {
        backbone_learning_rate: Some(0.01),
        ..options(OptimizerKind::Sgd, 0.1, 0.0)
    };
    let mut optimizer = Optimizer::new(&options, None, &parameters, &device).unwrap();
    let gradients = gradients(&device, &parameters, &[1.0]);
    optimizer.step(&mut parameters, gradients, 0.5, &device).unwrap();
    let values: Vec<f32> =
        parameters.iter().flat_map(|parameter| parameter.tensor.as_vec()).collect();
    close(&values, &[0.995, 0.95, 1.0]);
}

#[test]
fn layer_decay_multiplies_the_learning_rate_by_depth() {
    let device = Cpu::default();
    let mut parameters: Vec<Parameter<Cpu>> =
        [("conv1", 0), ("layer1", 1), ("layer2", 2), (HEAD, 3)]
            .map(|(group, depth)| {
                let mut parameter = parameter(&device, group, Role::LinearWeight, group, &[1.0]);
                parameter.info.depth = depth;
                parameter
            })
            .into();
    let group = OptimizerConfig {
        backbone_learning_rate: Some(0.04),
        ..options(OptimizerKind::Sgd, 0.1, 0.0)
    };
    let options = OptimizerConfig { layer_decay: 0.5, ..group };
    let mut optimizer = Optimizer::new(&options, None, &parameters, &device).unwrap();
    let gradients = gradients(&device, &parameters, &[1.0]);
    optimizer.step(&mut parameters, gradients, 1.0, &device).unwrap();
    let values: Vec<f32> =
        parameters.iter().flat_map(|parameter| parameter.tensor.as_vec()).collect();
    close(&values, &[0.99, 0.98, 0.96, 0.9]);
}

#[test]
fn unfrozen_parameters_count_their_own_steps() {
    // Adam's first step has the size of the learning rate, whenever it is made.
    let device = Cpu::default();
    let mut parameters = vec![
        parameter(&device, "a", Role::Bias, "layer1", &[0.0]),
        parameter(&device, "b", Role::Bias, HEAD, &[0.0]),
    ];
    parameters[0].trainable = false;
    let options = options(OptimizerKind::Adamw, 0.1, 0.0);
    let mut optimizer = Optimizer::new(&options, None, &parameters, &device).unwrap();
    for steps in 0..5 {
        if steps == 4 {
            parameters[0].trainable = true;
            optimizer.add_trainable(&parameters, 4, &device).unwrap();
        }
        let gradients = gradients(&device, &parameters, &[0.3]);
        optimizer.step(&mut parameters, gradients, 1.0, &device).unwrap();
    }
    close(&parameters[0].tensor.as_vec(), &[-0.1]);
    assert!((parameters[1].tensor.as_vec()[0] + 0.5).abs() < 1e-5);
}

#[test]
fn the_global_norm_is_clipped() {
    let device = Cpu::default();
    let mut parameters = vec![
        parameter(&device, "a", Role::Bias, HEAD, &[0.0]),
        parameter(&device, "b", Role::Bias, HEAD, &[0.0]),
    ];
    let options = options(OptimizerKind::Sgd, 1.0, 0.0);
    let mut optimizer = Optimizer::new(&options, Some(1.0), &parameters, &device).unwrap();
    let mut large = gradients(&device, &parameters, &[3.0]);
    *large.get_or_alloc_mut(&parameters[1].tensor).unwrap() =
        buffers::write(&device, vec![4.0]).unwrap();
    assert_eq!(optimizer.step(&mut parameters, large, 1.0, &device).unwrap(), Some(5.0));
    close(&[parameters[0].tensor.as_vec()[0], parameters[1].tensor.as_vec()[0]], &[-0.6, -0.8]);
    let small = gradients(&device, &parameters, &[0.1]);
    optimizer.step(&mut parameters, small, 1.0, &device).unwrap();
    close(&[parameters[0].tensor.as_vec()[0]], &[-0.7]);
    let infinite = gradients(&device, &parameters, &[f32::INFINITY]);
    let norm = optimizer.step(&mut parameters, infinite, 1.0, &device).unwrap();
    assert!(norm.is_some_and(|norm| !norm.is_finite()));
    close(&[parameters[0].tensor.as_vec()[0]], &[-0.7]);
}

#[test]
fn a_restored_state_continues_to_the_same_parameters() {
    let device = Cpu::default();
    for kind in [OptimizerKind::Adamw, OptimizerKind::Sgd] {
        let options = OptimizerConfig { momentum: 0.9, ..options(kind, 0.1, 0.01) };
        let mut whole = vec![parameter(&device, "x", Role::LinearWeight, HEAD, &START)];
        let mut optimizer = Optimizer::new(&options, None, &whole, &device).unwrap();
        let mut parts = Vec::new();
        for (index, values) in GRADIENTS.iter().enumerate() {
            if index == 2 {
                parts = vec![parameter(
                    &device,
                    "x",
                    Role::LinearWeight,
                    HEAD,
                    &whole[0].tensor.as_vec(),
                )];
                let mut other = Optimizer::new(&options, None, &parts, &device).unwrap();
                let saved = optimizer.save(&whole, &device).unwrap();
                assert!(!other.restore(&parts, BTreeMap::new(), 2, &device).unwrap());
                assert!(other.restore(&parts, saved, 2, &device).unwrap());
                let gradients = gradients(&device, &parts, values);
                other.step(&mut parts, gradients, 1.0, &device).unwrap();
            }
            let gradients = gradients(&device, &whole, values);
            optimizer.step(&mut whole, gradients, 1.0, &device).unwrap();
        }
        assert_eq!(parts[0].tensor.as_vec(), whole[0].tensor.as_vec());
    }
}
