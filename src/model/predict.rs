//! Classifies image files given as bytes.

use super::{Model, ModelError};
use crate::data::decode::{self, Notes};
use crate::data::normalization::network_input;
use crate::metrics::top_k;
use rayon::prelude::*;
use serde::Serialize;

/// Number of images decoded and classified together.
const BATCH: usize = 32;

/// The prediction for one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// Name of the image, as given.
    pub path: String,
    /// The most probable class.
    pub class: String,
    /// Its probability, in 0..1.
    pub probability: f32,
    /// The most probable classes with their probabilities, in descending order; at least one.
    pub top: Vec<(String, f32)>,
}

/// Something to know of an image that was classified all the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Warning {
    /// Name of the image, as given.
    pub path: String,
    /// Such as "damaged: 4 % of it is missing".
    pub reason: String,
}

/// An image that couldn't be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Unreadable {
    /// Name of the image, as given.
    pub path: String,
    pub reason: String,
}

/// The predictions for some images, in the given order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Predictions {
    /// One row per readable image.
    pub rows: Vec<Row>,
    /// Warnings about images in `rows`: damage, transparency.
    pub warnings: Vec<Warning>,
    /// The unreadable images.
    pub unreadable: Vec<Unreadable>,
}

impl Model {
    /// Classifies images given as (name, bytes of the file). A prediction doesn't depend on the
    /// other images, so callers may pass a long list in chunks.
    ///
    /// # Errors
    /// When the network can't run. Unreadable images are listed in the result.
    pub(crate) fn predict(
        &self,
        images: &[(String, Vec<u8>)],
        top: usize,
    ) -> Result<Predictions, ModelError> {
        let mut predictions = Predictions::default();
        for chunk in images.chunks(BATCH) {
            let inputs: Vec<Result<(Vec<f32>, Notes), String>> =
                chunk.par_iter().map(|(_, bytes)| self.input(bytes)).collect();
            let mut readable = Vec::with_capacity(chunk.len());
            let mut batch = Vec::new();
            for ((path, _), input) in chunk.iter().zip(inputs) {
                match input {
                    Ok((numbers, notes)) => {
                        let warning = notes.warning();
                        predictions
                            .warnings
                            .extend(warning.map(|reason| Warning { path: path.clone(), reason }));
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

    fn input(&self, bytes: &[u8]) -> Result<(Vec<f32>, Notes), String> {
        let decoded =
            decode::preprocess(bytes, self.preprocessing()).map_err(|error| error.to_string())?;
        Ok((network_input(&decoded.pixels, self.preprocessing()), decoded.notes))
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
