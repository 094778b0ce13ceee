//! ONNX files: a network with folded norms, for any number of images at a time. `graph` makes nodes
//! of its layers, `write` encodes them, and `read` and `run` are for the check of the file: they
//! decode it and run it as ONNX defines its operators.

mod graph;
mod protobuf;
mod read;
mod run;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use super::OnnxInput;
use super::usage::in_words;
use crate::model::{Model, ModelError};
use run::Runner;
use std::path::Path;

/// Writes a model as an ONNX file.
///
/// # Errors
/// If it would be larger than 2 GB, or can't be written.
pub(super) fn write(model: &Model, input: OnnxInput, path: &Path) -> Result<(), ModelError> {
    let (info, network) = (&model.info, &model.network);
    let preprocessing = &info.preprocessing;
    let normalization = match input {
        OnnxInput::Normalized => None,
        OnnxInput::Pixels => Some((preprocessing.mean, preprocessing.std)),
    };
    let mut file = graph::model(network.graph().input(), network.layers(), normalization);
    let text = |value: Result<String, serde_json::Error>| {
        value.map_err(|error| ModelError::new(format!("the model can't be described: {error}")))
    };
    file.metadata = vec![
        ("backbone".to_owned(), info.backbone.clone()),
        ("classes".to_owned(), text(serde_json::to_string(&info.classes))?),
        ("input".to_owned(), input.name().to_owned()),
        ("preprocessing".to_owned(), text(serde_json::to_string(preprocessing))?),
    ];
    file.description = format!(
        "An image classifier: {} with {} classes, trained by pipe {}. The input `{}` is {}. The outputs are `{}`, and \
         `{}`, their softmax; `classes` in the metadata has the names in their order.",
        info.backbone,
        info.classes.len(),
        env!("CARGO_PKG_VERSION"),
        schema::IMAGES,
        in_words(preprocessing, input),
        schema::LOGITS,
        schema::PROBABILITIES,
    );
    write::write(&file, path)
}

/// An ONNX file, opened to be run.
pub(super) struct OnnxFile(Runner);

impl OnnxFile {
    /// Opens a file that [`write()`] made.
    ///
    /// # Errors
    /// If it can't be read or decoded.
    pub(super) fn open(path: &Path) -> Result<OnnxFile, ModelError> {
        let runner = || {
            let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
            Runner::new(read::read(&bytes)?)
        };
        runner()
            .map(OnnxFile)
            .map_err(|reason| ModelError::new(format!("{}: {reason}", path.display())))
    }

    /// The logits (count, classes) of images (count, channels, height, width).
    ///
    /// # Errors
    /// If a value doesn't fit its operator.
    pub(super) fn logits(&self, images: &[f32]) -> Result<Vec<f32>, ModelError> {
        self.0.logits(images).map_err(ModelError::new)
    }
}
