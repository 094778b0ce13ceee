//! The shape of a convolution: its maps, kernel, stride and padding. Pure data, without cuDNN.

use super::ConvolutionError;
use std::fmt;

/// A map of pixels, NHWC. It may be a range of the channels of a wider map: then `row_stride` is
/// the wider map's number of channels, and `offset` the first channel of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Map {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Elements from one pixel to the next.
    pub row_stride: usize,
    /// First channel within the wider map. The pointer given at execution includes it.
    pub offset: usize,
}

impl Map {
    /// A map of its own.
    pub fn new(height: usize, width: usize, channels: usize) -> Map {
        Map { height, width, channels, row_stride: channels, offset: 0 }
    }

    /// The map as the channels from `offset` on of a map of `row_stride` channels.
    pub fn within(self, row_stride: usize, offset: usize) -> Map {
        Map { row_stride, offset, ..self }
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)?;
        if self.row_stride != self.channels {
            write!(f, " (channels {}.. of {})", self.offset, self.row_stride)?;
        }
        Ok(())
    }
}

/// The shape of a convolution. Pairs are (vertical, horizontal). A linear layer is a convolution of
/// maps of one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    pub batch: usize,
    pub input: Map,
    pub output: Map,
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    pub padding: (usize, usize),
}

impl Shape {
    /// A linear layer of `inputs` to `outputs` values.
    pub fn linear(batch: usize, inputs: usize, outputs: usize) -> Shape {
        Shape {
            batch,
            input: Map::new(1, 1, inputs),
            output: Map::new(1, 1, outputs),
            kernel: (1, 1),
            stride: (1, 1),
            padding: (0, 0),
        }
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.output.channels * self.kernel.0 * self.kernel.1 * self.input.channels
    }

    /// Checks what cuDNN would reject without saying why, and that no size overflows.
    ///
    /// # Errors
    /// With the first reason found.
    pub(super) fn check(&self) -> Result<(), ConvolutionError> {
        self.flaw().map_or(Ok(()), |reason| {
            Err(ConvolutionError::Shape { shape: self.to_string(), reason })
        })
    }

    fn flaw(&self) -> Option<String> {
        let sizes = [self.batch, self.kernel.0, self.kernel.1, self.stride.0, self.stride.1];
        if sizes.contains(&0) {
            return Some("batch, kernel and stride must be at least 1".to_owned());
        }
        flaw_of_map("input", &self.input, self.batch)
            .or_else(|| flaw_of_map("output", &self.output, self.batch))
            .or_else(|| self.flaw_of_weights())
            .or_else(|| self.flaw_of_output())
    }

    fn flaw_of_weights(&self) -> Option<String> {
        let count = [self.output.channels, self.kernel.0, self.kernel.1, self.input.channels];
        product(&count).is_none().then(|| "the weights are too large".to_owned())
    }

    /// The output's size must follow from the input's.
    fn flaw_of_output(&self) -> Option<String> {
        let axes = [
            ("high", self.input.height, self.output.height, self.axis(|pair| pair.0)),
            ("wide", self.input.width, self.output.width, self.axis(|pair| pair.1)),
        ];
        axes.into_iter().find_map(|(way, input, output, (kernel, stride, padding))| {
            let padded = padding.checked_mul(2).and_then(|both| both.checked_add(input));
            let Some(room) = padded.and_then(|padded| padded.checked_sub(kernel)) else {
                return Some(format!("the kernel is larger than the padded input is {way}"));
            };
            let expected = room / stride + 1;
            (expected != output)
                .then(|| format!("the output is {output} pixels {way}, expected {expected}"))
        })
    }

    fn axis(&self, of: fn((usize, usize)) -> usize) -> (usize, usize, usize) {
        (of(self.kernel), of(self.stride), of(self.padding))
    }
}

fn flaw_of_map(what: &str, map: &Map, batch: usize) -> Option<String> {
    if map.height == 0 || map.width == 0 || map.channels == 0 {
        return Some(format!("the {what} has no pixels or no channels"));
    }
    let end = map.offset.checked_add(map.channels);
    if end.is_none_or(|end| end > map.row_stride) {
        return Some(format!(
            "the {what}'s {} channels from channel {} on don't fit a map of {} channels",
            map.channels, map.offset, map.row_stride
        ));
    }
    let count = product(&[batch, map.height, map.width, map.row_stride]);
    count.is_none().then(|| format!("the {what} is too large"))
}

/// The product, if as many elements of four bytes can be addressed.
fn product(factors: &[usize]) -> Option<usize> {
    let count = factors.iter().try_fold(1_usize, |count, &factor| count.checked_mul(factor))?;
    i64::try_from(count.checked_mul(4)?).is_ok().then_some(count)
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "of {} maps {} to {} with a {}x{} kernel, stride {}x{}, padding {}x{}",
            self.batch,
            self.input,
            self.output,
            self.kernel.0,
            self.kernel.1,
            self.stride.0,
            self.stride.1,
            self.padding.0,
            self.padding.1
        )
    }
}
