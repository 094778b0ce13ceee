//! Networks against torchvision's in float64, on folders that `torch_reference.py`-like scripts
//! wrote: `weights.safetensors` (a state dict in float32) and `io.safetensors` (`input` NCHW,
//! `labels`, and in float64 `logits`, `running.NAME`, `step_losses`, `grad.NAME`, `logits_after`,
//! with PyTorch's own float32 distance from each as `torch_error.WHAT`). The losses of Inception
//! with an auxiliary head include 0.4 times that head's.
//!
//! `PIPE_REFERENCE=FOLDER PIPE_REFERENCE_MODEL=resnet18 cargo test --release --test reference --
//! --nocapture`. Both may be lists separated by `:`, in the same order; one model may stand for all
//! folders. In `f32`, whole-network gradients and losses are compared with PyTorch's own float32 as
//! a median, for which at least three folders are needed. Without the variables there is nothing to
//! compare with and the tests pass.

#![allow(clippy::print_stdout, reason = "prints the distances that it found")]

use dfdx::optim::Momentum;
use dfdx::tensor::Gradients;
use dfdx::tensor_ops::SgdConfig;
use pipe::nn::{
    AUXILIARY, BackboneInfo, BatchNorm, Head, Network, Number, Parameter, StepOptions, Weights,
    backbone, read_safetensors, soft_targets,
};
use safetensors::{Dtype, SafeTensors};
use std::fmt;
use std::path::PathBuf;

struct Reference {
    folder: PathBuf,
    model: String,
    bytes: Vec<u8>,
}

impl Reference {
    /// Every folder that the environment names.
    fn all() -> Vec<Reference> {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let (folders, models) = (variable("PIPE_REFERENCE"), variable("PIPE_REFERENCE_MODEL"));
        let folders: Vec<&str> = folders.split(':').filter(|folder| !folder.is_empty()).collect();
        let models: Vec<&str> = models.split(':').filter(|model| !model.is_empty()).collect();
        if folders.is_empty() || models.is_empty() {
            return Vec::new();
        }
        assert!(models.len() == 1 || models.len() == folders.len(), "one model, or one a folder");
        let models = models.iter().cycle();
        folders
            .into_iter()
            .zip(models)
            .map(|(folder, model)| Reference::open(folder, model))
            .collect()
    }

    fn open(folder: &str, model: &str) -> Reference {
        let folder = PathBuf::from(folder);
        let bytes = std::fs::read(folder.join("io.safetensors")).expect("io.safetensors");
        Reference { folder, model: model.to_owned(), bytes }
    }

    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let view = file.tensor(name).expect(name);
        let values = match view.dtype() {
            Dtype::F32 => view
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|&b| f64::from(f32::from_le_bytes(b)))
                .collect(),
            Dtype::F64 => {
                view.data().as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect()
            }
            Dtype::I64 => {
                view.data().as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect()
            }
            other => panic!("{name} is {other:?}"),
        };
        (view.shape().to_vec(), values)
    }

    /// The images as NHWC, their number and size.
    fn images(&self) -> (Vec<f32>, usize, (usize, usize)) {
        let (shape, values) = self.tensor("input");
        let [batch, channels, height, width] = shape[..] else { panic!("input is {shape:?}") };
        let mut images = vec![0.0; values.len()];
        for (index, value) in values.iter().enumerate() {
            let (pixel, plane) = (index % (height * width), index / (height * width));
            let (image, channel) = (plane / channels, plane % channels);
            images[(image * height * width + pixel) * channels + channel] = *value as f32;
        }
        (images, batch, (height, width))
    }

    fn network(&self) -> Network {
        let size = self.images().2;
        let backbone = backbone(&self.model).expect("a backbone");
        let weights: Weights =
            read_safetensors(&self.folder.join("weights.safetensors")).expect("weights");
        // Without the auxiliary head's weights the script left it out of the loss as well.
        let auxiliary = weights.tensors.contains_key(&format!("{AUXILIARY}.fc.weight"));
        let build =
            if auxiliary { BackboneInfo::graph_with_auxiliary } else { BackboneInfo::graph };
        let graph = build(backbone, &Head::Original, size).expect("a graph").without_dropout();
        let made = Network::from_weights(graph, &Head::Original, &weights, 0);
        let (network, loaded) = made.expect("weights that fit");
        assert!(loaded.kept.is_empty() && loaded.unused.is_empty(), "{loaded:?}");
        network
    }

    fn targets(&self) -> Vec<f32> {
        let labels: Vec<usize> =
            self.tensor("labels").1.iter().map(|&label| label as usize).collect();
        soft_targets(&labels, 1000, 0.0)
    }

    fn torch_error(&self, what: &str) -> f64 {
        self.tensor(&format!("torch_error.{what}")).1[0]
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.folder.display(), self.model)
    }
}

