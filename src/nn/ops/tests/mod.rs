//! Compares every op, and the same composed of dfdx's own ops, with a naive loop in `f64` over random
//! shapes, and its gradients with finite differences of that loop.

mod composed;
mod large;
mod naive;

use large::held;

use super::convolution::Geometry;
use super::pooling::{PoolKind, Pooling};
use super::{
    DropoutPosition, FlatTensor, Gradient, MaybeTape, NormStatistics, Normalization, Products,
    soft_targets,
};
use crate::nn::graph::{Shape, Window};
use crate::nn::matrix::{has_kernels, to_bf16, values};
use crate::nn::number::{Number, converted, to_f64};
use crate::nn::ops;
use crate::random::Stream;
use dfdx::prelude::*;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

type Failure = <Cpu as HasErr>::Err;
type Loop<'a> = dyn Fn(&[Vec<f64>]) -> Vec<f64> + 'a;
type Op<'a, N> =
    dyn Fn(&[FlatTensor<N>], Gradient, &mut MaybeTape<N>) -> Result<FlatTensor<N>, Failure> + 'a;

/// Tolerance of an op's output in `f32` and in `f64`, relative to the output's root mean square.
const NEAR: [f64; 2] = [1e-5, 1e-12];

/// The distance of finite differences, which are computed in f64. Small, so that hardly any
/// difference spans the kink of a ReLU or the tie of a maximum.
const DISTANCE: f64 = 1e-7;

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, "test", &[]);
    (0..count).map(|_| stream.normal() as f32).collect()
}

/// Rounded to bf16, of which products are exact in `f32`.
fn rounded(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(to_bf16).collect()
}

fn tensor<N: Number>(values: Vec<N>) -> FlatTensor<N> {
    let length = values.len();
    Cpu::default().tensor_from_vec(values, (length,))
}

/// The gradients by `inputs` of the sum of `out` weighted with `weights`.
fn backwards<N: Number>(
    out: FlatTensor<N>,
    tape: MaybeTape<N>,
    weights: &[f32],
    inputs: &[FlatTensor<N>],
) -> Vec<Vec<f64>>
where
    Cpu: Device<N>,
{
    let out = out.put_tape(tape.expect("the tape comes back"));
    let grads = (out * tensor(converted(weights))).sum::<(), Axis<0>>().backward();
    inputs.iter().map(|input| to_f64(&grads.get(input).as_vec())).collect()
}

/// Checks an op, written for any precision, against its loop in `f64`: its values and its
/// gradients, in `f32` and in `f64`.
macro_rules! check {
    ($inputs:expr, |$x:ident, $gradient:ident, $tape:ident| $op:expr, $naive:expr) => {{
        let (inputs, naive): (Vec<Vec<f32>>, &Loop) = ($inputs, $naive);
        let narrow: &Op<f32> = &|$x, $gradient, $tape| $op;
        let wide: &Op<f64> = &|$x, $gradient, $tape| $op;
        hold(&tensors(&inputs), NEAR[0], narrow, naive)?;
        hold(&tensors(&inputs), NEAR[1], wide, naive)
    }};
}

fn tensors<N: Number>(inputs: &[Vec<f32>]) -> Vec<FlatTensor<N>> {
    inputs.iter().map(|values| tensor(converted(values))).collect()
}

