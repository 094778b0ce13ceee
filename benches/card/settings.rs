//! What the parts have in common: settings from the environment, made small for a dry run, networks
//! and numbers.

use pipe::cuda::{CompileCache, FolderCache, NoCache};
use pipe::nn::cuda::{Gpu, Precision};
use pipe::nn::{Graph, Head, Network, NnError, Rule, backbone};
use std::env;

/// Classes of the published networks.
pub(crate) const CLASSES: usize = 1000;

/// The optimizer of all measurements, here and in PyTorch. A small step, since the same images are
/// trained on again and again.
pub(crate) const RULE: Rule =
    Rule::Sgd { learning_rate: 1e-3, momentum: 0.9, nesterov: false, weight_decay: 1e-4 };

/// The words of a variable.
pub(crate) fn words(variable: &str, usual: &str) -> Vec<String> {
    let text = env::var(variable).unwrap_or_else(|_| usual.to_owned());
    text.split_whitespace().map(str::to_owned).collect()
}

/// The number that a variable has.
pub(crate) fn number(variable: &str, usual: usize) -> usize {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// CARD_MODELS: the networks.
pub(crate) fn models() -> Vec<String> {
    words("CARD_MODELS", "resnet50 inception_v3 alexnet")
}

/// CARD_BATCHES: images at a time.
pub(crate) fn batches() -> Vec<usize> {
    words("CARD_BATCHES", "32 128 256").iter().flat_map(|word| word.parse()).collect()
}

/// CARD_STEPS: counted steps of each measurement.
pub(crate) fn steps() -> usize {
    number("CARD_STEPS", 20).max(1)
}

/// CARD_SIZE, or the size of the published network: side of the images.
pub(crate) fn side(model: &str) -> usize {
    number("CARD_SIZE", if model == "inception_v3" { 299 } else { 224 })
}

pub(crate) fn gpu() -> Result<Gpu, NnError> {
    Gpu::open(gpu_index(), cache())
}

/// CARD_WORK: a folder that keeps compiled kernels and plans for the next part.
pub(crate) fn cache() -> Box<dyn CompileCache> {
    match env::var_os("CARD_WORK") {
        Some(folder) => Box::new(FolderCache(folder.into())),
        None => Box::new(NoCache),
    }
}

/// CARD_GPU: the GPU, as the driver counts.
pub(crate) fn gpu_index() -> usize {
    number("CARD_GPU", 0)
}

/// The graph that PyTorch trains: with the auxiliary head, where the published network has one.
pub(crate) fn graph(model: &str) -> Result<Graph, NnError> {
    let names = || NnError::Input(format!("there is no network `{model}`"));
    let (info, side) = (backbone(model).ok_or_else(names)?, side(model));
    match info.has_auxiliary() {
        true => info.graph_with_auxiliary(&Head::Original, (side, side)),
        false => info.graph(&Head::Original, (side, side)),
    }
}

/// The network with random weights.
pub(crate) fn network(model: &str) -> Result<Network, NnError> {
    Network::from_graph(graph(model)?, &Head::Original, 1)
}

/// The precisions that a GPU has, of those in CARD_PRECISIONS.
pub(crate) fn precisions(bf16: bool) -> Vec<Precision> {
    let wanted = words("CARD_PRECISIONS", "f32 tf32 bf16");
    let is_wanted = |precision: &Precision| wanted.contains(&precision.to_string());
    let has = |precision: &Precision| bf16 || *precision != Precision::Bf16;
    Precision::ALL.into_iter().filter(is_wanted).filter(has).collect()
}

/// Numbers in -1..1 that look random.
pub(crate) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Labels of `batch` images.
pub(crate) fn labels(batch: usize) -> Vec<usize> {
    (0..batch).map(|image| image * 31 % CLASSES).collect()
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
