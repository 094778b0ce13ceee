//! Networks against torchvision's, on folders that `torch_reference.py`-like scripts wrote: `weights.safetensors` (a state
//! dict in float32) and `io.safetensors` (`input` NCHW, `labels`, and in float64 `logits`, `running.NAME`, `step_losses`,
//! `grad.NAME`, `logits_after`, with PyTorch's own float32 distance from each as `torch_error.WHAT`). The losses of Inception
//! with an auxiliary head include 0.4 times that head's.
//!
//! `PIPE_REFERENCE=FOLDER PIPE_REFERENCE_MODEL=resnet18 cargo test --release --test reference`; without the variables there
//! is nothing to compare with and the tests pass.

use dfdx::optim::Momentum;
use dfdx::tensor::{Gradients, Tensor, ZerosTensor};
use dfdx::tensor_ops::SgdConfig;
use pipe::nn::{
    AUXILIARY, BackboneInfo, Backend, BatchNorm, Cpu, Head, Network, Number, Parameter,
    StepOptions, Weights, backbone, read_safetensors, soft_targets,
};
use safetensors::{Dtype, SafeTensors};
use std::path::PathBuf;

struct Reference {
    folder: PathBuf,
    model: String,
    bytes: Vec<u8>,
}

impl Reference {
    fn open() -> Option<Reference> {
        let folder = PathBuf::from(std::env::var_os("PIPE_REFERENCE")?);
        let model = std::env::var("PIPE_REFERENCE_MODEL").ok()?;
        let bytes = std::fs::read(folder.join("io.safetensors")).expect("io.safetensors");
        Some(Reference { folder, model, bytes })
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

    fn network(&self) -> Network<Cpu> {
        let size = self.images().2;
        let backbone = backbone(&self.model).expect("a backbone");
        let weights: Weights =
            read_safetensors(&self.folder.join("weights.safetensors")).expect("weights");
        // Without the auxiliary head's weights the script left it out of the loss as well.
        let auxiliary = weights.tensors.contains_key(&format!("{AUXILIARY}.fc.weight"));
        let build =
            if auxiliary { BackboneInfo::graph_with_auxiliary } else { BackboneInfo::graph };
        let graph = build(backbone, &Head::Original, size).expect("a graph").without_dropout();
        let made = Network::from_weights(graph, &Head::Original, &weights, 0, Cpu::default());
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

fn distance<N: Number>(ours: &[N], reference: &[f64]) -> f64 {
    assert_eq!(ours.len(), reference.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let difference = square(&mut ours.iter().zip(reference).map(|(&a, b)| a.into() - b));
    (difference / square(&mut reference.iter().copied()).max(1e-300)).sqrt()
}

/// A step as training makes it on the processor where nothing else is asked for.
const OPTIONS: StepOptions =
    StepOptions { seed: 0, step: 0, batch_norm: BatchNorm::Batch, mixed: true };

#[test]
fn reference_logits() {
    let Some(reference) = Reference::open() else { return };
    let (images, batch, _) = reference.images();
    let error = distance(
        &reference.network().logits(&images, batch).unwrap(),
        &reference.tensor("logits").1,
    );
    println!("logits: {error:.1e} from float64, PyTorch's {:.1e}", reference.torch_error("logits"));
    assert!(error < 1e-4);
}

#[test]
fn reference_running_statistics_and_first_loss() {
    let Some(reference) = Reference::open() else { return };
    let (images, batch, _) = reference.images();
    let mut network = reference.network();
    let step = network.step(&images, batch, &reference.targets(), &OPTIONS).unwrap();
    let losses = reference.tensor("step_losses").1;
    assert!((step.loss / losses[0] - 1.0).abs() < 1e-4, "{} {losses:?}", step.loss);
    let mut worst = 0.0f64;
    for (name, tensor) in
        network.save().tensors.iter().filter(|(name, _)| name.contains("running_"))
    {
        let error = distance(&tensor.data, &reference.tensor(&format!("running.{name}")).1);
        assert!(error < 1e-4, "{name}: {error:.1e}");
        worst = worst.max(error);
    }
    println!("running statistics: {worst:.1e} at worst");
}

/// Gradients of the first step, the losses of three and the logits after them: how far each is from float64.
fn steps<N: Number>(reference: &Reference, mixed: bool) -> [f64; 3]
where
    Cpu: Backend<N>,
{
    let (images, batch, _) = reference.images();
    let (mut network, targets) =
        (reference.network().converted::<N>().unwrap(), reference.targets());
    let zeros = |parameter: &Parameter<Cpu, N>| {
        let zeros: Tensor<(usize,), N, Cpu> = Cpu::default().zeros_like(&parameter.tensor);
        Gradients::leaky().get_or_alloc_mut(&zeros).expect("zeros").clone()
    };
    let mut velocities: Vec<_> = network.parameters().iter().map(zeros).collect();
    let (mut gradients, mut losses) = (0.0, Vec::new());
    for step in 0..3 {
        let mut made =
            network.step(&images, batch, &targets, &StepOptions { mixed, ..OPTIONS }).unwrap();
        losses.push(made.loss);
        if step == 0 {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for parameter in network.parameters() {
                let (_, gradient) = reference.tensor(&format!("grad.{}", parameter.info.name));
                ours.extend(network.torch_layout(
                    &parameter.info,
                    &made.gradients.get(&parameter.tensor).as_vec(),
                ));
                theirs.extend(gradient);
            }
            gradients = distance(&ours, &theirs);
        }
        for (parameter, velocity) in network.parameters_mut().iter_mut().zip(&mut velocities) {
            let gradient = made.gradient(parameter).unwrap();
            let sgd =
                SgdConfig { lr: 0.01, momentum: Some(Momentum::Classic(0.9)), weight_decay: None };
            sgd.try_update(&mut parameter.tensor, velocity, gradient).unwrap();
        }
    }
    let after =
        distance(&network.logits(&images, batch).unwrap(), &reference.tensor("logits_after").1);
    [gradients, distance(&losses, &reference.tensor("step_losses").1), after]
}

/// In double precision, and in mixed, as training computes on the processor by itself. Mixed gradients are held to the same
/// bound; what three steps with parameters in single precision make of a deep network is decided by the last digits of any
/// of them (moved by 1e-7 of their size, a few folders' logits move by their whole size), so that losses and logits after
/// them are printed. So is single precision: there a flipped ReLU in an early layer moves gradients by hundredths, in PyTorch
/// as here, and each of its own ways to compute them (with oneDNN or without, either memory layout) is often more than twice
/// as far from float64 as another.
#[test]
fn reference_gradients_and_steps() {
    let Some(reference) = Reference::open() else { return };
    let double = steps::<f64>(&reference, false);
    let (mixed, single) = (steps::<f32>(&reference, true), steps::<f32>(&reference, false));
    for (index, what) in ["gradients", "step_losses", "logits_after"].into_iter().enumerate() {
        let (torch, error) = (reference.torch_error(what), double[index]);
        println!(
            "{what}: {error:.1e} from float64, mixed {:.1e}, single {:.1e}, PyTorch's {torch:.1e}",
            mixed[index], single[index]
        );
        assert!(error < (2.0 * torch).max(1e-4), "{what} in double precision");
        assert!(index > 0 || mixed[index] < (2.0 * torch).max(1e-4), "{what} in mixed precision");
    }
}