/// The op's values, and its gradients by central differences at up to 40 elements of
/// each input. Then the op twice, so that gradients have to be added up.
fn hold<N: Number>(
    given: &[FlatTensor<N>],
    near: f64,
    op: &Op<N>,
    naive: &Loop,
) -> Result<(), TestCaseError>
where
    Cpu: Device<N>,
{
    let inputs: Vec<Vec<f64>> = given.iter().map(|input| to_f64(values(input))).collect();
    let expected = naive(&inputs);
    let untaped = op(given, Gradient::First, &mut None).unwrap();
    let mut tape = Some(Default::default());
    let made = op(given, Gradient::First, &mut tape).unwrap();
    prop_assert_eq!(values(&untaped), values(&made), "the tape changes nothing");
    let size = (expected.iter().map(|v| v * v).sum::<f64>() / expected.len() as f64).sqrt();
    prop_assert_eq!(values(&made).len(), expected.len());
    for (index, (ours, exact)) in to_f64(values(&made)).iter().zip(&expected).enumerate() {
        prop_assert!((ours - exact).abs() < near * (1.0 + size), "value {index}: {ours} {exact}");
    }

    let weights = rounded(numbers(expected.len(), 99));
    let gradients = backwards(made, tape, &weights, given);
    let total = |inputs: &[Vec<f64>]| -> f64 {
        naive(inputs).iter().zip(&weights).map(|(out, weight)| out * f64::from(*weight)).sum()
    };
    for (which, gradient) in gradients.iter().enumerate() {
        let scale = gradient.iter().fold(1.0f64, |largest, v| largest.max(v.abs()));
        let step = gradient.len().div_ceil(40).max(1);
        for index in (0..gradient.len()).step_by(step) {
            let at = |distance: f64| {
                let mut moved = inputs.clone();
                moved[which][index] += distance;
                total(&moved)
            };
            let numeric = (at(DISTANCE) - at(-DISTANCE)) / (2.0 * DISTANCE);
            let difference = (gradient[index] - numeric).abs();
            prop_assert!(
                difference < 1e-4 * scale,
                "input {which} at {index}: {} {numeric}",
                gradient[index]
            );
        }
    }

    // The op that runs last is the first to hand over its gradient.
    let mut tape = Some(Default::default());
    let one = op(given, Gradient::Add, &mut tape).unwrap();
    let two = op(given, Gradient::First, &mut tape).unwrap();
    let sum = ops::add(&one, &two, [Gradient::First; 2], &mut tape).unwrap();
    for (twice, once) in backwards(sum, tape, &weights, given).iter().zip(&gradients) {
        for (twice, once) in twice.iter().zip(once) {
            prop_assert!(
                (twice - 2.0 * once).abs() <= 10.0 * near * (1.0 + once.abs()),
                "{twice} twice {once}"
            );
        }
    }
    Ok(())
}

/// Windows that fit maps of these sizes.
fn windows() -> impl Strategy<Value = (Shape, Window)> {
    let side = || (1usize..8, 1usize..5, 1usize..4, 0usize..3);
    (side(), side(), 1usize..6).prop_filter_map("the kernel doesn't fit", |(y, x, channels)| {
        let window = Window { kernel: (y.1, x.1), stride: (y.2, x.2), padding: (y.3, x.3) };
        let shape = Shape::new(y.0, x.0, channels);
        window.over(shape.height, shape.width).map(|_| (shape, window))
    })
}

fn geometry(batch: usize, input: Shape, window: Window, channels: usize) -> Geometry {
    let (height, width) = window.over(input.height, input.width).unwrap();
    let output = Shape::new(height, width, channels);
    Geometry { batch, input, output, window, products: Products::Own }
}

fn check_convolution(geometry: Geometry, bias: bool, seed: u64) -> Result<(), TestCaseError> {
    let mut inputs = vec![
        numbers(geometry.batch * geometry.input.len(), seed),
        numbers(geometry.depth() * geometry.output.channels, seed + 1),
    ];
    inputs.extend(bias.then(|| numbers(geometry.output.channels, seed + 2)));
    let naive = |inputs: &[Vec<f64>]| naive::convolution(&geometry, inputs);
    check!(
        inputs.clone(),
        |x, gradient, tape| {
            let bias = x.get(2);
            ops::convolution(&x[0], &x[1], bias, &geometry, [gradient; 3], tape)
        },
        &naive
    )?;
    if has_kernels() {
        let geometry = Geometry { products: Products::Bf16, ..geometry };
        let op: &Op<f32> = &|x, gradient, tape| {
            let bias = x.get(2);
            ops::convolution(&x[0], &x[1], bias, &geometry, [gradient; 3], tape)
        };
        let inputs: Vec<Vec<f32>> = inputs.iter().cloned().map(rounded).collect();
        hold(&tensors(&inputs), NEAR[0], op, &naive)?;
    }
    check!(
        inputs,
        |x, gradient, tape| {
            let bias = x.get(2);
            composed::convolution(&x[0], &x[1], bias, &geometry, [gradient; 3], tape)
        },
        &naive
    )
}

