//! Cross entropy of logits against soft targets, and soft targets from labels with label smoothing.

use super::{FlatTensor, MaybeTape};
use dfdx::tensor::Tensor;

/// Targets (labels, classes): 1 - smoothing for the label's class, plus smoothing / classes for all
/// (Szegedy et al., 2016; PyTorch's `label_smoothing`).
pub fn soft_targets(labels: &[usize], classes: usize, smoothing: f32) -> Vec<f32> {
    let share = smoothing / classes.max(1) as f32;
    let mut targets = vec![share; labels.len() * classes];
    for (row, &label) in targets.chunks_exact_mut(classes.max(1)).zip(labels) {
        if let Some(target) = row.get_mut(label) {
            *target += 1.0 - smoothing;
        }
    }
    targets
}

use crate::nn::matrix::values;
use crate::nn::number::{Number, to_f64};
use dfdx::tensor::{Cpu, CpuError, Tape, TensorFromVec};

/// Mean over the batch of -sum(target * log_softmax(logits)), for `logits` and `targets` (batch,
/// classes). The rows of `targets` may have any sum.
pub(crate) fn cross_entropy<N: Number>(
    logits: &FlatTensor<N>,
    targets: &[f32],
    batch: usize,
    tape: &mut MaybeTape<N>,
) -> Result<Tensor<(), N, Cpu>, CpuError> {
    let numbers = to_f64(values(logits));
    let classes = targets.len() / batch;
    let mut loss = 0.0;
    let mut gradient = vec![N::ZERO; targets.len()];
    let rows = numbers.chunks_exact(classes).zip(targets.chunks_exact(classes));
    for (gradient, (logits, targets)) in gradient.chunks_exact_mut(classes).zip(rows) {
        loss += row(logits, targets, batch, gradient);
    }
    let loss = logits.device().try_tensor_from_vec(vec![N::of(loss / batch as f64)], ())?;
    if let Some(tape) = tape {
        let (ghost, loss_ghost) = (logits.ghost(), loss.ghost());
        tape.add_backward_op(move |grads| {
            let scale = grads.get_or_alloc_mut(&loss_ghost)?.first().copied().unwrap_or(N::ZERO);
            gradient.iter_mut().for_each(|value| *value *= scale);
            super::chunks::add_to(grads.get_or_alloc_mut(&ghost)?, &gradient);
            Ok(())
        });
    }
    Ok(loss)
}

/// The sum of losses, each times its weight.
pub(crate) fn weighted_sum<N: Number>(
    losses: Vec<(Tensor<(), N, Cpu>, N)>,
    tape: &mut MaybeTape<N>,
) -> Result<Tensor<(), N, Cpu>, CpuError> {
    let mut sum = N::ZERO;
    losses.iter().for_each(|(loss, weight)| sum += loss.as_vec()[0] * *weight);
    let out = Cpu::default().try_tensor_from_vec(vec![sum], ())?;
    if let Some(tape) = tape {
        let out_ghost = out.ghost();
        let parts: Vec<_> = losses.iter().map(|(loss, weight)| (loss.ghost(), *weight)).collect();
        tape.add_backward_op(move |grads| {
            let dy = grads.get_or_alloc_mut(&out_ghost)?[0];
            for (loss, weight) in &parts {
                grads.get_or_alloc_mut(loss)?[0] += dy * *weight;
            }
            Ok(())
        });
    }
    Ok(out)
}

/// The sum of one chosen logit of each image.
pub(crate) fn chosen_sum<N: Number>(
    logits: &FlatTensor<N>,
    chosen: &[usize],
    tape: &mut MaybeTape<N>,
) -> Result<Tensor<(), N, Cpu>, CpuError> {
    let classes = values(logits).len() / chosen.len();
    let positions: Vec<usize> =
        chosen.iter().enumerate().map(|(row, class)| row * classes + class).collect();
    let mut sum = N::ZERO;
    positions.iter().for_each(|&position| sum += values(logits)[position]);
    let out = Cpu::default().try_tensor_from_vec(vec![sum], ())?;
    if let Some(tape) = tape {
        let (ghost, out_ghost) = (logits.ghost(), out.ghost());
        tape.add_backward_op(move |grads| {
            let dy = grads.get_or_alloc_mut(&out_ghost)?[0];
            let gradient = grads.get_or_alloc_mut(&ghost)?;
            positions.iter().for_each(|&position| gradient[position] += dy);
            Ok(())
        });
    }
    Ok(out)
}

/// One image's loss; writes the gradient of the batch's mean by its logits.
fn row<N: Number>(logits: &[f64], targets: &[f32], batch: usize, gradient: &mut [N]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|&logit| (logit - largest).exp()).collect();
    let total: f64 = exponentials.iter().sum();
    let weight: f64 = targets.iter().map(|&target| f64::from(target)).sum();
    let mut loss = 0.0;
    for (index, value) in gradient.iter_mut().enumerate() {
        let target = f64::from(targets[index]);
        if target != 0.0 {
            loss -= target * (logits[index] - largest - total.ln());
        }
        *value = N::of((weight * exponentials[index] / total - target) / batch as f64);
    }
    loss
}
