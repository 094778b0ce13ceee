//! The description of a model in its file: JSON in one metadata entry.

use super::ModelError;
use crate::data::Preprocessing;
use crate::nn::{Head, Products};
use serde::{Deserialize, Serialize};

/// Version of the description. Newer ones are rejected.
///
/// - 2: a model may be in bf16. Written for those alone.
pub(super) const FORMAT: u32 = 2;

/// Maximum side of a network's input, width of a layer and number of classes: far above any real
/// model, and low enough that a damaged number is rejected here instead of exhausting memory.
const MAX_SIZE: usize = 1 << 16;

/// Everything but the weights that classifying an image requires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelInfo {
    /// Name of the backbone.
    pub backbone: String,
    /// The head.
    pub head: Classifier,
    /// Class names, in the order of the logits.
    pub classes: Vec<String>,
    /// The preprocessing from a decoded image to the network's input.
    pub preprocessing: Preprocessing,
    /// Whether convolutions and linear layers multiply in bf16, as they did in training.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bf16: bool,
}

/// A head as configured: the word "original", or a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Classifier {
    /// The published classifier.
    Original(Original),
    /// Dense layers.
    Dense(Dense),
}

/// The word for the published classifier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Original {
    #[serde(rename = "original")]
    Original,
}

/// A head of dense layers, as configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dense {
    /// Sizes of the hidden layers.
    pub hidden: Vec<usize>,
    /// Dropout probability in training, in [0, 1).
    pub dropout: f32,
}

/// The format version, parsed before the rest.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    format: u32,
    #[serde(flatten)]
    rest: T,
}

#[derive(Deserialize)]
struct Nothing {}

impl ModelInfo {
    /// The head for a network.
    pub(crate) fn head(&self) -> Head {
        match &self.head {
            Classifier::Original(_) => Head::Original,
            Classifier::Dense(Dense { hidden, dropout }) => Head::Dense {
                hidden: hidden.clone(),
                dropout: *dropout,
                classes: self.classes.len(),
            },
        }
    }

    /// Height and width of the network's input, in pixels.
    pub(crate) fn input(&self) -> (usize, usize) {
        let side = self.preprocessing.crop as usize;
        (side, side)
    }

    /// What the network's convolutions and linear layers multiply.
    pub(crate) fn products(&self) -> Products {
        if self.bf16 { Products::Bf16 } else { Products::Own }
    }

    pub(super) fn to_json(&self) -> Result<String, ModelError> {
        let format = if self.bf16 { FORMAT } else { 1 };
        serde_json::to_string(&Versioned { format, rest: self })
            .map_err(|error| ModelError::new(format!("the model can't be described: {error}")))
    }

    pub(super) fn from_json(text: &str) -> Result<ModelInfo, ModelError> {
        let damaged = |error| ModelError::new(format!("its description can't be read: {error}"));
        let Versioned { format, .. } =
            serde_json::from_str::<Versioned<Nothing>>(text).map_err(damaged)?;
        if format > FORMAT {
            return Err(ModelError::new(format!(
                "it is of format {format}, and this `pipe` reads up to format {FORMAT}: use the newer `pipe` that made it"
            )));
        }
        let info = serde_json::from_str::<Versioned<ModelInfo>>(text).map_err(damaged)?.rest;
        info.check()?;
        Ok(info)
    }

    /// Rejects values that training never writes.
    fn check(&self) -> Result<(), ModelError> {
        let Preprocessing { resize, crop, mean, std, .. } = &self.preprocessing;
        let sizes = (1..=*resize).contains(crop) && *resize as usize <= MAX_SIZE;
        let numbers = mean.iter().all(|mean| mean.is_finite())
            && std.iter().all(|std| std.is_finite() && *std > 0.0);
        let head = match &self.head {
            Classifier::Original(_) => self.classes.len() == Head::Original.classes(),
            Classifier::Dense(Dense { hidden, dropout }) => {
                hidden.iter().all(|width| (1..=MAX_SIZE).contains(width))
                    && (0.0..1.0).contains(dropout)
            }
        };
        if sizes && numbers && head && (1..=MAX_SIZE).contains(&self.classes.len()) {
            Ok(())
        } else {
            Err(ModelError::new("its description contains impossible numbers"))
        }
    }
}

/// The names of ImageNet's 1,000 classes, in the order of published classifiers' logits. They are
/// torchvision 0.29's (`torchvision.models._meta._IMAGENET_CATEGORIES`).
pub(crate) fn imagenet_classes() -> Vec<String> {
    include_str!("imagenet.txt").lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imagenet_has_a_thousand_classes_of_different_names() {
        let classes = imagenet_classes();
        let different: std::collections::BTreeSet<&String> = classes.iter().collect();
        assert_eq!((classes.len(), different.len()), (1000, 1000));
        assert_eq!((classes[0].as_str(), classes[999].as_str()), ("tench", "toilet tissue"));
    }
}
