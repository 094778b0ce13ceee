//! What a model file says of itself, beside its weights: one JSON text in the metadata. Knows nothing of how weights
//! are stored.

use super::ModelError;
use crate::data::Preprocessing;
use crate::nn::Head;
use serde::{Deserialize, Serialize};

/// The version of the description. A newer one is refused.
pub const FORMAT: u32 = 1;

/// The longest side of a network's input, and the widest layer, that a file may ask for: far above anything real, and low
/// enough that a damaged number fails here and not by asking for all memory.
const MOST: usize = 1 << 16;

/// Everything but weights that is needed to ask a model about a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The backbone's name in the list of backbones.
    pub backbone: String,
    /// What follows it.
    pub head: Dense,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// From a decoded picture to the network's input.
    pub preprocessing: Preprocessing,
}

/// A head of dense layers, as the user asked for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dense {
    /// Sizes of the hidden layers.
    pub hidden: Vec<usize>,
    /// Probability of dropout while training.
    pub dropout: f32,
}

/// The text's first key, read before the rest is looked at.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    format: u32,
    #[serde(flatten)]
    rest: T,
}

#[derive(Deserialize)]
struct Nothing {}

impl Card {
    /// The head as a network takes it.
    pub fn head(&self) -> Head {
        Head::Dense { hidden: self.head.hidden.clone(), dropout: self.head.dropout, classes: self.classes.len() }
    }

    /// Height and width of the network's input, in pixels.
    pub fn input(&self) -> (usize, usize) {
        let side = self.preprocessing.crop as usize;
        (side, side)
    }

    pub(super) fn to_json(&self) -> Result<String, ModelError> {
        serde_json::to_string(&Versioned { format: FORMAT, rest: self })
            .map_err(|error| ModelError::new(format!("the model can't be described: {error}")))
    }

    pub(super) fn from_json(text: &str) -> Result<Card, ModelError> {
        let damaged = |error| ModelError::new(format!("its description can't be read: {error}"));
        let Versioned { format, .. } = serde_json::from_str::<Versioned<Nothing>>(text).map_err(damaged)?;
        if format > FORMAT {
            return Err(ModelError::new(format!(
                "it is of format {format}, and this `pipe` reads up to format {FORMAT}: use the newer `pipe` that made it"
            )));
        }
        let card = serde_json::from_str::<Versioned<Card>>(text).map_err(damaged)?.rest;
        card.check()?;
        Ok(card)
    }

    /// Refuses what no training could have written.
    fn check(&self) -> Result<(), ModelError> {
        let Preprocessing { resize, crop, mean, std, .. } = &self.preprocessing;
        let sizes = (1..=*resize).contains(crop) && *resize as usize <= MOST;
        let numbers = mean.iter().all(|mean| mean.is_finite()) && std.iter().all(|std| std.is_finite() && *std > 0.0);
        let widths = self.head.hidden.iter().all(|width| (1..=MOST).contains(width));
        let dropout = (0.0..1.0).contains(&self.head.dropout);
        if sizes && numbers && widths && dropout && (1..=MOST).contains(&self.classes.len()) {
            Ok(())
        } else {
            Err(ModelError::new("its description holds impossible numbers"))
        }
    }
}
