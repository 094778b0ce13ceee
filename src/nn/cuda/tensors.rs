//! A network's parameters, their gradients and moments, and running statistics in GPU memory.
//! Arenas of one layout: parameter i is at the same elements in all of them.

use crate::cuda::{Buffer, Card, Stream};
use crate::nn::NnError;
use crate::nn::parameters::{ParameterInfo, Role, RunningStatistics};
use std::ops::Range;

/// Elements that offsets are multiples of: 256 bytes in bf16, as convolutions want weights.
const ALIGNMENT: usize = 128;

/// Where each parameter and each norm's statistics are in their arenas.
pub(super) struct Layout {
    /// For each parameter, its elements. Weights of convolutions and linear layers come first.
    pub parameters: Vec<Range<usize>>,
    /// The end of the weights of convolutions and linear layers.
    pub weights: usize,
    /// Elements of an arena of parameters.
    pub length: usize,
    /// For each norm, its channels.
    pub norms: Vec<Range<usize>>,
    /// Elements of an arena of statistics.
    pub statistics: usize,
}

impl Layout {
    pub(super) fn new(parameters: &[&ParameterInfo], norms: &[RunningStatistics]) -> Layout {
        let mut ranges = vec![0..0; parameters.len()];
        let (mut length, mut weights) = (0, 0);
        for multiplied in [true, false] {
            for (range, info) in ranges.iter_mut().zip(parameters) {
                if is_multiplied(info.role) == multiplied {
                    let count: usize = info.shape.iter().product();
                    *range = length..length + count;
                    length = range.end.next_multiple_of(ALIGNMENT);
                }
            }
            if multiplied {
                weights = length;
            }
        }
        let mut statistics = 0;
        let mut place = |norm: &RunningStatistics| {
            let range = statistics..statistics + norm.mean.len();
            statistics = range.end.next_multiple_of(ALIGNMENT);
            range
        };
        let norms = norms.iter().map(&mut place).collect();
        Layout { parameters: ranges, weights, length, norms, statistics }
    }

    /// The ranges of weights among these parameters, in order; neighbors are one range.
    pub(super) fn weights_of(&self, chosen: &[bool]) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (range, _) in self.parameters.iter().zip(chosen).filter(|(_, chosen)| **chosen) {
            if range.start >= self.weights {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.end.next_multiple_of(ALIGNMENT) == range.start => {
                    last.end = range.end;
                }
                _ => ranges.push(range.clone()),
            }
        }
        ranges
    }
}

/// Whether convolutions multiply by it, so that it is rounded with the maps.
fn is_multiplied(role: Role) -> bool {
    matches!(role, Role::ConvWeight | Role::LinearWeight)
}

/// The arenas.
pub(super) struct Tensors {
    pub values: Buffer<f32>,
    /// The values rounded to bf16, where maps are. Only weights are read.
    pub rounded: Option<Buffer<u16>>,
    /// The gradients of the last pass.
    pub gradients: Buffer<f32>,
    /// The gradients of weights in bf16, where maps are, before they are widened.
    pub rounded_gradients: Option<Buffer<u16>>,
    /// The sum of the gradients of several passes; allocated when first needed.
    pub sum: Option<Buffer<f32>>,
    /// Whether the sum is what the next update takes.
    pub is_summed: bool,
    /// SGD's momentum, or Adam's first moment.
    pub first: Option<Buffer<f32>>,
    /// Adam's second moment.
    pub second: Option<Buffer<f32>>,
    pub means: Buffer<f32>,
    pub variances: Buffer<f32>,
}

impl Tensors {
    /// All zero. With `rounded`, weights are kept in bf16, too.
    pub(super) fn new(card: &Card, layout: &Layout, rounded: bool) -> Result<Tensors, NnError> {
        let bf16 = |count: usize| match rounded {
            true => card.zeros(count).map(Some),
            false => Ok(None),
        };
        Ok(Tensors {
            values: card.zeros(layout.length)?,
            rounded: bf16(layout.length)?,
            gradients: card.zeros(layout.length)?,
            rounded_gradients: bf16(layout.weights)?,
            sum: None,
            is_summed: false,
            first: None,
            second: None,
            means: card.zeros(layout.statistics)?,
            variances: card.zeros(layout.statistics)?,
        })
    }

    /// Zeroes the gradient of a parameter wherever it is.
    pub(super) fn zero_gradient(
        &self,
        stream: &Stream,
        layout: &Layout,
        parameter: usize,
    ) -> Result<(), NnError> {
        let range = &layout.parameters[parameter];
        self.gradients.clear_range(stream, range.clone())?;
        if let Some(rounded) =
            self.rounded_gradients.as_ref().filter(|_| range.end <= layout.weights)
        {
            rounded.clear_range(stream, range.clone())?;
        }
        Ok(())
    }
}

/// The address of an element of an arena.
pub(super) fn at<T: crate::cuda::Element>(buffer: &Buffer<T>, element: usize) -> u64 {
    buffer.address() + (element * size_of::<T>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Head;
    use crate::nn::backbones::backbone;
    use crate::nn::parameters::{describe, statistics};

    #[test]
    fn parameters_lie_apart_with_weights_first() {
        let head = Head::Dense { hidden: vec![7], dropout: 0.0, classes: 3 };
        let graph = backbone("resnet18").unwrap().graph(&head, (64, 64)).unwrap();
        let (infos, norms) = (describe(&graph), statistics(&graph));
        let infos: Vec<&ParameterInfo> = infos.iter().collect();
        let layout = Layout::new(&infos, &norms);
        let mut ranges = layout.parameters.clone();
        ranges.sort_by_key(|range| range.start);
        assert!(ranges.iter().all(|range| range.start % ALIGNMENT == 0));
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(ranges.last().unwrap().end <= layout.length);
        for (range, info) in layout.parameters.iter().zip(&infos) {
            assert_eq!(range.end <= layout.weights, is_multiplied(info.role), "{}", info.name);
        }
        // All weights are one range; without one of them, they are two.
        let mut chosen = vec![true; infos.len()];
        assert_eq!(layout.weights_of(&chosen).len(), 1);
        let middle = infos.iter().position(|info| info.name == "layer2.0.conv1.weight").unwrap();
        chosen[middle] = false;
        let [before, after] = &layout.weights_of(&chosen)[..] else { panic!("two ranges") };
        assert!(before.end <= layout.parameters[middle].start);
        assert!(layout.parameters[middle].end <= after.start);
        assert!(layout.weights_of(&vec![false; infos.len()]).is_empty());
    }
}
