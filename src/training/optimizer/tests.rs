//! Compares the optimizer with PyTorch and with its formulas.

use super::*;
use crate::nn::{Cpu, NnError, OptimizerState, Parameter, Shape, WeightTensor};
use crate::training::HEAD;
use dfdx::tensor::{Gradients, TensorFromVec};
use std::collections::BTreeMap;

const START: [f32; 3] = [0.5, -1.0, 2.0];
const GRADIENTS: [[f32; 3]; 3] = [[0.1, -0.2, 0.3], [0.4, 0.05, -0.6], [-0.7, 0.8, 0.9]];

fn parameter(name: &str, role: Role, group: &str, values: &[f32]) -> Parameter {
    let shape = match role {
        Role::LinearWeight => vec![1, values.len()],
        _ => vec![values.len()],
    };
    let info = ParameterInfo {
        name: name.to_owned(),
        shape,
        role,
        group: group.to_owned(),
        depth: 0,
        source: Shape::vector(values.len()),
    };
    let tensor = Cpu::default().tensor_from_vec(values.to_vec(), (values.len(),));
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

/// Parameters with an optimizer.
struct Training {
    parameters: Vec<Parameter>,
    state: OptimizerState,
    optimizer: Optimizer,
    max_norm: Option<f64>,
}

impl Training {
    fn new(config: &OptimizerConfig, parameters: Vec<Parameter>) -> Training {
        let optimizer = Optimizer::new(config, &infos(&parameters));
        let state = OptimizerState::new(parameters.len());
        Training { parameters, state, optimizer, max_norm: None }
    }

    /// A step with these gradients of each parameter.
    fn step(&mut self, gradients: &[&[f32]], multiplier: f64) -> Option<f64> {
        let mut given = Gradients::leaky();
        for (parameter, values) in self.parameters.iter().zip(gradients) {
            given.get_or_alloc_mut(&parameter.tensor).unwrap().copy_from_slice(values);
        }
        self.state.add(&self.parameters, given).unwrap();
        let rules = self.optimizer.rules(&infos(&self.parameters), multiplier);
        self.state.update(&mut self.parameters, &rules, self.max_norm).unwrap()
    }

    /// The first value of each parameter.
    fn values(&self) -> Vec<f32> {
        self.parameters.iter().map(|parameter| parameter.tensor.as_vec()[0]).collect()
    }
}

fn infos(parameters: &[Parameter]) -> Vec<(&ParameterInfo, bool)> {
    parameters.iter().map(|parameter| (&parameter.info, parameter.trainable)).collect()
}

/// One parameter after three steps.
fn run(options: &OptimizerConfig, role: Role) -> Vec<f32> {
    let mut training = Training::new(options, vec![parameter("x", role, HEAD, &START)]);
    for values in &GRADIENTS {
        training.step(&[values], 1.0);
    }
    training.parameters[0].tensor.as_vec()
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
    for (kind, expected) in [
        (OptimizerKind::Sgd, 2.0 - 0.1 * (0.5 + 0.01 * 2.0)),
        (OptimizerKind::Adamw, 2.0 - 0.1 * 0.01 * 2.0 - 0.1),
    ] {
        let parameters = vec![parameter("x", Role::LinearWeight, HEAD, &[2.0])];
        let mut training = Training::new(&options(kind, 0.1, 0.01), parameters);
        training.step(&[&[0.5]], 1.0);
        close(&training.values(), &[expected]);
    }
}

#[test]
fn groups_have_their_own_learning_rates_and_frozen_parameters_stay() {
    let mut parameters = vec![
        parameter("a", Role::ConvWeight, "layer1", &[1.0]),
        parameter("b", Role::LinearWeight, HEAD, &[1.0]),
        parameter("c", Role::ConvWeight, "conv1", &[1.0]),
    ];
    parameters[2].trainable = false;
    let options = OptimizerConfig {
        backbone_learning_rate: Some(0.01),
        ..options(OptimizerKind::Sgd, 0.1, 0.0)
    };
    let mut training = Training::new(&options, parameters);
    training.step(&[&[1.0][..]; 3], 0.5);
    close(&training.values(), &[0.995, 0.95, 1.0]);
}

#[test]
fn layer_decay_multiplies_the_learning_rate_by_depth() {
    let parameters =
        [("conv1", 0), ("layer1", 1), ("layer2", 2), (HEAD, 3)].map(|(group, depth)| {
            let mut parameter = parameter(group, Role::LinearWeight, group, &[1.0]);
            parameter.info.depth = depth;
            parameter
        });
    let group = OptimizerConfig {
        backbone_learning_rate: Some(0.04),
        ..options(OptimizerKind::Sgd, 0.1, 0.0)
    };
    let options = OptimizerConfig { layer_decay: 0.5, ..group };
    let mut training = Training::new(&options, parameters.into());
    training.step(&[&[1.0][..]; 4], 1.0);
    close(&training.values(), &[0.99, 0.98, 0.96, 0.9]);
}

#[test]
fn unfrozen_parameters_count_their_own_steps() {
    // Adam's first step has the size of the learning rate, whenever it is made.
    let mut parameters = vec![
        parameter("a", Role::Bias, "layer1", &[0.0]),
        parameter("b", Role::Bias, HEAD, &[0.0]),
    ];
    parameters[0].trainable = false;
    let mut training = Training::new(&options(OptimizerKind::Adamw, 0.1, 0.0), parameters);
    for steps in 0..5 {
        if steps == 4 {
            training.parameters[0].trainable = true;
            training.optimizer.add_trainable(&infos(&training.parameters), 4);
        }
        training.step(&[&[0.3][..]; 2], 1.0);
    }
    let values = training.values();
    close(&values[..1], &[-0.1]);
    assert!((values[1] + 0.5).abs() < 1e-5);
}

#[test]
fn the_global_norm_is_clipped() {
    let parameters = ["a", "b"].map(|name| parameter(name, Role::Bias, HEAD, &[0.0]));
    let mut training = Training::new(&options(OptimizerKind::Sgd, 1.0, 0.0), parameters.into());
    training.max_norm = Some(1.0);
    assert_eq!(training.step(&[&[3.0], &[4.0]], 1.0), Some(5.0));
    close(&training.values(), &[-0.6, -0.8]);
    training.step(&[&[0.1][..]; 2], 1.0);
    close(&training.values()[..1], &[-0.7]);
    let norm = training.step(&[&[f32::INFINITY][..]; 2], 1.0);
    assert!(norm.is_some_and(|norm| !norm.is_finite()));
    close(&training.values()[..1], &[-0.7]);
}

#[test]
fn gradients_of_several_passes_are_added() {
    let parameters = vec![parameter("x", Role::Bias, HEAD, &[0.0])];
    let mut training = Training::new(&options(OptimizerKind::Sgd, 1.0, 0.0), parameters);
    let mut given = Gradients::leaky();
    given.get_or_alloc_mut(&training.parameters[0].tensor).unwrap()[0] = 0.5;
    training.state.add(&training.parameters, given).unwrap();
    training.step(&[&[0.25]], 1.0);
    close(&training.values(), &[-0.75]);
    training.step(&[&[0.25]], 1.0);
    close(&training.values(), &[-1.0]);
}

#[test]
fn restored_moments_continue_to_the_same_parameters() {
    for kind in [OptimizerKind::Adamw, OptimizerKind::Sgd] {
        let options = OptimizerConfig { momentum: 0.9, ..options(kind, 0.1, 0.01) };
        let start = |values: &[f32]| vec![parameter("x", Role::LinearWeight, HEAD, values)];
        let mut whole = Training::new(&options, start(&START));
        whole.step(&[&GRADIENTS[0]], 1.0);
        whole.step(&[&GRADIENTS[1]], 1.0);
        let moments = whole.state.moments(&whole.parameters);
        let mut parts = Training::new(&options, start(&whole.parameters[0].tensor.as_vec()));
        parts.optimizer.resume(2);
        let names: Vec<String> = moments.keys().cloned().collect();
        assert_eq!(parts.optimizer.moment_names(&infos(&parts.parameters)), names);
        parts.state.restore(&parts.parameters, moments).unwrap();
        for training in [&mut whole, &mut parts] {
            training.step(&[&GRADIENTS[2]], 1.0);
        }
        assert_eq!(parts.parameters[0].tensor.as_vec(), whole.parameters[0].tensor.as_vec());
    }
}

#[test]
fn moments_of_another_network_are_refused() {
    let one = vec![parameter("x", Role::Bias, HEAD, &START)];
    let mut state = OptimizerState::new(1);
    for (name, shape) in [("first/x", vec![2]), ("first/y", vec![3])] {
        let tensor = WeightTensor { data: vec![0.0; shape[0]], shape };
        let moments = BTreeMap::from([(name.to_owned(), tensor)]);
        assert!(matches!(state.restore(&one, moments), Err(NnError::Mismatch(_))), "{name}");
    }
}
