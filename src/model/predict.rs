//! From the bytes of image files to answers.

use super::{Model, ModelError};
use crate::data::decode;
use crate::data::normalization::network_input;
use crate::metrics::top_k;
use rayon::prelude::*;
use serde::Serialize;

/// Images decoded and classified together.
const BATCH: usize = 32;

/// The answer for one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The image's name, as given.
    pub path: String,
    /// The likeliest class.
    pub class: String,
    /// Its probability, 0 to 1.
    pub probability: f32,
    /// The likeliest classes with their probabilities, likeliest first; as many as were asked for, and at least one.
    pub top: Vec<(String, f32)>,
}

/// A image that could not be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unreadable {
    /// The image's name, as given.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// The answers for some images, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Predictions {
    /// An answer for each image that could be read.
    pub rows: Vec<Row>,
    /// The others.
    pub unreadable: Vec<Unreadable>,
}

impl Model {
    /// Classifies images given as (name, bytes of the file). The answer for a image is the same in any company, so a
    /// caller may hand over a long list in portions that fit in memory.
    ///
    /// # Errors
    /// When the network can't be run; images that can't be read are no error but listed.
    pub fn predict(
        &self,
        images: &[(String, Vec<u8>)],
        top: usize,
    ) -> Result<Predictions, ModelError> {
        let mut predictions = Predictions::default();
        for portion in images.chunks(BATCH) {
            let inputs: Vec<Result<Vec<f32>, String>> =
                portion.par_iter().map(|(_, bytes)| self.input(bytes)).collect();
            let mut readable = Vec::with_capacity(portion.len());
            let mut batch = Vec::new();
            for ((path, _), input) in portion.iter().zip(inputs) {
                match input {
                    Ok(numbers) => {
                        readable.push(path);
                        batch.extend(numbers);
                    }
                    Err(reason) => {
                        predictions.unreadable.push(Unreadable { path: path.clone(), reason })
                    }
                }
            }
            if readable.is_empty() {
                continue;
            }
            let probabilities = self.probabilities(&batch, readable.len())?;
            let rows = readable.into_iter().zip(probabilities.chunks_exact(self.classes().len()));
            for (path, probabilities) in rows {
                predictions.rows.push(self.row(path, probabilities, top)?);
            }
        }
        Ok(predictions)
    }

    fn input(&self, bytes: &[u8]) -> Result<Vec<f32>, String> {
        let decoded =
            decode::preprocess(bytes, self.preprocessing()).map_err(|error| error.to_string())?;
        Ok(network_input(&decoded.pixels, self.preprocessing()))
    }

    fn row(&self, path: &str, probabilities: &[f32], top: usize) -> Result<Row, ModelError> {
        if probabilities.iter().any(|p| !p.is_finite()) {
            return Err(ModelError::new(format!(
                "the model's answer for {path} is no number: its weights are damaged"
            )));
        }
        let top: Vec<(String, f32)> = top_k(probabilities, top.max(1))
            .into_iter()
            .filter_map(|(class, p)| Some((self.classes().get(class)?.clone(), p)))
            .collect();
        let (class, probability) = top.first().cloned().unwrap_or_default();
        Ok(Row { path: path.to_owned(), class, probability, top })
    }
}
