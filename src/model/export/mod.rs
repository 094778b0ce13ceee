//! Exports of a trained model for other programs: safetensors for PyTorch with timm's `config.json`,
//! ONNX, a model card, and the check of the written files against the model. Doesn't know runs or
//! the store: the command collects the facts.

mod card;
mod check;
mod onnx;
mod timm;
mod usage;

pub(crate) use card::{ClassCount, DataSource, EXPORT_FORMAT, Exported, ExportedFile, Scores};
pub(crate) use check::{Check, Reference};

use super::{Model, ModelError, save};
use serde::Serialize;
use std::path::Path;

/// File name of the weights.
pub(crate) const SAFETENSORS: &str = "model.safetensors";
/// File name of timm's description of the weights.
pub(crate) const CONFIG: &str = "config.json";
/// File name of the ONNX model.
pub(crate) const ONNX: &str = "model.onnx";

/// The pixels that an ONNX model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnnxInput {
    /// Normalized ones.
    Normalized,
    /// Those of 0 to 255; the model normalizes them.
    Pixels,
}

impl OnnxInput {
    /// The name in options and files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            OnnxInput::Normalized => "normalized",
            OnnxInput::Pixels => "pixels",
        }
    }
}

impl Model {
    /// Writes [`SAFETENSORS`] into a folder: the weights under torchvision's names, and the model's
    /// description as metadata, so that `pipe` can still read it.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn export_safetensors(&self, folder: &Path) -> Result<(), ModelError> {
        save(&folder.join(SAFETENSORS), &self.info, self.network.save())
    }

    /// Writes timm's [`CONFIG`] into a folder. Returns why not, if timm can't build this network.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn export_config(&self, folder: &Path) -> Result<Option<String>, ModelError> {
        let text = match timm::config(&self.info, self.network.graph()) {
            Ok(text) => text,
            Err(reason) => return Ok(Some(reason)),
        };
        let path = folder.join(CONFIG);
        std::fs::write(&path, text).map_err(|error| {
            ModelError::new(format!("failed to write {}: {error}", path.display()))
        })?;
        Ok(None)
    }

    /// Writes [`ONNX`] into a folder.
    ///
    /// # Errors
    /// If it would be larger than 2 GB, or can't be written.
    pub(crate) fn export_onnx(&self, input: OnnxInput, folder: &Path) -> Result<(), ModelError> {
        onnx::write(self, input, &folder.join(ONNX))
    }
}
