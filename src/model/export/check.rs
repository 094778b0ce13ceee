//! The check of exported files: each is read back and run on images of the data that the model was
//! trained with, and its logits are compared with the model's.

use super::onnx::OnnxFile;
use super::{ONNX, OnnxInput, SAFETENSORS};
use crate::common::number::measured;
use crate::data::normalization::network_input;
use crate::data::{DataError, Preprocessing, Split, TensorCache};
use crate::metrics::argmax;
use crate::model::{Model, ModelError, ModelInfo};
use crate::nn::Network;
use rayon::prelude::*;
use serde::Serialize;
use std::path::Path;

/// Images run at a time.
const BATCH: usize = 32;

/// Largest difference of logits, as a fraction of one plus the largest logit: far above what rounding
/// makes of the deepest network, and far below what a wrong layer does.
const TOLERANCE: f32 = 1e-3;

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Check {
    /// Name of the file.
    pub file: String,
    /// What ran it.
    pub run_by: &'static str,
    /// The split of the images.
    pub split: &'static str,
    /// Number of images it was run on.
    pub images: u64,
    /// Number of images of the split.
    pub images_in_split: u64,
    /// Largest difference of a logit from the model's.
    pub largest_difference: f32,
    /// Largest absolute value of the model's logits.
    pub largest_logit: f32,
    /// Images whose predicted class differs from the model's.
    pub flipped: u64,
    /// Accuracy of the file, 0 to 1; none without labels that the model has.
    pub accuracy: Option<f64>,
    /// Accuracy of the model on the same images.
    pub accuracy_of_model: Option<f64>,
}

/// The logits of a model for the images on which its exports are checked.
pub(crate) struct Reference<'a> {
    images: Images<'a>,
    logits: Vec<f32>,
    /// Those of the same weights in `f32`, where the model is in bf16: other programs run its files so.
    in_f32: Option<Vec<f32>>,
    classes: usize,
}

