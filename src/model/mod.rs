//! A trained model as one file: weights under torchvision's names, and the [`ModelInfo`] needed to
//! classify images with them (classes, preprocessing, backbone, head). Doesn't depend on pipelines,
//! stages or the store.

mod backbones;
mod classify;
mod explain;
mod export;
mod info;

pub(crate) use crate::data::images::MAX_FILE as MAX_IMAGE_FILE;
pub(crate) use backbones::{BackboneRow, backbones};
pub(crate) use classify::{Classified, Content, GivenImage, ImageScores};
pub(crate) use export::{
    CONFIG, Check, ClassCount, DataSource, EXPORT_FORMAT, Exported, ExportedFile, ONNX, OnnxInput,
    Reference, SAFETENSORS, Scores,
};
pub(crate) use info::{Classifier, Dense, ModelInfo, Original, imagenet_classes};

use crate::common::special_file::special;
use crate::data::{DataError, Preprocessing};
use crate::metrics::softmax;
use crate::nn::cuda::{CudaNetwork, Gpu, Precision};
use crate::nn::{
    self, Input, Learner, Network, NnError, Products, Weights, read_safetensors, write_safetensors,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The metadata entry with the [`ModelInfo`]. The only one, since the order of several in a file
/// isn't deterministic.
const METADATA: &str = "pipe";

/// A trained classifier on the CPU, ready for inference.
pub(crate) struct Model {
    info: ModelInfo,
    network: Network,
    /// Its copy on a GPU, if classifying uses one.
    on_gpu: Option<CudaNetwork>,
}

/// An error of opening, writing or running a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The description or the weights are invalid.
    #[error("{0}")]
    Invalid(String),
    /// The network or its weights file failed.
    #[error(transparent)]
    Network(#[from] nn::NnError),
    /// Images can't be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The user interrupted it.
    #[error("interrupted")]
    Cancelled,
    /// A model file is invalid.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: Box<ModelError> },
}

impl ModelError {
    fn new(message: impl Into<String>) -> ModelError {
        ModelError::Invalid(message.into())
    }

    /// The remedy, if it is known.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            ModelError::Data(error) => error.help().map(str::to_owned),
            ModelError::Network(error) => error.help(),
            ModelError::Invalid(_) | ModelError::Cancelled | ModelError::File { .. } => None,
        }
    }

    fn of(path: &Path, source: ModelError) -> ModelError {
        ModelError::File { path: path.to_owned(), source: Box::new(source) }
    }
}

/// Writes a model file. Equal weights and equal infos give equal bytes.
///
/// # Errors
/// When it can't be written.
pub(crate) fn save(path: &Path, info: &ModelInfo, weights: Weights) -> Result<(), ModelError> {
    let metadata = BTreeMap::from([(METADATA.to_owned(), info.to_json()?)]);
    Ok(write_safetensors(path, &Weights { metadata, ..weights })?)
}

/// Reads a model file's info and weights without building the network.
///
/// # Errors
/// When the file is damaged, wasn't written by `pipe`, or has a newer format.
pub(crate) fn read(path: &Path) -> Result<(ModelInfo, Weights), ModelError> {
    let kind = path.metadata().ok().and_then(|metadata| special(metadata.file_type()));
    if let Some(kind) = kind {
        return Err(ModelError::of(path, ModelError::new(format!("it is {kind}, not a file"))));
    }
    let weights = read_safetensors(path)?;
    let Some(text) = weights.metadata.get(METADATA) else {
        let message =
            "these are weights, not a model that `pipe` trained: the file describes no classes";
        return Err(ModelError::of(path, ModelError::new(message)));
    };
    let info = ModelInfo::from_json(text).map_err(|error| ModelError::of(path, error))?;
    Ok((info, weights))
}

/// The info in the metadata of weights, or `None` if `pipe` didn't train them.
///
/// # Errors
/// When the info can't be parsed, or has a newer format.
pub(crate) fn info(weights: &Weights) -> Result<Option<ModelInfo>, ModelError> {
    weights.metadata.get(METADATA).map(|text| ModelInfo::from_json(text)).transpose()
}

impl Model {
    /// Opens a `model.safetensors` that `train` wrote.
    ///
    /// # Errors
    /// As for [`read`] and [`build`](Self::build).
    pub(crate) fn open(path: &Path) -> Result<Model, ModelError> {
        let (info, weights) = read(path)?;
        Model::build(info, &weights).map_err(|error| ModelError::of(path, error))
    }

    /// Builds a model from the result of [`read`].
    ///
    /// # Errors
    /// When the backbone is unknown, or the weights don't match the network that `info` describes.
    pub(crate) fn build(info: ModelInfo, weights: &Weights) -> Result<Model, ModelError> {
        let Some(backbone) = nn::backbone(&info.backbone) else {
            return Err(ModelError::new(format!(
                "no backbone has the name `{}`: a newer `pipe` made it",
                info.backbone
            )));
        };
        let graph = backbone.graph(&info.head(), info.input())?;
        let found: u64 = weights.tensors.values().map(|tensor| tensor.data.len() as u64).sum();
        if found < graph.parameter_count() {
            return Err(ModelError::new(format!(
                "it contains {found} weights, and {} has {}",
                info.backbone,
                graph.parameter_count()
            )));
        }
        let built = Network::from_weights(graph, &info.head(), weights, 0);
        let (mut network, loaded) = built?;
        if let Some(name) = loaded.kept.first() {
            return Err(ModelError::new(format!("it lacks the weights `{name}`")));
        }
        network.set_products(info.products())?;
        network.prepare();
        Ok(Model { info, network, on_gpu: None })
    }

    pub(crate) fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The classes' names, in the order of the probabilities.
    pub(crate) fn classes(&self) -> &[String] {
        &self.info.classes
    }

    /// The preprocessing from a decoded image to the network's input.
    pub(crate) fn preprocessing(&self) -> &Preprocessing {
        &self.info.preprocessing
    }

    /// The probabilities (count, classes) of `count` normalized images (count, side, side, 3). An
    /// image's probabilities don't depend on the other images.
    ///
    /// # Errors
    /// When the length doesn't match, or memory can't be allocated.
    pub(crate) fn probabilities(
        &self,
        images: &[f32],
        count: usize,
    ) -> Result<Vec<f32>, ModelError> {
        let logits = match &self.on_gpu {
            Some(network) => network.evaluate(Input::Images(images), count)?,
            None => self.network.logits(images, count)?,
        };
        Ok(logits.chunks_exact(self.classes().len()).flat_map(softmax).collect())
    }

    /// A copy of the network on a GPU, in f32 where the model isn't in bf16: its results are the
    /// processor's but for rounding, whatever it was trained in.
    ///
    /// # Errors
    /// When the GPU can't compute in bf16, or its memory is too small.
    pub(crate) fn copy_on(&self, gpu: &Gpu) -> Result<CudaNetwork, NnError> {
        let precision = match self.network.products() {
            Products::Bf16 => Precision::Bf16,
            Products::Own => Precision::F32,
        };
        CudaNetwork::new(gpu, &self.network, precision)
    }

    /// The same model, which classifies on a GPU.
    ///
    /// # Errors
    /// As for [`copy_on`](Self::copy_on).
    pub(crate) fn on(self, gpu: &Gpu) -> Result<Model, NnError> {
        let on_gpu = Some(self.copy_on(gpu)?);
        Ok(Model { on_gpu, ..self })
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }
}

#[cfg(test)]
mod tests;
