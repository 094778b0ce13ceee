//! Images per second of training steps with their update and of inference, on images that are on
//! the card already: the median of steps after a warm-up.

use super::settings::{
    CLASSES, RULE, batches, gpu, labels, median, models, network, numbers, side, steps, words,
};
use super::{Outcome, line};
use pipe::nn::cuda::{CudaNetwork, Gpu, INFERENCE_BATCH, Precision};
use pipe::nn::{BatchNorm, Input, Learner as _, Network, NnError, Rule, StepOptions, soft_targets};

/// Steps that aren't counted: kernels are loaded, and launches captured.
const WARM_UP: usize = 3;

/// Measures all of CARD_MODELS, CARD_SPEED_PRECISIONS and CARD_BATCHES, or what `chosen` names:
/// model, batch, precision, mode. The line of what fails has the reason.
pub(crate) fn run(chosen: &[&str]) -> Outcome {
    let gpu = gpu()?;
    let is_chosen =
        |place: usize, word: &str| chosen.get(place).is_none_or(|&wanted| wanted == word);
    let wanted = words("CARD_SPEED_PRECISIONS", "tf32 bf16");
    let is_wanted = |precision: &&Precision| wanted.contains(&precision.to_string());
    let mut failed = false;
    for model in models().into_iter().filter(|model| is_chosen(0, model)) {
        let network = network(&model)?;
        for precision in Precision::ALL.iter().filter(is_wanted) {
            if !is_chosen(2, &precision.to_string()) {
                continue;
            }
            for mode in ["infer", "train"].into_iter().filter(|mode| is_chosen(3, mode)) {
                for batch in batches().into_iter().filter(|b| is_chosen(1, &b.to_string())) {
                    let rate = rate(&gpu, (&model, &network), batch, *precision, mode);
                    failed |= rate.is_err();
                    let rate = rate.map_or_else(|error| error.to_string(), |r| format!("{r:.1}"));
                    let (batch, precision) = (batch.to_string(), precision.to_string());
                    line(&["speed", &model, &batch, &precision, mode, "pipe", &rate]);
                }
            }
        }
    }
    if failed { Err("not all was measured".into()) } else { Ok(()) }
}

fn rate(
    gpu: &Gpu,
    (model, network): (&str, &Network),
    batch: usize,
    precision: Precision,
    mode: &str,
) -> Result<f64, NnError> {
    let mut own = CudaNetwork::new(gpu, network, precision)?;
    let milliseconds = match mode {
        "train" => training(&mut own, model, batch)?,
        _ => inference(&mut own, model, batch)?,
    };
    Ok(batch as f64 / milliseconds * 1e3)
}

/// Trains one step on `batch` images, which stay on the card. Returns the rules of updates.
pub(crate) fn trained(
    own: &mut CudaNetwork,
    model: &str,
    batch: usize,
) -> Result<Vec<Option<Rule>>, NnError> {
    let images = numbers(batch * side(model) * side(model) * 3, 1);
    let targets = soft_targets(&labels(batch), CLASSES, 0.0);
    let options = StepOptions { seed: 1, step: 0, batch_norm: BatchNorm::Batch };
    own.pass(Input::Images(&images), None, batch, &targets, &options)?;
    let rules = vec![Some(RULE); own.parameters().len()];
    own.update(&rules, None)?;
    Ok(rules)
}

/// Milliseconds of a step.
fn training(own: &mut CudaNetwork, model: &str, batch: usize) -> Result<f64, NnError> {
    let rules = trained(own, model, batch)?;
    own.time_steps(batch, &rules, WARM_UP)?;
    Ok(median(own.time_steps(batch, &rules, steps())?))
}

/// Milliseconds of the inference of `batch` images, which runs a fixed number at a time.
fn inference(own: &mut CudaNetwork, model: &str, batch: usize) -> Result<f64, NnError> {
    let images = numbers(INFERENCE_BATCH * side(model) * side(model) * 3, 1);
    own.evaluate(Input::Images(&images), INFERENCE_BATCH)?;
    own.time_evaluations(WARM_UP)?;
    let runs = batch.div_ceil(INFERENCE_BATCH);
    let times = own.time_evaluations(runs * steps())?;
    Ok(median(times.chunks(runs).map(|times| times.iter().sum()).collect()))
}