fn distance<N: Number>(ours: &[N], reference: &[f64]) -> f64 {
    assert_eq!(ours.len(), reference.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let difference = square(&mut ours.iter().zip(reference).map(|(&a, b)| a.into() - b));
    (difference / square(&mut reference.iter().copied()).max(1e-300)).sqrt()
}

const OPTIONS: StepOptions = StepOptions { seed: 0, step: 0, batch_norm: BatchNorm::Batch };

/// Holds `f64` to this distance from PyTorch's float64.
const NEAR_F64: f64 = 1e-6;
/// Holds `f32` to this distance from PyTorch's float64, where a deep network doesn't amplify
/// rounding.
const NEAR_F32: f64 = 1e-4;

#[test]
fn reference_logits() {
    for reference in Reference::all() {
        let (images, batch, _) = reference.images();
        let (network, exact) = (reference.network(), reference.tensor("logits").1);
        let narrow = distance(&network.logits(&images, batch).unwrap(), &exact);
        let wide = network.converted::<f64>().unwrap();
        let wide = distance(&wide.interpreted_logits(&images, batch).unwrap(), &exact);
        let torch = reference.torch_error("logits");
        println!(
            "{reference}: logits: f64 {wide:.1e}, f32 {narrow:.1e}, PyTorch's f32 {torch:.1e}"
        );
        assert!(wide < NEAR_F64 && narrow < NEAR_F32);
    }
}

/// The largest distance of any running statistic from float64 after the first step, and the
/// relative one of its loss.
fn first_step<N: Number>(reference: &Reference) -> [f64; 2] {
    let (images, batch, _) = reference.images();
    let mut network = reference.network().converted::<N>().unwrap();
    let step = network.step(&images, batch, &reference.targets(), &OPTIONS).unwrap();
    let saved = network.save_named(|name| name.contains("running_"));
    let errors = saved.tensors.iter().map(|(name, tensor)| {
        distance(&tensor.data, &reference.tensor(&format!("running.{name}")).1)
    });
    let loss = reference.tensor("step_losses").1[0];
    [errors.fold(0.0, f64::max), (step.loss / loss - 1.0).abs()]
}

#[test]
fn reference_running_statistics_and_first_loss() {
    for reference in Reference::all() {
        let (wide, narrow) = (first_step::<f64>(&reference), first_step::<f32>(&reference));
        println!("{reference}: running statistics and first loss: f64 {wide:?}, f32 {narrow:?}");
        assert!(wide.iter().all(|error| *error < NEAR_F64));
        assert!(narrow.iter().all(|error| *error < NEAR_F32));
    }
}

const QUANTITIES: [&str; 3] = ["gradients", "step_losses", "logits_after"];

/// The distances of [`QUANTITIES`] from float64: gradients of the first step, the losses of three,
/// the logits after them.
fn steps<N: Number>(reference: &Reference) -> [f64; 3] {
    let (images, batch, _) = reference.images();
    let (mut network, targets) =
        (reference.network().converted::<N>().unwrap(), reference.targets());
    let zeros = |parameter: &Parameter<N>| {
        Gradients::leaky().get_or_alloc_mut(&parameter.tensor).expect("zeros").clone()
    };
    let mut velocities: Vec<_> = network.parameters().iter().map(zeros).collect();
    let (mut gradients, mut losses) = (0.0, Vec::new());
    for step in 0..3 {
        let mut made = network.step(&images, batch, &targets, &OPTIONS).unwrap();
        losses.push(made.loss);
        if step == 0 {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for parameter in network.parameters() {
                let (_, gradient) = reference.tensor(&format!("grad.{}", parameter.info.name));
                ours.extend(network.torch_layout(
                    &parameter.info,
                    made.gradients.get_or_alloc_mut(&parameter.tensor).unwrap(),
                ));
                theirs.extend(gradient);
            }
            gradients = distance(&ours, &theirs);
        }
        for (parameter, velocity) in network.parameters_mut().iter_mut().zip(&mut velocities) {
            let gradient = made.gradients.get_or_alloc_mut(&parameter.tensor).unwrap();
            let sgd =
                SgdConfig { lr: 0.01, momentum: Some(Momentum::Classic(0.9)), weight_decay: None };
            N::sgd(&sgd, &mut parameter.tensor, velocity, gradient).unwrap();
        }
    }
    let losses = distance(&losses, &reference.tensor("step_losses").1);
    let after = network.interpreted_logits(&images, batch).unwrap();
    [gradients, losses, distance(&after, &reference.tensor("logits_after").1)]
}

#[test]
fn reference_gradients_and_steps_in_f64() {
    for reference in Reference::all() {
        let errors = steps::<f64>(&reference);
        for (what, error) in QUANTITIES.into_iter().zip(errors) {
            println!("{reference}: {what}: f64 {error:.1e}");
            // Running statistics, which the last logits are evaluated with, are in `f32`.
            let near = if what == "logits_after" { NEAR_F32 } else { NEAR_F64 };
            assert!(error < near, "{what}");
        }
    }
}

/// A deep network amplifies rounding: a ReLU that flips in an early layer moves gradients by
/// hundredths, in PyTorch as here, and PyTorch's own ways to compute them (with oneDNN or without,
/// either memory layout) differ by factors. So a single folder shows gross errors only, and the
/// median of at least three is compared with PyTorch's own float32. Logits after three steps are
/// printed: in a few folders they move by their whole size if any parameter moves by 1e-7 of its.
#[test]
fn reference_gradients_and_steps_in_f32() {
    let references = Reference::all();
    let mut ratios = [const { Vec::new() }; 2];
    for reference in &references {
        let errors = steps::<f32>(reference);
        for (index, (what, error)) in QUANTITIES.into_iter().zip(errors).enumerate() {
            let torch = reference.torch_error(what);
            println!("{reference}: {what}: f32 {error:.1e}, PyTorch's f32 {torch:.1e}");
            if let Some(ratios) = ratios.get_mut(index) {
                assert!(error < (10.0 * torch).max(NEAR_F32), "{what}");
                ratios.push(error / torch.max(NEAR_F64));
            }
        }
    }
    for (what, mut ratios) in QUANTITIES.into_iter().zip(ratios).filter(|(_, r)| !r.is_empty()) {
        ratios.sort_by(f64::total_cmp);
        let median = (ratios[(ratios.len() - 1) / 2] + ratios[ratios.len() / 2]) / 2.0;
        println!("{what}: {median:.2} times PyTorch's f32 distance, median of {}", ratios.len());
        assert!(ratios.len() < 3 || median <= 1.5, "{what}");
    }
}