/// Images of one split, and the label of each by the model's classes.
struct Images<'a> {
    cache: TensorCache,
    split: Split,
    in_split: usize,
    /// Indices of samples.
    chosen: Vec<usize>,
    labels: Vec<Option<usize>>,
    cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> Reference<'a> {
    /// Runs a model on at most `limit` images, at equal distances, of a tensor cache's test split;
    /// without one, of the validation split, or else of all images. `cancelled` is asked between
    /// batches.
    ///
    /// # Errors
    /// If the images aren't those of the model, are damaged, or there are none; or when cancelled.
    pub(crate) fn new(
        model: &Model,
        folder: &Path,
        limit: usize,
        cancelled: &'a (dyn Fn() -> bool + Sync),
    ) -> Result<Reference<'a>, ModelError> {
        let images = Images::open(folder, &model.info, limit, cancelled)?;
        let logits = images.logits_of(&model.network)?;
        let in_f32 = match model.info.bf16 {
            true => Some(images.logits_of(&model.network.converted()?)?),
            false => None,
        };
        Ok(Reference { images, logits, in_f32, classes: model.classes().len() })
    }

    /// Checks the safetensors in a folder, which must give the same logits to the last bit.
    ///
    /// # Errors
    /// If it can't be read, or gives others.
    pub(crate) fn check_safetensors(&self, folder: &Path) -> Result<Check, ModelError> {
        let exported = Model::open(&folder.join(SAFETENSORS))?;
        let logits = self.images.logits_of(&exported.network)?;
        self.compare(SAFETENSORS, "pipe's reader of safetensors", &logits, (&self.logits, 0.0))
    }

    /// Checks the ONNX file in a folder.
    ///
    /// # Errors
    /// If it can't be read or run, or gives other logits than rounding explains.
    pub(crate) fn check_onnx(&self, folder: &Path, input: OnnxInput) -> Result<Check, ModelError> {
        let exported = OnnxFile::open(&folder.join(ONNX))?;
        let logits = self.images.logits(|squares, preprocessing| {
            let images = match input {
                OnnxInput::Normalized => normalized(squares, preprocessing),
                OnnxInput::Pixels => pixels(squares, preprocessing),
            };
            exported.logits(&planes(&images, preprocessing.crop as usize))
        })?;
        let expected = self.in_f32.as_ref().unwrap_or(&self.logits);
        self.compare(ONNX, "pipe's reader of ONNX", &logits, (expected, TOLERANCE))
    }

    /// Compares logits with the model's; they must be near those expected.
    fn compare(
        &self,
        file: &str,
        run_by: &'static str,
        logits: &[f32],
        (expected, tolerance): (&[f32], f32),
    ) -> Result<Check, ModelError> {
        if logits.len() != self.logits.len() {
            return Err(ModelError::new(format!(
                "{file} makes {} logits, and the model {}",
                logits.len(),
                self.logits.len()
            )));
        }
        let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, larger);
        let largest_logit = largest(&mut self.logits.iter().map(|logit| logit.abs()));
        let difference_from = |others: &[f32]| {
            let pairs = others.iter().zip(logits);
            largest(&mut pairs.map(|(own, other)| (own - other).abs()))
        };
        let difference = difference_from(expected);
        if difference > tolerance * (1.0 + largest_logit) || difference.is_nan() {
            return Err(ModelError::new(format!(
                "{file} gives other logits than the model: they differ by up to {}, and the largest is {}; this is a bug in \
                 pipe, please report it",
                measured(difference.into()),
                measured(largest_logit.into())
            )));
        }
        let [own, others] = [self.predictions(&self.logits), self.predictions(logits)];
        let flipped = own.iter().zip(&others).filter(|(own, other)| own != other).count();
        Ok(Check {
            file: file.to_owned(),
            run_by,
            split: self.images.split.name(),
            images: self.images.chosen.len() as u64,
            images_in_split: self.images.in_split as u64,
            largest_difference: difference_from(&self.logits),
            largest_logit,
            flipped: flipped as u64,
            accuracy: self.accuracy(&others),
            accuracy_of_model: self.accuracy(&own),
        })
    }

    fn predictions(&self, logits: &[f32]) -> Vec<usize> {
        logits.chunks_exact(self.classes).map(argmax).collect()
    }

    /// The share of the predictions that are right, if all images have labels that the model knows.
    fn accuracy(&self, predictions: &[usize]) -> Option<f64> {
        let labels: Vec<usize> = self.images.labels.iter().copied().collect::<Option<_>>()?;
        let hits = labels.iter().zip(predictions).filter(|(label, found)| label == found).count();
        Some(hits as f64 / labels.len() as f64)
    }
}

/// The larger of two numbers, and NaN if one of them is.
fn larger(a: f32, b: f32) -> f32 {
    if a.is_nan() || b <= a { a } else { b }
}

