//! Runs a schedule on the CPU, naively and in `f64`, over one arena. What is freed is poisoned, and
//! reading a poisoned element fails, so a wrong lifetime or a view outside of what was written
//! shows.
//!
//! Parameters are in PyTorch's order and a card's layout: weights (out, kernel height, kernel
//! width, in), see [`from_cpu_layout`]. Images are NHWC.

use super::arena::Arena;
use super::products::{convolution, convolution_by_input, convolution_by_weight};
use super::windows;
use crate::nn::schedule::{Launch, Schedule, Store, Target, View};

/// The input of a run.
pub(crate) struct Inputs<'a> {
    /// Each parameter's values.
    pub parameters: &'a [Vec<f64>],
    /// Each norm's running mean and variance, in the graph's order.
    pub running: &'a [(Vec<f64>, Vec<f64>)],
    /// Images or features.
    pub input: &'a [f64],
    /// (batch, classes), for training.
    pub targets: &'a [f64],
    /// The key of a dropout layer's mask, given its node.
    pub key: &'a dyn Fn(usize) -> u64,
}

/// The results of a run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outputs {
    pub loss: f64,
    /// Logits or features.
    pub output: Vec<f64>,
    /// For each parameter, its gradient, if the schedule stores one.
    pub gradients: Vec<Option<Vec<f64>>>,
    /// For each norm that used the batch's statistics: mean, biased variance.
    pub batch_statistics: Vec<Option<(Vec<f64>, Vec<f64>)>>,
}

/// A weight in the layout of the CPU, (kernel height, kernel width, in, out) or (in, out), in that
/// of a card.
pub(crate) fn from_cpu_layout(values: &[f64], outputs: usize) -> Vec<f64> {
    transposed(values, outputs)
}

/// The inverse of [`from_cpu_layout`], for gradients.
pub(crate) fn to_cpu_layout(values: &[f64], outputs: usize) -> Vec<f64> {
    transposed(values, values.len() / outputs)
}

fn transposed(values: &[f64], columns: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend(values.iter().skip(column).step_by(columns));
    }
    out
}

/// Whether dropout drops element `index`.
fn dropped(key: u64, index: usize, probability: f32) -> bool {
    let z = key.wrapping_add((index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let threshold = (f64::from(probability) * f64::from(1 << 24)).round() as u64;
    ((z ^ (z >> 31)) >> 40) < threshold
}

/// Runs all launches.
pub(crate) fn run(schedule: &Schedule, inputs: &Inputs) -> Outputs {
    let mut executor = Executor {
        arena: Arena::new(schedule),
        inputs,
        outputs: Outputs {
            gradients: vec![None; inputs.parameters.len()],
            batch_statistics: vec![None; inputs.running.len()],
            ..Outputs::default()
        },
    };
    executor.arena.write(schedule.input, inputs.input);
    if let Some(targets) = schedule.targets {
        executor.arena.write(targets, inputs.targets);
    }
    for (index, launch) in schedule.launches.iter().enumerate() {
        executor.launch(launch);
        executor.arena.free_after(index);
    }
    executor.outputs.loss = schedule.loss.map_or(0.0, |loss| executor.arena.read(loss)[0]);
    executor.outputs.output = executor.arena.read(schedule.output);
    executor.outputs
}

/// A run: the arena, what was given and what has come out.
pub(super) struct Executor<'a> {
    pub(super) arena: Arena<'a>,
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) outputs: Outputs,
}

