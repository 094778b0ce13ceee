//! 2-D convolution over NHWC maps with a (kernel row, kernel column, in, out) weight: any kernel,
//! stride and padding.

pub(crate) mod cpu;
mod packed;
mod panels;
pub(crate) mod patches;
pub(crate) mod prepared;
mod winograd;

use super::Products;
use crate::nn::graph::{Shape, Window};
use patches::Patches;

/// The shapes of a convolution, and how it multiplies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    pub batch: usize,
    /// Shape of one image's input.
    pub input: Shape,
    /// Shape of one image's output.
    pub output: Shape,
    /// Kernel, stride, padding.
    pub window: Window,
    pub products: Products,
}

impl Geometry {
    /// Values in one output pixel's receptive field: the inner dimension of the matrix product.
    pub(crate) fn depth(&self) -> usize {
        self.window.kernel.0 * self.window.kernel.1 * self.input.channels
    }

    /// The windows that the output pixels read.
    pub(crate) fn patches(&self) -> Patches {
        Patches {
            map: self.input,
            grid: (self.output.height, self.output.width),
            step: self.window.stride,
            origin: (-(self.window.padding.0 as isize), -(self.window.padding.1 as isize)),
            taps: self.window.kernel,
        }
    }
}
