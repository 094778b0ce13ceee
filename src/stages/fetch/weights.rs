//! Fetches weights: a file, a folder of timm's, torchvision's published weights or a file on the
//! web, converted to one format, with the preprocessing that they were trained with if it is known.

use super::super::pretrained::{InWords, Pretrained};
use super::{archive, remote, timm};
use crate::common::nearest;
use crate::common::number::counted;
use crate::data::source::Source;
use crate::download::{Address, Version};
use crate::engine::{Context, OrFail, StageError};
use crate::events::{CancellationToken, EventSink};
use crate::model;
use crate::nn::NnError;
use crate::nn::weights::{self, Weights, preset, presets};
use crate::store::{Memo, digest_file};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Name of the weights in the artifact, as in a train stage's; also timm's on the hub.
pub(in crate::stages) const MODEL: &str = "model.safetensors";
/// Name of timm's configuration beside its weights.
pub(in crate::stages) const CONFIGURATION: &str = "config.json";
/// Extensions of files with weights.
const ENDINGS: [&str; 4] = ["pth", "pt", "bin", "safetensors"];

/// An error about a source.
pub(super) struct Wrong {
    pub message: String,
    pub help: String,
}

/// Checks a source as far as possible without file system and network.
pub(super) fn check(source: &Source) -> Result<(), Wrong> {
    match source {
        Source::Torchvision(name) => preset(name).map(drop).map_err(|_| {
            let names = || presets().iter().flat_map(|preset| [preset.name, preset.backbone]);
            let help = match nearest(name, names()) {
                Some(near) => format!("did you mean `torchvision:{near}`?"),
                None => {
                    let names: Vec<&str> = presets().iter().map(|preset| preset.name).collect();
                    format!("there are {}", names.join(", "))
                }
            };
            Wrong {
                message: format!(
                    "torchvision has no weights named `{name}`, or they aren't supported"
                ),
                help,
            }
        }),
        Source::Web(url) => {
            let help = "download it yourself, then write `source = \"path:FILE\"`, or `path:FOLDER` for images";
            Address::parse(url)
                .map(drop)
                .map_err(|message| Wrong { message, help: help.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Whether a file name is that of weights.
pub(super) fn is_named_like_weights(path: &Path) -> bool {
    // `model_best.pth.tar`, as torch's ImageNet example calls its checkpoints, is no archive.
    let is_tar = path.extension().is_some_and(|extension| extension == "tar");
    let path = if is_tar { path.file_stem().map(Path::new) } else { Some(path) };
    path.and_then(Path::extension)
        .is_some_and(|extension| ENDINGS.iter().any(|ending| extension == *ending))
}

/// Whether the zip archive at `path` is one of PyTorch's: it holds a pickle of the tensors' names.
pub(super) fn is_zip_of_weights(path: &Path) -> bool {
    let opened = std::fs::File::open(path).map(std::io::BufReader::new);
    let Some(archive) = opened.ok().and_then(|file| zip::ZipArchive::new(file).ok()) else {
        return false;
    };
    archive.file_names_raw().any(|name| name.ends_with(b"/data.pkl"))
}

/// Whether a path is fetched as weights: any file but archives of images, and a folder with timm's
/// pair of files.
pub(super) fn is_weights(path: &Path) -> bool {
    (path.is_file() && !archive::is_images(path))
        || (path.join(MODEL).is_file() && path.join(CONFIGURATION).is_file())
}

/// The facts that identify the weights of a source. None if it isn't a source of weights.
pub(super) fn facts(
    source: &Source,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<Option<BTreeMap<String, Value>>, StageError> {
    let facts: Vec<(&str, Value)> = match source {
        Source::Path(path) if is_weights(path) => {
            let (file, configuration) = files(path);
            let digest = |path: &Path| -> Result<Value, StageError> {
                let digest =
                    digest_file(path).or_fail(format_args!("reading {}", path.display()))?;
                Ok(Value::from(digest.to_string()))
            };
            let mut facts = vec![("file", digest(&file)?)];
            if let Some(path) = configuration {
                facts.push(("configuration", digest(&path)?));
            }
            facts
        }
        Source::Torchvision(name) => {
            let preset = preset(name)?;
            vec![
                ("weights", Value::from(preset.name)),
                ("sha256", Value::from(preset.sha256_prefix)),
            ]
        }
        Source::Web(url) => {
            let (file, configuration) = addresses(url)?;
            let version = remote::required(&file, memo, cancel)?;
            let mut facts = vec![
                ("address", Value::from(url.as_str())),
                ("version", remote::fact(&Some(version))),
            ];
            if let Some(address) = configuration {
                facts.push((
                    "configuration",
                    remote::fact(&remote::pinned(&address, memo, cancel)?),
                ));
            }
            facts
        }
        _ => return Ok(None),
    };
    Ok(Some(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

/// Pins the current version of a file on the web.
pub(super) fn refresh(
    source: &Source,
    memo: &Memo,
    cancel: &CancellationToken,
) -> Result<(), StageError> {
    let Source::Web(url) = source else { return Ok(()) };
    let (file, configuration) = addresses(url)?;
    remote::look_required(&file, memo, cancel)?;
    match configuration {
        Some(address) => remote::look(&address, memo, cancel).map(drop),
        None => Ok(()),
    }
}

/// The file with weights at a path, and timm's configuration beside it.
fn files(path: &Path) -> (PathBuf, Option<PathBuf>) {
    if path.is_file() {
        (path.to_owned(), None)
    } else {
        (path.join(MODEL), Some(path.join(CONFIGURATION)))
    }
}

/// The address of weights, and of timm's configuration beside them.
pub(super) fn addresses(url: &str) -> Result<(Address, Option<Address>), StageError> {
    let file = Address::parse(url).map_err(StageError::failed)?;
    let configuration = (file.file_name() == MODEL).then(|| file.sibling(CONFIGURATION));
    Ok((file, configuration))
}

/// Writes the artifact.
pub(super) fn run(source: &Source, context: &Context) -> Result<(), StageError> {
    match source {
        Source::Torchvision(name) => {
            let preset = preset(name)?;
            let file = remote::published(preset, context)?;
            write(context, &file, preset.file, Some(Pretrained::published(preset)))
        }
        Source::Web(url) => from_web(url, context),
        Source::Path(path) => {
            let (file, configuration) = files(path);
            let named = file.display().to_string();
            let written = from_file(&file, &named, configuration.as_deref(), context);
            match written {
                Err(StageError::Failed { message, help: None, .. }) if !is_named_like_weights(&file) => {
                    Err(StageError::failed(message).with_help(
                        "`path:` takes a folder or an archive of images, or a file of weights (.pth, .safetensors)",
                    ))
                }
                other => other,
            }
        }
        _ => Err(StageError::failed("this source has no weights")),
    }
}

/// The pinned version of a file: a fact of the stage.
fn pinned(name: &str, context: &Context) -> Option<Version> {
    Option::deserialize(context.facts.get(name)?).ok()?
}

/// The file at an address, in its pinned version.
pub(super) fn downloaded(url: &str, context: &Context) -> Result<PathBuf, StageError> {
    let (address, _) = addresses(url)?;
    remote::file(&address, &pinned("version", context).unwrap_or_default(), context)
}

/// Weights from the web.
pub(super) fn from_web(url: &str, context: &Context) -> Result<(), StageError> {
    let (_, configuration) = addresses(url)?;
    let known = match configuration.zip(pinned("configuration", context)) {
        Some((address, version)) => {
            let path = remote::file(&address, &version, context)?;
            let text = std::fs::read(&path).or_fail(path.display())?;
            described(&text, address.as_str(), &context.events)
        }
        None => None,
    };
    let file = downloaded(url, context)?;
    write(context, &file, url, known)
}

/// Weights in a file, called `named` in messages, with timm's configuration if there is one.
pub(super) fn from_file(
    file: &Path,
    named: &str,
    configuration: Option<&Path>,
    context: &Context,
) -> Result<(), StageError> {
    let known = match configuration {
        Some(path) => {
            let text = std::fs::read(path).or_fail(path.display())?;
            described(&text, named, &context.events)
        }
        None => None,
    };
    write(context, file, named, known)
}

/// Metadata from timm's file. If it can't be read, the weights can still be used.
pub(in crate::stages) fn described(
    text: &[u8],
    named: &str,
    events: &EventSink,
) -> Option<Pretrained> {
    timm::read(text)
        .inspect_err(|reason| {
            events.warn(format!(
                "the preprocessing of {named} is unknown: {reason}; set `size` (or `resize` and `crop`), `mean` and `std` in the preprocess stage"
            ));
        })
        .ok()
}

/// Reads a file with weights, called `named` in messages, and writes the artifact.
fn write(
    context: &Context,
    file: &Path,
    named: &str,
    known: Option<Pretrained>,
) -> Result<(), StageError> {
    let read = weights::read(file).map_err(|error| match error {
        NnError::File { reason, .. } => StageError::failed(format!("{named}: {reason}")),
        other => other.into(),
    })?;
    StageError::check(&context.cancel)?;
    let path = context.slot.join(MODEL);
    let (tensors, numbers) = size(&read);
    let description = model::info(&read)?;
    let known = known.or_else(|| description.as_ref().map(of_ours));
    match description {
        Some(description) => model::save(&path, &description, read)?,
        None => weights::write_safetensors(&path, &Weights { metadata: BTreeMap::new(), ..read })?,
    }
    let numbers = match numbers {
        0..1_000_000 => counted(numbers as u64, "parameter"),
        _ => format!("{:.1} million parameters", numbers as f64 / 1e6),
    };
    let mut text = format!("weights of {}, {numbers}", counted(tensors as u64, "tensor"));
    if let Some(known) = known {
        known.write(&context.slot).or_fail("writing preprocessing.json")?;
        text =
            format!("{}: {text}; for images of {}", known.weights, InWords(&known.preprocessing));
    }
    context.events.info(text);
    Ok(())
}

fn size(weights: &Weights) -> (usize, usize) {
    (weights.tensors.len(), weights.tensors.values().map(|tensor| tensor.data.len()).sum())
}

/// Metadata of a model that `train` wrote.
fn of_ours(description: &model::ModelInfo) -> Pretrained {
    Pretrained {
        weights: format!("a trained {}", description.backbone),
        architecture: description.backbone.clone(),
        preprocessing: description.preprocessing.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_told_by_their_names() {
        for name in
            ["w.pth", "a/w.safetensors", "pytorch_model.bin", "v1.0.pt", "model_best.pth.tar"]
        {
            assert!(is_named_like_weights(Path::new(name)), "{name}");
        }
        for name in ["images.zip", "images.tar", "pth", "w.pth.gz", ".tar", ""] {
            assert!(!is_named_like_weights(Path::new(name)), "{name}");
        }
    }
}
