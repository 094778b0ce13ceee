//! A few steps of a small network in every precision, for compute-sanitizer: every kind of kernel
//! runs, none for long.

use super::settings::{CLASSES, RULE, gpu, labels, numbers, precisions};
use super::{Outcome, line};
use pipe::nn::cuda::CudaNetwork;
use pipe::nn::{BatchNorm, Head, Input, Learner as _, Network, StepOptions, soft_targets};

const BATCH: usize = 2;
const SIDE: usize = 33;

pub(crate) fn run() -> Outcome {
    let gpu = gpu()?;
    let network = Network::new("resnet18", &Head::Original, (SIDE, SIDE), 1)?;
    let images = numbers(BATCH * SIDE * SIDE * 3, 1);
    let targets = soft_targets(&labels(BATCH), CLASSES, 0.0);
    for precision in precisions(gpu.card().properties().capability.computes_bf16()) {
        let mut own = CudaNetwork::new(&gpu, &network, precision)?;
        let rules = vec![Some(RULE); own.parameters().len()];
        // The second step is captured as a graph.
        for step in 0..2 {
            let options = StepOptions { seed: 1, step, batch_norm: BatchNorm::Batch };
            own.pass(Input::Images(&images), None, BATCH, &targets, &options)?;
            own.update(&rules, Some(1.0))?;
        }
        own.evaluate(Input::Images(&images), BATCH)?;
        line(&["small", &precision.to_string(), "ran"]);
    }
    Ok(())
}
