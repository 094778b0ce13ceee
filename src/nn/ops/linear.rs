//! Linear layer: (batch, in) times (in, out) plus (out).

use super::{FlatTensor, Gradient, MaybeTape};

pub(crate) mod cpu {
    use super::*;
    use crate::nn::graph::{Shape, Window};
    use crate::nn::matrix::values;
    use crate::nn::number::Number;
    use crate::nn::ops::convolution::cpu::convolution;
    use crate::nn::ops::{Geometry, Products};
    use dfdx::tensor::{Cpu, CpuError};

    /// See [`Backend::linear`](crate::nn::Backend::linear): a convolution of maps of one pixel.
    pub(crate) fn linear<N: Number>(
        x: &FlatTensor<Cpu, N>,
        [weight, bias]: [&FlatTensor<Cpu, N>; 2],
        batch: usize,
        products: Products,
        gradients: [Gradient; 3],
        tape: &mut MaybeTape<Cpu, N>,
    ) -> Result<FlatTensor<Cpu, N>, CpuError> {
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
}