impl Executor<'_> {
    fn launch(&mut self, launch: &Launch) {
        match *launch {
            Launch::Convolution { geometry, x, weight, y } => {
                let (x, weight) = (self.arena.read(x), &self.inputs.parameters[weight]);
                let out = convolution(&geometry, &x, weight);
                self.arena.write(y, &out);
            }
            Launch::ConvolutionByInput { geometry, dy, weight, dx } => {
                let (dy, weight) = (self.arena.read(dy), &self.inputs.parameters[weight]);
                let out = convolution_by_input(&geometry, &dy, weight);
                self.store(dx, &out);
            }
            Launch::ConvolutionByWeight { geometry, x, dy, weight } => {
                let (x, dy) = (self.arena.read(x), self.arena.read(dy));
                self.store_gradient(weight, convolution_by_weight(&geometry, &x, &dy));
            }
            Launch::Bias { bias, relu, y } => {
                let bias = &self.inputs.parameters[bias];
                assert_eq!(bias.len(), y.channels);
                let add = |(index, value): (usize, &f64)| {
                    let sum = value + bias[index % y.channels];
                    if relu { rectified(sum) } else { sum }
                };
                let out: Vec<f64> = self.arena.read(y).iter().enumerate().map(add).collect();
                self.arena.write(y, &out);
            }
            Launch::BiasBackward { dy, output, masked, partials } => {
                let mut values = self.arena.read(dy);
                if let Some(output) = output {
                    self.mask_by(output, &mut values);
                }
                if let Some(masked) = masked {
                    self.arena.write(masked, &values);
                }
                self.write_sums(partials, &[&values], dy.channels);
            }
            Launch::BiasBackwardFinish { partials, bias } => {
                let [sums] = self.read_sums(partials);
                self.store_gradient(bias, sums);
            }
            Launch::Relu { x, y } => {
                let out: Vec<f64> = self.arena.read(x).into_iter().map(rectified).collect();
                self.arena.write(y, &out);
            }
            Launch::ReluBackward { dy, output, dx } => {
                let mut values = self.arena.read(dy);
                self.mask_by(output, &mut values);
                self.store(dx, &values);
            }
            Launch::Add { a, b, y } => {
                let (a, b) = (self.arena.read(a), self.arena.read(b));
                assert_eq!(a.len(), b.len());
                let out: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
                self.arena.write(y, &out);
            }
            Launch::Copy { x, y } => {
                let values = self.arena.read(x);
                self.arena.write(y, &values);
            }
            Launch::Pool { pooling, x, y, indices } => {
                let (out, taps) = windows::pool(&pooling, &self.arena.read(x));
                self.arena.write(y, &out);
                if let Some(indices) = indices {
                    self.arena.write(indices, &taps);
                }
            }
            Launch::PoolBackward { pooling, dy, indices, dx } => {
                let taps = indices.map(|indices| self.arena.read(indices));
                let out = windows::pool_backward(&pooling, &self.arena.read(dy), taps.as_deref());
                self.store(dx, &out);
            }
            Launch::Dropout { x, y, layer, probability } => {
                let key = (self.inputs.key)(layer);
                let kept = 1.0 / (1.0 - f64::from(probability));
                let mask = |(index, value): (usize, &f64)| {
                    if dropped(key, index, probability) { 0.0 } else { value * kept }
                };
                let out: Vec<f64> = self.arena.read(x).iter().enumerate().map(mask).collect();
                self.store(y, &out);
            }
            Launch::CrossEntropy { logits, targets, factor, losses, loss, gradient } => {
                let classes = logits.channels;
                let (logits, targets) = (self.arena.read(logits), self.arena.read(targets));
                assert_eq!(logits.len(), targets.len());
                let (value, by_logits) = cross_entropy(&logits, &targets, classes, factor);
                self.arena.write(losses, &vec![value; losses.len()]);
                self.store(loss, &[value]);
                if let Some(gradient) = gradient {
                    self.arena.write(gradient, &by_logits);
                }
            }
            Launch::ZeroGradient { parameter } => {
                let zeros = vec![0.0; self.inputs.parameters[parameter].len()];
                self.store_gradient(parameter, zeros);
            }
            Launch::NormStatistics { .. }
            | Launch::NormFinish { .. }
            | Launch::NormRunning { .. }
            | Launch::NormApply { .. }
            | Launch::NormBackward { .. }
            | Launch::NormBackwardFinish { .. }
            | Launch::NormBackwardApply { .. } => self.norm(launch),
        }
    }

    pub(super) fn store(&mut self, target: Target, values: &[f64]) {
        match target.store {
            Store::Overwrite => self.arena.write(target.view, values),
            Store::Add => {
                let there = self.arena.read(target.view);
                assert_eq!(there.len(), values.len());
                let sum: Vec<f64> = there.iter().zip(values).map(|(a, b)| a + b).collect();
                self.arena.write(target.view, &sum);
            }
        }
    }

    pub(super) fn store_gradient(&mut self, parameter: usize, values: Vec<f64>) {
        assert_eq!(values.len(), self.inputs.parameters[parameter].len());
        let slot = &mut self.outputs.gradients[parameter];
        assert!(slot.is_none(), "the gradient of parameter {parameter} is stored twice");
        *slot = Some(values);
    }

    pub(super) fn mask_by(&self, output: View, values: &mut [f64]) {
        let output = self.arena.read(output);
        assert_eq!(output.len(), values.len());
        values.iter_mut().zip(output).for_each(|(value, out)| {
            if out.is_nan() || out <= 0.0 {
                *value = 0.0;
            }
        });
    }

    /// Partial sums: all in the first chunk, zeros in the others.
    pub(super) fn write_sums(&mut self, partials: View, columns: &[&[f64]], channels: usize) {
        let mut out = vec![0.0; partials.len()];
        for (index, values) in columns.iter().enumerate() {
            for row in values.chunks_exact(channels) {
                let sums = &mut out[index * channels..][..channels];
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
        self.arena.write(partials, &out);
    }

    pub(super) fn read_sums<const N: usize>(&self, partials: View) -> [Vec<f64>; N] {
        let (values, channels) = (self.arena.read(partials), partials.channels);
        let mut sums = [(); N].map(|()| vec![0.0; channels]);
        for (row, values) in values.chunks_exact(channels).enumerate() {
            sums[row % N].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        sums
    }
}

/// max(value, 0); NaN stays NaN.
pub(super) fn rectified(value: f64) -> f64 {
    if value < 0.0 { 0.0 } else { value }
}

/// The weighted mean cross entropy and its gradient by the logits.
fn cross_entropy(logits: &[f64], targets: &[f64], classes: usize, factor: f64) -> (f64, Vec<f64>) {
    let batch = (logits.len() / classes) as f64;
    let (mut loss, mut gradient) = (0.0, Vec::with_capacity(logits.len()));
    for (logits, targets) in logits.chunks_exact(classes).zip(targets.chunks_exact(classes)) {
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        let weight: f64 = targets.iter().sum();
        for (logit, target) in logits.iter().zip(targets) {
            loss -= target * (logit - largest - total.ln());
            let share = (logit - largest).exp() / total;
            gradient.push(factor * (weight * share - target) / batch);
        }
    }
    (factor * loss / batch, gradient)
}
