//! Maps of the evidence for a class in an image: Grad-CAM (Selvaraju et al., 2017) on the last
//! feature map that is large enough to show a place, of any network that has one.

use super::Network;
use crate::nn::NnError;
use crate::nn::graph::{Graph, Op, Shape};
use crate::nn::interpreter::Pass;
use crate::nn::matrix::values;
use crate::nn::number::{Number, converted, to_f64};
use crate::nn::ops::{FlatTensor, chosen_sum, flat};
use crate::nn::program::Program;
use std::collections::BTreeSet;

/// Smallest side of a map that shows where something is, in pixels. The last map of ResNets has 7 for
/// images of 224 pixels, but 2 for images of 64: for those an earlier one is explained.
const SIDE: usize = 4;

/// Maps of the evidence for one class of each image.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassMaps {
    /// In pixels of the feature map.
    pub height: usize,
    pub width: usize,
    /// (batch, height, width): the logit that each pixel adds to first order where it is above 0,
    /// else 0.
    pub values: Vec<f32>,
}

/// A feature map of a batch, and the gradient of each image's logit by it: (batch, height, width,
/// channels).
struct Evidence<N> {
    shape: Shape,
    map: Vec<N>,
    gradient: Vec<N>,
}

impl<N: Number> Network<N> {
    /// The shape of the feature map that [`class_maps`](Self::class_maps) explains logits by; `None`
    /// if the network has none of several pixels.
    pub fn explained_map(&self) -> Option<Shape> {
        let last = last_map(&self.graph, &self.program)?;
        Some(self.graph.nodes()[self.program.instructions[last].output].shape)
    }

    /// For each of `batch` images (batch, height, width, 3), what in it raises the logit of its class
    /// of `classes`, in evaluation mode: the channels of the last feature map of 4 x 4 pixels or more (else of several), each
    /// weighted by the mean gradient of the logit by it (Grad-CAM). With a global mean and a linear
    /// layer behind that map, this is the layer's own weighted sum (CAM). The same batch gives the
    /// same bytes with any number of threads; another batch rounds differently.
    ///
    /// # Errors
    /// When the network has no such map, a class doesn't exist, lengths don't match, or memory can't
    /// be allocated.
    pub fn class_maps(
        &self,
        images: &[f32],
        batch: usize,
        classes: &[usize],
    ) -> Result<ClassMaps, NnError> {
        let Evidence { shape, map, gradient } = self.evidence(images, batch, classes)?;
        let of_image = |(map, gradient): (&[N], &[N])| {
            let weights = mean_by_channel(gradient, shape);
            let pixel = |pixel: &[N]| {
                let sum: f64 = to_f64(pixel).iter().zip(&weights).map(|(x, w)| x * w).sum();
                sum.max(0.0) as f32
            };
            map.chunks_exact(shape.channels).map(pixel).collect::<Vec<f32>>()
        };
        let images = map.chunks_exact(shape.len()).zip(gradient.chunks_exact(shape.len()));
        let values = images.flat_map(of_image).collect();
        Ok(ClassMaps { height: shape.height, width: shape.width, values })
    }

    fn evidence(
        &self,
        images: &[f32],
        batch: usize,
        classes: &[usize],
    ) -> Result<Evidence<N>, NnError> {
        self.check_input(0, images, batch)?;
        let count = self.graph.classes();
        if classes.len() != batch || classes.iter().any(|&class| class >= count) {
            let found = classes.len();
            return Err(NnError::Input(format!(
                "{found} classes to explain for {batch} images of {count} classes"
            )));
        }
        let last = last_map(&self.graph, &self.program).ok_or_else(|| {
            let input = self.graph.input();
            NnError::Graph(format!(
                "the network has no feature map of several pixels for images of {} x {} pixels, by which its answer could be explained",
                input.height, input.width
            ))
        })?;
        let node = self.program.instructions[last].output;
        let shape = self.graph.nodes()[node].shape;
        if batch == 0 {
            return Ok(Evidence { shape, map: Vec::new(), gradient: Vec::new() });
        }
        let input = flat(converted(images)).map_err(NnError::device)?;
        let mut evaluation = self.interpreter(batch, Pass::Evaluation);
        let map = only(evaluation.run(0..last + 1, input, &[node])?)?;
        let gradient = self.gradient_of_logits(&map, last, batch, classes)?;
        Ok(Evidence { shape, map: values(&map).to_vec(), gradient })
    }

    /// The gradient of the sum of each image's logit of its class by the map behind the instruction
    /// `last`. Images don't affect each other, so it is each image's own.
    fn gradient_of_logits(
        &self,
        map: &FlatTensor<N>,
        last: usize,
        batch: usize,
        classes: &[usize],
    ) -> Result<Vec<N>, NnError> {
        let mut interpreter = self.interpreter(batch, Pass::InputGradient);
        let range = last + 1..self.program.auxiliary;
        let logits = only(interpreter.run(range, map.clone(), &[self.graph.logits()])?)?;
        let mut tape = Some(interpreter.tape.take().unwrap_or_default());
        let sum = chosen_sum(&logits, classes, &mut tape).map_err(NnError::device)?;
        let mut gradients = N::backward(sum, tape.unwrap_or_default()).map_err(NnError::device)?;
        Ok(gradients.get_or_alloc_mut(map).map_err(NnError::device)?.to_vec())
    }
}

/// The last instruction whose output is a map of at least [`SIDE`] pixels a side, else of several
/// pixels, that isn't pooled, and all that later instructions of the main network read of what is
/// before them.
fn last_map(graph: &Graph, program: &Program) -> Option<usize> {
    let main = program.instructions.get(..program.auxiliary)?;
    // The values that the instructions behind the one at hand read of what is before them.
    let mut needed = BTreeSet::from([graph.logits()]);
    let mut coarse = None;
    for (index, instruction) in main.iter().enumerate().rev() {
        let output = &graph.nodes()[instruction.output];
        let is_map = matches!(
            output.op,
            Op::Convolution { .. } | Op::BatchNorm { .. } | Op::Relu | Op::Add | Op::Concatenate
        );
        let is_all = needed.len() == 1 && needed.contains(&instruction.output);
        if is_map && is_all {
            match output.shape {
                Shape { height, width, .. } if height.min(width) >= SIDE => return Some(index),
                shape if shape.pixels() > 1 => coarse = coarse.or(Some(index)),
                _ => {}
            }
        }
        needed.remove(&instruction.output);
        needed.extend(&instruction.inputs);
    }
    coarse
}

/// The single value that was asked for.
fn only<T>(values: Vec<T>) -> Result<T, NnError> {
    values.into_iter().next().ok_or_else(|| NnError::Graph("a value is never computed".to_owned()))
}

/// The mean of each channel of one image's map.
fn mean_by_channel<N: Number>(map: &[N], shape: Shape) -> Vec<f64> {
    let mut means = vec![0.0; shape.channels];
    for pixel in map.chunks_exact(shape.channels) {
        for (mean, value) in means.iter_mut().zip(to_f64(pixel)) {
            *mean += value / shape.pixels() as f64;
        }
    }
    means
}

#[cfg(test)]
mod tests;
