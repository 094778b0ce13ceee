//! The dearest launches of a training step of the first of CARD_MODELS, by kind and shape.

use super::settings::{gpu, median, models, network, number, steps};
use super::speed::trained;
use super::{Outcome, line};
use pipe::nn::cuda::{CudaNetwork, Precision};
use std::collections::BTreeMap;

/// Lines that are printed.
const DEAREST: usize = 15;

pub(crate) fn run() -> Outcome {
    let gpu = gpu()?;
    let model = models().into_iter().next().unwrap_or_default();
    let batch = number("CARD_PROFILE_BATCH", 128);
    let bf16 = gpu.card().properties().capability.computes_bf16();
    let precision = if bf16 { Precision::Bf16 } else { Precision::Tf32 };
    let mut own = CudaNetwork::new(&gpu, &network(&model)?, precision)?;
    trained(&mut own, &model, batch)?;
    let profiles = (0..steps()).map(|_| own.profile(batch)).collect::<Result<Vec<_>, _>>()?;
    // Launches of the same kind and shape together: how many, and their milliseconds.
    let mut kinds: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for (index, launch) in profiles[0].iter().enumerate() {
        let times = profiles.iter().map(|profile| profile[index].milliseconds);
        let kind = kinds.entry(&launch.what).or_default();
        *kind = (kind.0 + 1, kind.1 + median(times.collect()));
    }
    let total: f64 = kinds.values().map(|kind| kind.1).sum();
    let step = format!("all {} launches of a step of {model}", profiles[0].len());
    line(&["profile", &step, "1", &format!("{total:.3}"), "100.0"]);
    let mut dearest: Vec<_> = kinds.into_iter().collect();
    dearest.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (what, (count, milliseconds)) in dearest.into_iter().take(DEAREST) {
        let share = format!("{:.1}", 100.0 * milliseconds / total.max(f64::MIN_POSITIVE));
        line(&["profile", what, &count.to_string(), &format!("{milliseconds:.3}"), &share]);
    }
    Ok(())
}