fn check_batch_norm(
    rows: usize,
    channels: usize,
    options: (bool, bool, bool),
    seed: u64,
) -> Result<(), TestCaseError> {
    let (of_batch, residual, rectified) = options;
    let mut inputs = vec![
        numbers(rows * channels, seed),
        numbers(channels, seed + 1),
        numbers(channels, seed + 2),
    ];
    inputs.extend(residual.then(|| numbers(rows * channels, seed + 3)));
    let mean = numbers(channels, seed + 4);
    let variance: Vec<f32> = numbers(channels, seed + 5).iter().map(|v| v * v + 0.5).collect();
    let statistics = if of_batch {
        NormStatistics::Batch
    } else {
        NormStatistics::Running { mean: &mean, variance: &variance }
    };
    let norm = Normalization { statistics, epsilon: 1e-3, relu: rectified };
    let naive = |inputs: &[Vec<f64>]| naive::batch_norm(&norm, channels, inputs);
    check!(
        inputs.clone(),
        |x, gradient, tape| {
            let affine = [&x[1], &x[2]];
            Ok(ops::batch_norm(&x[0], affine, x.get(3), &norm, [gradient; 4], tape)?.0)
        },
        &naive
    )?;
    check!(
        inputs,
        |x, gradient, tape| {
            let affine = [&x[1], &x[2]];
            Ok(composed::batch_norm(&x[0], affine, x.get(3), &norm, [gradient; 4], tape)?.0)
        },
        &naive
    )
}

