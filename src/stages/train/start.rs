//! Loads the weights that a training starts from: fetched ones, whose classifier is replaced by the
//! new head, or another training's model. Reports unused tensors and refuses weights of a different
//! network.

use crate::common::number::counted;
use crate::data::source::{self, Source};
use crate::engine::{Feed, InputArtifact, OrFail, StageError};
use crate::events::EventSink;
use crate::model::{self, Classifier, ModelInfo};
use crate::nn::weights::{Weights, registry};
use crate::nn::{self, Loaded, Network, NnError};
use crate::stages::fetch::Fetch;
use crate::stages::needs::WeightsFile;
use crate::stages::pretrained::{Pretrained, mismatch};
use crate::training::HEAD;

/// The role of the input.
const ROLE: &str = "weights";

/// Maximum number of names in an error about weights that don't fit.
const SHOWN: usize = 2;

/// The backbone of published weights that a fetch stage fetches, known before they are fetched.
pub(super) fn published_backbone(feed: Feed) -> Option<&'static str> {
    let fetched = feed.resolved(&Fetch)?;
    match source::parse(&fetched.source.0) {
        Ok(Source::Torchvision(name)) => registry::preset(&name).ok().map(|preset| preset.backbone),
        _ => None,
    }
}

/// Loads the weights in an input; a head only if it has the same classes.
pub(super) fn start_from(
    network: &mut Network,
    target: &ModelInfo,
    input: &InputArtifact,
    events: &EventSink,
) -> Result<(), StageError> {
    let file = WeightsFile::of(ROLE, input)?;
    let mut weights = file.read()?;
    match model::info(&weights).or_fail(&file.named)? {
        Some(origin) => load_model(network, target, &origin, &mut weights, events),
        None => {
            let known = file.described(events)?;
            load_published(network, target, known.as_ref(), &mut weights, events)
        }
    }
}

/// Loads another training's weights; its head only if it has the same classes.
fn load_model(
    network: &mut Network,
    target: &ModelInfo,
    origin: &ModelInfo,
    weights: &mut Weights,
    events: &EventSink,
) -> Result<(), StageError> {
    if origin.classes != target.classes {
        if matches!(target.head, Classifier::Original(_)) {
            let message = format!(
                "`head = \"original\"` keeps a published classifier, and these are the weights of a trained {} with classes of its own",
                origin.backbone
            );
            let help = "leave `head` out, or feed published weights, such as `source = \"torchvision:resnet50\"`";
            return Err(StageError::failed(message).with_help(help));
        }
        let heads = network.parameters().iter().filter(|parameter| parameter.info.group == HEAD);
        for parameter in heads {
            weights.tensors.remove(&parameter.info.name);
        }
    }
    if origin.backbone != target.backbone {
        return Err(of_another(&origin.backbone, target));
    }
    let loaded = load(network, target, weights)?;
    let head = if loaded.kept.is_empty() { "head included" } else { "with a new head" };
    events.info(format!("starting from the weights of a trained {}, {head}", origin.backbone));
    let name = format!("a trained {}'s weights", origin.backbone);
    if let Some(sentence) = mismatch(&name, &origin.preprocessing, &target.preprocessing) {
        events.warn(sentence);
    }
    Ok(())
}

/// Loads weights without a list of classes, such as torchvision's. Their classifier is kept only
/// for `head = "original"`: an equal number of classes doesn't make them the same.
fn load_published(
    network: &mut Network,
    target: &ModelInfo,
    known: Option<&Pretrained>,
    weights: &mut Weights,
    events: &EventSink,
) -> Result<(), StageError> {
    check_network(target, weights)?;
    let named = known.map_or("fetched weights", |known| &known.weights);
    let classifier = nn::backbone(&target.backbone).map(nn::classifier).unwrap_or_default();
    let head = match target.head {
        Classifier::Original(_) => "classifier included",
        Classifier::Dense(_) if weights.tensors.keys().any(|name| classifier.contains(name)) => {
            weights.tensors.retain(|name, _| !classifier.contains(name));
            "with a new head in place of their classifier"
        }
        Classifier::Dense(_) => "with a new head",
    };
    let loaded = load(network, target, weights)?;
    events.info(format!("starting from {named}, {head}"));
    if let [first, ..] = loaded.unused.as_slice() {
        let count = counted(loaded.unused.len() as u64, "tensor");
        events.info(format!("{count} of {named} not used by {}, such as {first}", target.backbone));
    }
    if let Some(known) = known
        && let Some(sentence) = mismatch(named, &known.preprocessing, &target.preprocessing)
    {
        events.warn(sentence);
    }
    Ok(())
}

/// Whether weights are of this backbone and not of a larger one that contains its tensors: a
/// ResNet-18 would load from a ResNet-34.
fn check_network(target: &ModelInfo, weights: &Weights) -> Result<(), StageError> {
    match nn::recognize(weights).filter(|other| other.name != target.backbone) {
        Some(other) => Err(of_another(other.name, target)),
        None => Ok(()),
    }
}

fn of_another(name: &str, target: &ModelInfo) -> StageError {
    let message = format!("these weights are of {name}, the backbone is {}", target.backbone);
    StageError::failed(message)
        .with_help(format!("set `backbone = \"{name}\"`, or feed weights of {}", target.backbone))
}

/// Loads weights. The error names tensors of both sides if they don't fit.
fn load(
    network: &mut Network,
    target: &ModelInfo,
    weights: &Weights,
) -> Result<Loaded, StageError> {
    network.load(weights).map_err(|error| match error {
        NnError::Mismatch(_) => {
            let message = format!("the weights don't fit {}: {error}", target.backbone);
            let names: Vec<&str> = weights.tensors.keys().take(SHOWN).map(String::as_str).collect();
            let count = counted(weights.tensors.len() as u64, "tensor");
            let help = format!(
                "they contain {count}, such as {}; names must be torchvision's, as in `torchvision.models.{}`",
                names.join(" and "),
                target.backbone
            );
            StageError::failed(message).with_help(help)
        }
        error => error.into(),
    })
}