impl<'a> Images<'a> {
    fn open(
        folder: &Path,
        info: &ModelInfo,
        limit: usize,
        cancelled: &'a (dyn Fn() -> bool + Sync),
    ) -> Result<Images<'a>, ModelError> {
        let cache = TensorCache::open(folder)?;
        if cache.info().preprocessing != info.preprocessing {
            let reason = "its images were preprocessed differently from those of the model";
            return Err(ModelError::new(format!("{}: {reason}", folder.display())));
        }
        let splits = [Split::Test, Split::Validation, Split::Unlabelled, Split::Train];
        let mut found = splits.map(|split| (split, cache.of_split(split))).into_iter();
        let Some((split, all)) = found.find(|(_, samples)| !samples.is_empty()) else {
            return Err(ModelError::new(format!("{} has no images", folder.display())));
        };
        let count = limit.min(all.len());
        let chosen: Vec<usize> = (0..count).map(|at| all[at * all.len() / count]).collect();
        let class = |name: &String| info.classes.iter().position(|class| class == name);
        let classes: Vec<Option<usize>> = cache.info().classes.iter().map(class).collect();
        let label =
            |&sample: &usize| classes.get(cache.samples()[sample].class? as usize).copied()?;
        let labels = chosen.iter().map(label).collect();
        Ok(Images { split, in_split: all.len(), chosen, labels, cancelled, cache })
    }

    /// The logits of a network.
    fn logits_of(&self, network: &Network) -> Result<Vec<f32>, ModelError> {
        self.logits(|squares, preprocessing| {
            let input = normalized(squares, preprocessing);
            Ok(network.logits(&input, squares.len())?)
        })
    }

    /// The logits that `run` gives for stored squares, all images one after the other.
    fn logits(
        &self,
        run: impl Fn(&[Vec<u8>], &Preprocessing) -> Result<Vec<f32>, ModelError>,
    ) -> Result<Vec<f32>, ModelError> {
        let mut logits = Vec::new();
        for samples in self.chosen.chunks(BATCH) {
            if (self.cancelled)() {
                return Err(ModelError::Cancelled);
            }
            let square = |&sample: &usize| {
                let record = self.cache.samples()[sample].record;
                self.cache.record(record).map(|square| square.into_owned())
            };
            let squares = samples.par_iter().map(square).collect::<Result<Vec<_>, DataError>>()?;
            logits.extend(run(&squares, &self.cache.info().preprocessing)?);
        }
        Ok(logits)
    }
}

/// The network's input for stored squares: (count, crop, crop, 3).
fn normalized(squares: &[Vec<u8>], preprocessing: &Preprocessing) -> Vec<f32> {
    let images = squares.par_iter().map(|square| network_input(square, preprocessing));
    images.collect::<Vec<_>>().concat()
}

/// The center crops of stored squares, of 0 to 255: (count, crop, crop, 3).
fn pixels(squares: &[Vec<u8>], preprocessing: &Preprocessing) -> Vec<f32> {
    let [size, crop, offset] =
        [preprocessing.resize, preprocessing.crop, preprocessing.crop_offset()]
            .map(|side| side as usize);
    let rows =
        squares.iter().flat_map(|square| square.chunks_exact(3 * size).skip(offset).take(crop));
    let levels = rows.flat_map(|row| &row[3 * offset..][..3 * crop]);
    levels.map(|&level| f32::from(level)).collect()
}

/// Images (count, side, side, 3) as (count, 3, side, side).
fn planes(images: &[f32], side: usize) -> Vec<f32> {
    let mut planes = Vec::with_capacity(images.len());
    for image in images.chunks_exact(side * side * 3) {
        (0..3).for_each(|channel| planes.extend(image.iter().skip(channel).step_by(3)));
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::info;

    #[test]
    fn pixels_are_those_that_the_network_sees() {
        let mut preprocessing = info().preprocessing;
        (preprocessing.mean, preprocessing.std) = ([0.0; 3], [1.0; 3]);
        let side = preprocessing.resize;
        let square: Vec<u8> = (0..side * side * 3).map(|at| (at * 7 % 251) as u8).collect();
        let squares = [square.clone(), square];
        let scaled: Vec<f32> =
            pixels(&squares, &preprocessing).iter().map(|level| level / 255.0).collect();
        assert_eq!(scaled, normalized(&squares, &preprocessing));
    }

    #[test]
    fn planes_are_channels() {
        assert_eq!(planes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let image: Vec<f32> = (0..12).map(|value| value as f32).collect();
        let expected = [0.0, 3.0, 6.0, 9.0, 1.0, 4.0, 7.0, 10.0, 2.0, 5.0, 8.0, 11.0];
        assert_eq!(planes(&image, 2), expected);
    }

    #[test]
    fn a_difference_that_is_not_a_number_is_the_largest() {
        assert!([1.0, f32::NAN, 2.0].into_iter().fold(0.0, larger).is_nan());
        assert_eq!([1.0, 3.0, 2.0].into_iter().fold(0.0, larger), 3.0);
    }
}
