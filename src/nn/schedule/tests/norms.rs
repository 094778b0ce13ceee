//! Batch norms of the executor.

use super::executor::{Executor, rectified};
use crate::nn::schedule::{Launch, Mask, View};

/// Mean, scale, shift and inverse deviation of a norm's channels.
struct Coefficients {
    mean: Vec<f64>,
    scale: Vec<f64>,
    shift: Vec<f64>,
    inverse: Vec<f64>,
}

impl Executor<'_> {
    pub(super) fn norm(&mut self, launch: &Launch) {
        match *launch {
            Launch::NormStatistics { x, partials } => {
                let values = self.arena.read(x);
                let squares: Vec<f64> = values.iter().map(|x| x * x).collect();
                self.write_sums(partials, &[&values, &squares], x.channels);
            }
            Launch::NormFinish { partials, rows, norm, weight, bias, epsilon, coefficients } => {
                let [sums, squares] = self.read_sums(partials);
                let mean: Vec<f64> = sums.iter().map(|sum| sum / rows as f64).collect();
                let variance = squares.iter().zip(&mean).map(|(s, m)| s / rows as f64 - m * m);
                let variance: Vec<f64> = variance.map(|v| v.max(0.0)).collect();
                self.write_coefficients(coefficients, [weight, bias], (&mean, &variance), epsilon);
                let slot = &mut self.outputs.batch_statistics[norm];
                assert!(slot.is_none(), "norm {norm} is finished twice");
                *slot = Some((mean, variance));
            }
            Launch::NormRunning { norm, weight, bias, epsilon, coefficients } => {
                let (mean, variance) = &self.inputs.running[norm];
                self.write_coefficients(coefficients, [weight, bias], (mean, variance), epsilon);
            }
            Launch::NormApply { x, coefficients, residual, relu, y } => {
                let c = self.coefficients(coefficients);
                let mut out = self.arena.read(x);
                normalize(&mut out, &c);
                if let Some(residual) = residual {
                    let residual = self.arena.read(residual);
                    out.iter_mut().zip(residual).for_each(|(out, r)| *out += r);
                }
                if relu {
                    out.iter_mut().for_each(|out| *out = rectified(*out));
                }
                self.arena.write(y, &out);
            }
            Launch::NormBackward { dy, x, mask, coefficients, partials } => {
                let (c, x) = (self.coefficients(coefficients), self.arena.read(x));
                let dy = self.masked(dy, mask, &c, Some(&x));
                let channels = c.mean.len();
                let weighted = dy.iter().zip(&x).enumerate();
                let weighted: Vec<f64> =
                    weighted.map(|(i, (dy, x))| dy * (x - c.mean[i % channels])).collect();
                self.write_sums(partials, &[&dy, &weighted], channels);
            }
            Launch::NormBackwardFinish { partials, rows, coefficients, weight, bias, factors } => {
                let (c, [plain, weighted]) =
                    (self.coefficients(coefficients), self.read_sums(partials));
                if let Some(factors) = factors {
                    let b = (0..plain.len()).map(|i| {
                        -c.scale[i] * c.inverse[i] * c.inverse[i] * weighted[i] / rows as f64
                    });
                    let shift = (0..plain.len()).map(|i| -c.scale[i] * plain[i] / rows as f64);
                    let both: Vec<f64> = b.chain(shift).collect();
                    self.arena.write(factors, &both);
                }
                if let Some(weight) = weight {
                    let sums = weighted.iter().zip(&c.inverse).map(|(sum, inverse)| sum * inverse);
                    self.store_gradient(weight, sums.collect());
                }
                if let Some(bias) = bias {
                    self.store_gradient(bias, plain);
                }
            }
            Launch::NormBackwardApply { dy, x, mask, coefficients, factors, dx, residual } => {
                let c = self.coefficients(coefficients);
                let x = x.map(|x| self.arena.read(x));
                let dy = self.masked(dy, mask, &c, x.as_deref());
                let factors = factors.map(|factors| self.arena.read(factors));
                let channels = c.mean.len();
                let by_input = |(i, dy): (usize, &f64)| {
                    let channel = i % channels;
                    let own = c.scale[channel] * dy;
                    match (&factors, &x) {
                        (Some(f), Some(x)) => {
                            own + f[channel] * (x[i] - c.mean[channel]) + f[channels + channel]
                        }
                        (Some(_), None) => panic!("factors without x"),
                        (None, _) => own,
                    }
                };
                let out: Vec<f64> = dy.iter().enumerate().map(by_input).collect();
                self.store(dx, &out);
                if let Some(residual) = residual {
                    assert_ne!(residual.view, dx.view, "two results in one place");
                    self.store(residual, &dy);
                }
            }
            _ => unreachable!("not a norm's launch"),
        }
    }

    fn masked(&self, dy: View, mask: Mask, c: &Coefficients, x: Option<&[f64]>) -> Vec<f64> {
        let mut values = self.arena.read(dy);
        match mask {
            Mask::None => {}
            Mask::Output(output) => self.mask_by(output, &mut values),
            Mask::Recomputed => {
                let mut out = x.expect("a recomputed mask needs x").to_vec();
                normalize(&mut out, c);
                values.iter_mut().zip(out).for_each(|(value, out)| {
                    if out <= 0.0 {
                        *value = 0.0;
                    }
                });
            }
        }
        values
    }

    fn write_coefficients(
        &mut self,
        view: View,
        [weight, bias]: [usize; 2],
        (mean, variance): (&[f64], &[f64]),
        epsilon: f64,
    ) {
        let (weight, bias) = (&self.inputs.parameters[weight], &self.inputs.parameters[bias]);
        let inverse: Vec<f64> = variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
        let scale: Vec<f64> = weight.iter().zip(&inverse).map(|(w, i)| w * i).collect();
        let all: Vec<f64> = [mean, &scale, bias, &inverse].concat();
        self.arena.write(view, &all);
    }

    fn coefficients(&self, view: View) -> Coefficients {
        let values = self.arena.read(view);
        let row = |row: usize| values[row * view.channels..][..view.channels].to_vec();
        Coefficients { mean: row(0), scale: row(1), shift: row(2), inverse: row(3) }
    }
}

/// (x - mean) * scale + shift.
fn normalize(values: &mut [f64], c: &Coefficients) {
    for row in values.chunks_exact_mut(c.mean.len()) {
        for (channel, value) in row.iter_mut().enumerate() {
            *value = (*value - c.mean[channel]) * c.scale[channel] + c.shift[channel];
        }
    }
}
