//! Convolutions that are split into several blocks: values against the loop, gradients against the
//! composed op, which is held to finite differences on small ones.

use super::*;

/// Several blocks, ranges and channels.
#[test]
fn large_convolutions() {
    for (input, window, batch, channels) in [
        (
            Shape::new(17, 13, 40),
            Window { kernel: (1, 7), stride: (1, 1), padding: (0, 3) },
            3,
            150,
        ),
        (Shape::new(33, 31, 3), Window::square(7, 2, 3), 8, 16),
        (Shape::new(8, 8, 130), Window::square(3, 2, 1), 4, 270),
        (Shape::new(16, 16, 24), Window::square(1, 2, 0), 5, 40),
        (Shape::new(24, 24, 8), Window::square(3, 1, 1), 6, 9),
    ] {
        let geometry = geometry(batch, input, window, channels);
        held::<f32>(&geometry, NEAR[0]);
        held::<f64>(&geometry, NEAR[1]);
    }
}

/// Shapes of which the gradient by the weight is summed in several ranges of rows, and of tiles.
#[test]
fn long_convolutions() {
    // Transformed tiles of the second are rounded to bf16, which the inputs are already.
    for (input, window, batch, channels, near_in_bf16) in [
        (Shape::new(17, 17, 256), Window::square(3, 2, 1), 12, 16, NEAR[0]),
        (Shape::new(45, 43, 32), Window::square(3, 1, 1), 4, 40, 1e-2),
    ] {
        let geometry = geometry(batch, input, window, channels);
        held::<f32>(&geometry, NEAR[0]);
        if has_kernels() {
            held::<f32>(&Geometry { products: Products::Bf16, ..geometry }, near_in_bf16);
        }
    }
}

/// Values against the loop, and gradients against the composed op, relative to their size.
pub(super) fn held<N: Number>(geometry: &Geometry, near: f64)
where
    Cpu: Device<N>,
{
    let inputs = [
        (geometry.batch * geometry.input.len(), 1),
        (geometry.depth() * geometry.output.channels, 2),
    ]
    .map(|(count, seed)| tensor(converted::<f32, N>(&rounded(numbers(count, seed)))));
    let expected = naive::convolution(geometry, &inputs.clone().map(|x| to_f64(values(&x))));
    let weights = rounded(numbers(expected.len(), 3));
    let (x, weight) = (inputs[0].clone(), &inputs[1]);
    let (mut tape, mut other) = (Some(Default::default()), Some(Default::default()));
    let ours =
        ops::convolution(&x, weight, None, geometry, [Gradient::First; 3], &mut tape).unwrap();
    let composed =
        composed::convolution(&x, weight, None, geometry, [Gradient::First; 3], &mut other)
            .unwrap();
    assert!(distance(&to_f64(values(&ours)), &expected) < near);
    let gradients = backwards(ours, tape, &weights, &inputs);
    for (gradient, reference) in gradients.iter().zip(backwards(composed, other, &weights, &inputs))
    {
        assert!(distance(gradient, &reference) < near);
    }
}

/// Relative to the size of `b`.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v.powi(2)).sum::<f64>();
    assert_eq!(a.len(), b.len());
    (squares(&mut a.iter().zip(b).map(|(a, b)| a - b)) / squares(&mut b.iter().copied())).sqrt()
}
