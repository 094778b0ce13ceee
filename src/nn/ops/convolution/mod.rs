//! 2-D convolution over NHWC maps with a (kernel row, kernel column, in, out) weight: any kernel, stride and padding.

pub(crate) mod cpu;
pub(crate) mod patches;

use crate::nn::graph::{Shape, Window};
use patches::Patches;

/// The shapes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Images.
    pub batch: usize,
    /// Of one image.
    pub input: Shape,
    /// Of what is made of one image.
    pub output: Shape,
    /// Kernel, stride, padding.
    pub window: Window,
}

impl Geometry {
    /// Values of one output pixel's receptive field: the length of the products' sums.
    pub(crate) fn depth(&self) -> usize {
        self.window.kernel.0 * self.window.kernel.1 * self.input.channels
    }

    /// The windows that the output's pixels look at.
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
