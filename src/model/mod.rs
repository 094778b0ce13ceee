//! A trained model as one file: weights under torchvision's names, and beside them everything needed to ask it about a
//! image (classes, preprocessing, backbone, head). Commands and stages share it. Knows no pipeline, no stage and no store.

mod backbones;
mod card;
mod predict;

pub use backbones::{BackboneRow, backbones};
pub use card::{Card, Classifier, Dense, Original, imagenet_classes};
pub use predict::{Predictions, Row, Unreadable};

use crate::data::Preprocessing;
use crate::metrics::softmax;
use crate::nn::{self, Cpu, Network, Weights, read_safetensors, write_safetensors};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// The metadata entry that holds the [`Card`]: the only one, since the order of several in a file isn't fixed.
const METADATA: &str = "pipe";

/// A trained classifier on the CPU, ready to be asked.
pub struct Model {
    card: Card,
    network: Network<Cpu>,
}

/// Why a model can't be opened, written or asked. Displays as one sentence.
#[derive(Debug)]
pub struct ModelError(String);

impl ModelError {
    fn new(sentence: impl Into<String>) -> ModelError {
        ModelError(sentence.into())
    }

    fn of(path: &Path, reason: impl fmt::Display) -> ModelError {
        ModelError(format!("{}: {reason}", path.display()))
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ModelError {}

/// Writes a model file. Equal weights and cards make equal bytes.
///
/// # Errors
/// When it can't be written.
pub fn save(path: &Path, card: &Card, weights: Weights) -> Result<(), ModelError> {
    let metadata = BTreeMap::from([(METADATA.to_owned(), card.to_json()?)]);
    write_safetensors(path, &Weights { metadata, ..weights })
        .map_err(|error| ModelError::new(error.to_string()))
}

/// Reads a model file's weights and card without building the network.
///
/// # Errors
/// When the file is damaged, isn't a model of ours, or is of a newer format.
pub fn read(path: &Path) -> Result<(Card, Weights), ModelError> {
    let weights = read_safetensors(path).map_err(|error| ModelError::new(error.to_string()))?;
    let Some(text) = weights.metadata.get(METADATA) else {
        return Err(ModelError::of(
            path,
            "these are weights, but not a model that `pipe` trained: nothing says what its classes are",
        ));
    };
    let card = Card::from_json(text).map_err(|error| ModelError::of(path, error))?;
    Ok((card, weights))
}

/// What weights say of themselves, where `pipe` trained them.
///
/// # Errors
/// When that can't be read, or is of a newer format.
pub fn card(weights: &Weights) -> Result<Option<Card>, ModelError> {
    weights.metadata.get(METADATA).map(|text| Card::from_json(text)).transpose()
}

impl Model {
    /// Opens a `model.safetensors` that `train` wrote.
    ///
    /// # Errors
    /// Those of [`read`], and when the weights aren't those of the network that the card names.
    pub fn open(path: &Path) -> Result<Model, ModelError> {
        let (card, weights) = read(path)?;
        Model::build(card, &weights).map_err(|error| ModelError::of(path, error))
    }

    /// A model of what [`read`] gave.
    ///
    /// # Errors
    /// When the weights aren't those of the network that the card names.
    pub fn build(card: Card, weights: &Weights) -> Result<Model, ModelError> {
        let wrong = |error: nn::NnError| ModelError::new(error.to_string());
        let Some(backbone) = nn::backbone(&card.backbone) else {
            return Err(ModelError::new(format!(
                "no backbone has the name `{}`: a newer `pipe` made it",
                card.backbone
            )));
        };
        let graph = backbone.graph(&card.head(), card.input()).map_err(wrong)?;
        let found: u64 = weights.tensors.values().map(|tensor| tensor.data.len() as u64).sum();
        if found < graph.parameter_count() {
            return Err(ModelError::new(format!(
                "it holds {found} weights, and {} has {}",
                card.backbone,
                graph.parameter_count()
            )));
        }
        let built = Network::from_weights(graph, &card.head(), weights, 0, Cpu::default());
        let (mut network, loaded) = built.map_err(wrong)?;
        if let Some(name) = loaded.kept.first() {
            return Err(ModelError::new(format!("it lacks the weights `{name}`")));
        }
        network.prepare();
        Ok(Model { card, network })
    }

    /// What the file says of itself.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The classes' names, in the order of the probabilities.
    pub fn classes(&self) -> &[String] {
        &self.card.classes
    }

    /// From a decoded image to the network's input.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.card.preprocessing
    }

    /// The probabilities (count, classes) of `count` images, given normalized as (count, side, side, 3). A image's are
    /// the same in any company.
    ///
    /// # Errors
    /// When the numbers aren't those of `count` images, or memory is short.
    pub fn probabilities(&self, images: &[f32], count: usize) -> Result<Vec<f32>, ModelError> {
        self.softmax(self.network.logits(images, count))
    }

    /// As [`probabilities`](Self::probabilities), from the backbone's features (count, features): the same numbers.
    ///
    /// # Errors
    /// As those of [`probabilities`](Self::probabilities).
    pub fn probabilities_from_features(
        &self,
        features: &[f32],
        count: usize,
    ) -> Result<Vec<f32>, ModelError> {
        self.softmax(self.network.logits_from_features(features, count))
    }

    fn softmax(&self, logits: Result<Vec<f32>, nn::NnError>) -> Result<Vec<f32>, ModelError> {
        let logits = logits.map_err(|error| ModelError::new(error.to_string()))?;
        Ok(logits.chunks_exact(self.classes().len()).flat_map(softmax).collect())
    }

    /// The network, as it is.
    pub fn network(&self) -> &Network<Cpu> {
        &self.network
    }
}

#[cfg(test)]
mod tests;
