//! Where a training starts from: fetched weights, whose classifier gives way to the new head, or another training's model.
//! Says what was taken and what wasn't, and recognises weights of another network. Knows nothing of how training goes.

use super::MODEL;
use crate::data::source::{self, Source};
use crate::engine::{Feed, StageError};
use crate::events::Teller;
use crate::learn::HEAD;
use crate::model::{self, Card};
use crate::nn::weights::{self, Weights, registry};
use crate::nn::{self, Backend, Loaded, Network, NnError};
use crate::stages::pretrained::{Pretrained, mismatch};
use crate::stages::words::many;
use serde_json::Value;
use std::path::Path;

/// The backbone of the published weights that a fetch stage brings, where its source names such: known before they are
/// fetched.
pub(super) fn published_backbone(feed: Feed) -> Option<&'static str> {
    let text = feed.values.get("source").and_then(Value::as_str).filter(|_| feed.kind == "fetch")?;
    match source::parse(text) {
        Ok(Source::Torchvision(name)) => registry::preset(&name).ok().map(|preset| preset.backbone),
        _ => None,
    }
}

/// Takes the weights in `artifact`. A head is taken only where it tells the same classes apart.
pub(super) fn start_from<D: Backend>(
    network: &mut Network<D>,
    card: &Card,
    artifact: &Path,
    teller: &Teller,
) -> Result<(), StageError> {
    let path = artifact.join(MODEL);
    if !path.is_file() {
        return Err(StageError::failed("the stage that feeds `weights` holds no weights").with_help(
            "feed it from a fetch stage whose source is weights, such as `torchvision:resnet50`, or from a train stage",
        ));
    }
    let mut weights = weights::read(&path)?;
    match model::card(&weights)? {
        Some(origin) => take_model(network, card, &origin, &mut weights, teller),
        None => take_published(network, card, Pretrained::read(artifact)?.as_ref(), &weights, teller),
    }
}

/// Takes another training's weights; its head only where it tells the same classes apart.
fn take_model<D: Backend>(
    network: &mut Network<D>,
    card: &Card,
    origin: &Card,
    weights: &mut Weights,
    teller: &Teller,
) -> Result<(), StageError> {
    if origin.classes != card.classes {
        let heads = network.parameters().iter().filter(|parameter| parameter.info.stage == HEAD);
        for parameter in heads {
            weights.tensors.remove(&parameter.info.name);
        }
    }
    let loaded = load(network, card, weights)?;
    let head = if loaded.kept.is_empty() { "head included" } else { "with a new head" };
    teller.info(format!("starting from the weights of a trained {}, {head}", origin.backbone));
    let name = format!("a trained {}'s weights", origin.backbone);
    if let Some(sentence) = mismatch(&name, &origin.preprocessing, &card.preprocessing) {
        teller.warn(sentence);
    }
    Ok(())
}

/// Takes weights that come without a description of their classes, such as torchvision's.
fn take_published<D: Backend>(
    network: &mut Network<D>,
    card: &Card,
    known: Option<&Pretrained>,
    weights: &Weights,
    teller: &Teller,
) -> Result<(), StageError> {
    let loaded = load(network, card, weights)?;
    let named = known.map_or("fetched weights", |known| &known.weights);
    let classifier = nn::backbone(&card.backbone).map(nn::classifier).unwrap_or_default();
    let (original, others): (Vec<&String>, Vec<&String>) =
        loaded.unused.iter().partition(|name| classifier.contains(*name));
    let head = match (loaded.kept.is_empty(), original.is_empty()) {
        (true, _) => "classifier included",
        (false, true) => "with a new head",
        (false, false) => "whose classifier gives way to a new head",
    };
    teller.info(format!("starting from {named}, {head}"));
    if let [first, ..] = others.as_slice() {
        let count = many(others.len() as u64, "tensor");
        teller.info(format!("{count} of {named} without a place in {}, such as {first}", card.backbone));
    }
    if let Some(known) = known
        && let Some(sentence) = mismatch(named, &known.preprocessing, &card.preprocessing)
    {
        teller.warn(sentence);
    }
    Ok(())
}

/// Loads weights. Where they don't fit and are another network's, that is what is said.
fn load<D: Backend>(network: &mut Network<D>, card: &Card, weights: &Weights) -> Result<Loaded, StageError> {
    network.load(weights).map_err(|error| match (&error, nn::recognise(weights)) {
        (NnError::Mismatch(_), Some(other)) if other.name != card.backbone => {
            let message = format!("these weights are of {}, the backbone is {}", other.name, card.backbone);
            let help = format!("set `backbone = \"{}\"`, or fetch weights of {}", other.name, card.backbone);
            StageError::failed(message).with_help(help)
        }
        (NnError::Mismatch(list), _) => {
            let message = format!("these weights aren't those of {}: {error}", card.backbone);
            let help = format!("{} tensors don't fit; weights under torchvision's names are taken", list.len());
            StageError::failed(message).with_help(help)
        }
        _ => error.into(),
    })
}
