//! Linear layer: (batch, in) times (in, out) plus (out).

use super::{FlatTensor, Gradient, MaybeTape};

use crate::nn::graph::{Shape, Window};
use crate::nn::matrix::values;
use crate::nn::number::Number;
use crate::nn::ops::convolution::cpu::convolution;
use crate::nn::ops::{Geometry, Products};
use dfdx::tensor::CpuError;

/// `x` (batch, in) times a weight (in, out) plus a bias (out), giving (batch, out): a convolution of
/// maps of one pixel. `gradients` are those of x, weight, bias.
pub(crate) fn linear<N: Number>(
    x: &FlatTensor<N>,
    [weight, bias]: [&FlatTensor<N>; 2],
    batch: usize,
    products: Products,
    gradients: [Gradient; 3],
    tape: &mut MaybeTape<N>,
) -> Result<FlatTensor<N>, CpuError> {
    let (inputs, outputs) = (values(x).len() / batch, values(bias).len());
    let geometry = Geometry {
        batch,
        input: Shape::new(1, 1, inputs),
        output: Shape::new(1, 1, outputs),
        window: Window::square(1, 1, 0),
        products,
    };
    convolution(x, weight, Some(bias), &geometry, gradients, tape)
}