fn check_pool(pooling: Pooling, seed: u64) -> Result<(), TestCaseError> {
    let inputs = vec![numbers(pooling.batch * pooling.input.len(), seed)];
    let naive = |inputs: &[Vec<f64>]| naive::pool(&pooling, inputs);
    check!(
        inputs.clone(),
        |inputs, gradient, tape| ops::pool(&inputs[0], &pooling, gradient, tape),
        &naive
    )?;
    check!(
        inputs,
        |inputs, gradient, tape| composed::pool(&inputs[0], &pooling, gradient, tape),
        &naive
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn convolutions((input, window) in windows(), batch in 1usize..4, channels in 1usize..6, bias: bool, seed in 0u64..1000) {
        check_convolution(geometry(batch, input, window, channels), bias, seed)?;
    }

    #[test]
    fn tiled_convolutions(
        side in (1usize..8, 1usize..8),
        padding in (1usize..4, 1usize..4),
        batch in 1usize..4,
        channels in (prop_oneof![Just(32usize), Just(40), Just(48)], prop_oneof![Just(32usize), Just(56)]),
    ) {
        let window = Window { kernel: (3, 3), stride: (1, 1), padding };
        held::<f32>(&geometry(batch, Shape::new(side.0, side.1, channels.0), window, channels.1), NEAR[0]);
    }

    #[test]
    fn batch_norms(rows in 3usize..40, channels in 1usize..9, options: (bool, bool, bool), seed in 0u64..1000) {
        check_batch_norm(rows, channels, options, seed)?;
    }

    #[test]
    fn pools((input, window) in windows(), batch in 1usize..3, which in 0usize..3, seed in 0u64..1000) {
        let fits = 2 * window.padding.0 <= window.kernel.0 && 2 * window.padding.1 <= window.kernel.1;
        prop_assume!(fits);
        let kind = match which {
            0 => PoolKind::Maximum(window),
            _ => PoolKind::Mean { window, count_padding: which == 1 },
        };
        let output = geometry(batch, input, window, input.channels).output;
        check_pool(Pooling { batch, input, output, kind }, seed)?;
    }

    #[test]
    fn bins(h in 1usize..9, w in 1usize..9, channels in 1usize..4, to in (1usize..5, 1usize..5), seed in 0u64..1000) {
        let (input, output) = (Shape::new(h, w, channels), Shape::new(to.0, to.1, channels));
        check_pool(Pooling { batch: 2, input, output, kind: PoolKind::Bins }, seed)?;
    }

    #[test]
    fn linear_layers(batch in 1usize..5, inputs in 1usize..20, outputs in 1usize..20, seed in 0u64..1000) {
        let data = vec![numbers(batch * inputs, seed), numbers(inputs * outputs, seed + 1), numbers(outputs, seed + 2)];
        let shape = Shape::vector(inputs);
        let as_convolution = geometry(batch, shape, Window::square(1, 1, 0), outputs);
        let naive = |inputs: &[Vec<f64>]| naive::convolution(&as_convolution, inputs);
        check!(data.clone(), |x, gradient, tape| ops::linear(&x[0], [&x[1], &x[2]], batch, Products::Own, [gradient; 3], tape), &naive)?;
        check!(data.clone(), |x, gradient, tape| composed::linear(&x[0], [&x[1], &x[2]], batch, Products::Own, [gradient; 3], tape), &naive)?;
        if has_kernels() {
            let op: &Op<f32> =
                &|x, gradient, tape| ops::linear(&x[0], [&x[1], &x[2]], batch, Products::Bf16, [gradient; 3], tape);
            let data: Vec<Vec<f32>> = data.into_iter().map(rounded).collect();
            hold(&tensors(&data), NEAR[0], op, &naive)?;
        }
    }

    #[test]
    fn arithmetic(rows in 1usize..6, widths in proptest::collection::vec(1usize..5, 2..4), seed in 0u64..1000) {
        let length = rows * widths[0];
        let two = vec![numbers(length, seed), numbers(length, seed + 1)];
        let sum = |x: &[Vec<f64>]| x[0].iter().zip(&x[1]).map(|(a, b)| a + b).collect::<Vec<_>>();
        check!(two.clone(), |x, gradient, tape| ops::add(&x[0], &x[1], [gradient; 2], tape), &sum)?;
        check!(two.clone(), |x, gradient, tape| composed::add(&x[0], &x[1], [gradient; 2], tape), &sum)?;
        let relu = |x: &[Vec<f64>]| x[0].iter().map(|x| x.max(0.0)).collect::<Vec<_>>();
        check!(vec![two[0].clone()], |x, gradient, tape| ops::relu(&x[0], gradient, tape), &relu)?;
        check!(vec![two[0].clone()], |x, gradient, tape| composed::relu(&x[0], gradient, tape), &relu)?;
        let many: Vec<Vec<f32>> = widths.iter().enumerate().map(|(i, w)| numbers(rows * w, seed + i as u64)).collect();
        let joined = |x: &[Vec<f64>]| {
            let row = |row: usize| x.iter().zip(&widths).flat_map(move |(part, w)| part[row * w..][..*w].to_vec());
            (0..rows).flat_map(row).collect::<Vec<_>>()
        };
        check!(many.clone(), |x, gradient, tape| {
            let parts: Vec<_> = x.iter().zip(&widths).map(|(x, &width)| (x, width, gradient)).collect();
            ops::concatenate(&parts, rows, tape)
        }, &joined)?;
        check!(many, |x, gradient, tape| {
            let parts: Vec<_> = x.iter().zip(&widths).map(|(x, &width)| (x, width, gradient)).collect();
            composed::concatenate(&parts, rows, tape)
        }, &joined)?;
    }

    #[test]
    fn dropouts(length in 1usize..50, probability in 0.0f32..0.9, seed in 0u64..1000) {
        let position = DropoutPosition { seed, step: 3, layer: 1 };
        let ones = ops::dropout(&tensor(vec![1.0; length]), probability, position, Gradient::None, &mut None).unwrap();
        let mask: Vec<f64> = to_f64(values(&ones));
        let naive = |x: &[Vec<f64>]| x[0].iter().zip(&mask).map(|(x, mask)| x * mask).collect::<Vec<_>>();
        let data = vec![numbers(length, seed)];
        check!(data.clone(), |x, gradient, tape| ops::dropout(&x[0], probability, position, gradient, tape), &naive)?;
        check!(data, |x, gradient, tape| composed::dropout(&x[0], probability, position, gradient, tape), &naive)?;
    }

    #[test]
    fn cross_entropies(batch in 1usize..5, classes in 1usize..7, seed in 0u64..1000) {
        let logits = numbers(batch * classes, seed);
        let targets: Vec<f32> = numbers(batch * classes, seed + 1).iter().map(|v| v.abs()).collect();
        let run = |composed: bool| {
            let (logits, mut tape) = (tensor(logits.clone()), Some(Default::default()));
            let loss = if composed {
                composed::cross_entropy(&logits.clone(), &targets, batch, &mut tape)
            } else {
                ops::cross_entropy(&logits.clone(), &targets, batch, &mut tape)
            };
            let loss = loss.unwrap();
            let value = loss.as_vec()[0];
            (value, loss.put_tape(tape.unwrap()).backward().get(&logits).as_vec())
        };
        let naive = |logits: &[f64]| naive::cross_entropy(logits, &targets, batch);
        let doubles: Vec<f64> = logits.iter().map(|&v| f64::from(v)).collect();
        for (loss, gradient) in [run(false), run(true)] {
            prop_assert!((f64::from(loss) - naive(&doubles)).abs() < 1e-5 * (1.0 + naive(&doubles)));
            for index in 0..doubles.len() {
                let at = |distance: f64| {
                    let mut moved = doubles.clone();
                    moved[index] += distance;
                    naive(&moved)
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                prop_assert!((f64::from(gradient[index]) - numeric).abs() < 1e-5, "{index}: {} {numeric}", gradient[index]);
            }
        }
    }
}

#[test]
fn long_batch_norms() {
    for options in
        [(true, true, true), (true, false, true), (false, true, true), (false, false, false)]
    {
        check_batch_norm(700, 65, options, 5).unwrap();
    }
}

#[test]
fn moments_survive_a_large_mean() {
    let data: Vec<f32> = numbers(100_000, 3).iter().map(|v| 1000.0 + v).collect();
    let (weight, bias) = (tensor(vec![1.0]), tensor(vec![0.0]));
    let norm = Normalization { statistics: NormStatistics::Batch, epsilon: 0.0, relu: false };
    let moments = ops::batch_norm(
        &tensor(data),
        [&weight, &bias],
        None,
        &norm,
        [Gradient::None; 4],
        &mut None,
    );
    let variance = moments.unwrap().1.unwrap().variance[0];
    assert!((variance - 1.0).abs() < 0.01, "{variance}");
}

#[test]
fn nan_propagates_through_relu_and_max_pooling() {
    let nan = tensor(vec![f32::NAN, -1.0]);
    let out = ops::relu(&nan, Gradient::None, &mut None).unwrap();
    assert!(values(&out)[0].is_nan() && values(&out)[1] == 0.0);
    let window = Window::square(2, 1, 0);
    let pooling = Pooling {
        batch: 1,
        input: Shape::new(2, 2, 1),
        output: Shape::vector(1),
        kind: PoolKind::Maximum(window),
    };
    let map = tensor(vec![1.0, f32::NAN, 2.0, 3.0]);
    assert!(values(&ops::pool(&map, &pooling, Gradient::None, &mut None).unwrap())[0].is_nan());
}

#[test]
fn dropout_keeps_the_mean_and_its_mask_is_its_position() {
    let ones = tensor(vec![1.0; 100_000]);
    let draw = |step| {
        let position = DropoutPosition { seed: 1, step, layer: 2 };
        ops::dropout(&ones, 0.3, position, Gradient::None, &mut None).unwrap().as_vec()
    };
    let mean = draw(0).iter().sum::<f32>() / 100_000.0;
    assert!((mean - 1.0).abs() < 0.01, "{mean}");
    assert_eq!(draw(0), draw(0));
    assert_ne!(draw(0), draw(1));
}

#[test]
fn smoothed_targets_sum_to_one() {
    let targets = soft_targets(&[1, 0], 4, 0.2);
    assert_eq!(targets.len(), 8);
    for (value, expected) in targets.iter().zip([0.05, 0.85, 0.05, 0.05, 0.85, 0.05, 0.05, 0.05]) {
        assert!((value - expected).abs() < 1e-6);
    }
}
