//! Logits, loss and gradients of a network on the card against the same network on the CPU in f64,
//! as relative distances |a - b| / |b|. Weights, images and the f64 results are written as
//! safetensors, so that PyTorch's own distance for the same numbers can be measured beside it.

use super::settings::{CLASSES, gpu, labels, network, number, numbers, precisions, side};
use super::{Outcome, line};
use pipe::nn::cuda::CudaNetwork;
use pipe::nn::{
    BatchNorm, Input, Learner, Network, NnError, Number, Rule, StepOptions, WeightTensor, Weights,
    soft_targets, write_safetensors,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const STEP: StepOptions = StepOptions { seed: 1, step: 0, batch_norm: BatchNorm::Batch };

/// Changes no parameter.
const KEEP: Rule =
    Rule::Sgd { learning_rate: 0.0, momentum: 0.9, nesterov: false, weight_decay: 0.0 };

/// The factor of the batch's statistics in the running ones.
const MOMENTUM: f32 = 0.1;

/// Images and their targets.
struct Batch {
    count: usize,
    images: Vec<f32>,
    targets: Vec<f32>,
}

/// What is compared.
struct Results {
    /// In evaluation mode.
    logits: Vec<f64>,
    loss: f64,
    gradients: BTreeMap<String, WeightTensor<f64>>,
}

/// Compares `model` and writes `weights`, `inputs` and `exact.safetensors` to `folder`.
pub(crate) fn run(model: &str, folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    let count = number("CARD_PARITY_BATCH", 8);
    let side = side(model);
    let batch = Batch {
        count,
        images: numbers(count * side * side * 3, 1),
        targets: soft_targets(&labels(count), CLASSES, 0.0),
    };
    let network = settled(network(model)?, &batch)?;
    write_safetensors(&folder.join("weights.safetensors"), &network.save())?;
    write_inputs(folder, &batch, side)?;
    let mut exact = network.converted::<f64>()?;
    let logits = exact.interpreted_logits(&batch.images, count)?;
    let right = results(&mut exact, &batch, logits)?;
    write_exact(folder, &right)?;
    let gpu = gpu()?;
    for precision in precisions(gpu.card().properties().capability.computes_bf16()) {
        let mut own = CudaNetwork::new(&gpu, &network, precision)?;
        let logits = own.evaluate(Input::Images(&batch.images), count)?;
        let logits = logits.into_iter().map(f64::from).collect();
        let found = results(&mut own, &batch, logits)?;
        for (what, distance) in distances(&found, &right) {
            let distance = format!("{distance:.2e}");
            line(&["parity", model, &precision.to_string(), what, "pipe", &distance]);
        }
    }
    Ok(())
}

/// The network with the batch's statistics as running ones: with those of new networks, values
/// grow from layer to layer.
fn settled(mut network: Network, batch: &Batch) -> Result<Network, NnError> {
    Learner::pass(
        &mut network,
        Input::Images(&batch.images),
        None,
        batch.count,
        &batch.targets,
        &STEP,
    )?;
    let running = |name: &str| name.contains("running_");
    let mut tensors = Learner::tensors(&network, &running)?;
    for (name, tensor) in &mut tensors {
        // New statistics are 0 and 1.
        let (start, least) =
            if name.ends_with("running_var") { (1.0, 1e-3) } else { (0.0, f32::MIN) };
        let of_batch = |value: f32| (value - (1.0 - MOMENTUM) * start) / MOMENTUM;
        tensor.data.iter_mut().for_each(|value| *value = of_batch(*value).max(least));
    }
    Learner::restore(&mut network, &Weights { tensors, ..Weights::default() })?;
    // Without the gradients of the pass.
    network.converted()
}

/// Loss and gradients of a training pass, which a first update leaves in the momentum as they are.
fn results<N: Number>(
    learner: &mut dyn Learner<N>,
    batch: &Batch,
    logits: Vec<f64>,
) -> Result<Results, NnError> {
    let images = Input::Images(&batch.images);
    let loss = learner.pass(images, None, batch.count, &batch.targets, &STEP)?.loss;
    learner.update(&vec![Some(KEEP); learner.parameters().len()], None)?;
    let widened = |(name, tensor): (String, WeightTensor<N>)| {
        let data = tensor.data.into_iter().map(Into::into).collect();
        (name.trim_start_matches("first/").to_owned(), WeightTensor { shape: tensor.shape, data })
    };
    let gradients = learner.moments()?.into_iter().map(widened).collect();
    Ok(Results { logits, loss, gradients })
}

fn distances(found: &Results, right: &Results) -> [(&'static str, f64); 3] {
    let pairs = found.gradients.values().zip(right.gradients.values());
    let gradients = pairs.flat_map(|(found, right)| found.data.iter().zip(&right.data));
    [
        ("logits", distance(found.logits.iter().zip(&right.logits))),
        ("loss", distance([(&found.loss, &right.loss)].into_iter())),
        ("gradients", distance(gradients)),
    ]
}

/// |a - b| / |b|.
fn distance<'a>(pairs: impl Iterator<Item = (&'a f64, &'a f64)>) -> f64 {
    let (mut difference, mut size) = (0.0, 0.0);
    for (found, right) in pairs {
        difference += (found - right).powi(2);
        size += right * right;
    }
    (difference / size).sqrt()
}

fn write_inputs(folder: &Path, batch: &Batch, side: usize) -> Result<(), NnError> {
    let images =
        WeightTensor { shape: vec![batch.count, side, side, 3], data: batch.images.clone() };
    let labels = labels(batch.count).into_iter().map(|label| label as f32).collect();
    let labels = WeightTensor { shape: vec![batch.count], data: labels };
    let tensors = [("images", images), ("labels", labels)];
    write(folder, "inputs", tensors.map(|(name, tensor)| (name.to_owned(), tensor)))
}

fn write_exact(folder: &Path, right: &Results) -> Result<(), NnError> {
    let plain = |data: Vec<f64>| WeightTensor { shape: vec![data.len()], data };
    let own = [("logits", plain(right.logits.clone())), ("loss", plain(vec![right.loss]))];
    let own = own.map(|(name, tensor)| (name.to_owned(), tensor));
    let gradient = |(name, tensor): (&String, &WeightTensor<f64>)| {
        (format!("gradient.{name}"), tensor.clone())
    };
    write(folder, "exact", own.into_iter().chain(right.gradients.iter().map(gradient)))
}

fn write<N: Number>(
    folder: &Path,
    name: &str,
    tensors: impl IntoIterator<Item = (String, WeightTensor<N>)>,
) -> Result<(), NnError> {
    let tensors = tensors.into_iter().collect();
    let weights = Weights { tensors, ..Weights::default() };
    write_safetensors(&folder.join(format!("{name}.safetensors")), &weights)
}
