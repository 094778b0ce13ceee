//! Metadata of fetched weights: their network, and the preprocessing that they were trained with. A
//! file beside the weights that `preprocess` takes its values from and `train` compares with.

use crate::data::decode::DecodeOptions;
use crate::data::{Fit, Interpolation, Preprocessing};
use crate::engine::StageError;
use crate::nn::weights::{Preset, registry};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Name of the file in the artifact of fetched weights.
pub(super) const PREPROCESSING: &str = "preprocessing.json";

/// Metadata of weights.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(super) struct Pretrained {
    /// Their name in messages: "torchvision's resnet50/V1".
    pub weights: String,
    /// The network, by the publisher's name.
    pub architecture: String,
    /// The preprocessing that they were trained with.
    pub preprocessing: Preprocessing,
}

impl Pretrained {
    /// Metadata from the registry.
    pub(super) fn published(preset: &Preset) -> Pretrained {
        let interpolation = match preset.interpolation {
            registry::Interpolation::Bilinear => Interpolation::Bilinear,
            registry::Interpolation::Bicubic => Interpolation::Bicubic,
        };
        Pretrained {
            weights: format!("torchvision's {}", preset.name),
            architecture: preset.backbone.to_owned(),
            preprocessing: Preprocessing {
                resize: preset.resize,
                crop: preset.crop,
                fit: Fit::Crop,
                interpolation,
                mean: preset.mean,
                std: preset.std,
                decoding: DecodeOptions::default(),
            },
        }
    }

    /// Writes the file into an artifact.
    pub(super) fn write(&self, artifact: &Path) -> Result<(), StageError> {
        let path = artifact.join(PREPROCESSING);
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| StageError::failed(error.to_string()))?;
        std::fs::write(path, text + "\n").map_err(StageError::from)
    }

    /// Reads the file of an artifact, if it has one.
    pub(super) fn read(artifact: &Path) -> Result<Option<Pretrained>, StageError> {
        let path = artifact.join(PREPROCESSING);
        let failed = |reason: String| StageError::failed(format!("{}: {reason}", path.display()));
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.to_string()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

/// Preprocessing in words: "224 from 256 pixels, bilinear, mean 0.485 0.456 0.406, std 0.229 0.224
/// 0.225".
pub(super) struct InWords<'a>(pub &'a Preprocessing);

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Preprocessing { resize, crop, interpolation, mean, std, .. } = self.0;
        let filter = match interpolation {
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
        };
        let [mean, std] = [mean, std].map(|three| three.map(|one| one.to_string()).join(" "));
        write!(f, "{crop} from {resize} pixels, {filter}, mean {mean}, std {std}")
    }
}

/// A warning if images are preprocessed differently from those that the weights were trained with.
pub(super) fn mismatch(
    weights: &str,
    made_with: &Preprocessing,
    images: &Preprocessing,
) -> Option<String> {
    if made_with == images {
        return None;
    }
    let Preprocessing { resize, crop, interpolation, mean, std, .. } = made_with;
    let filter = serde_json::to_string(interpolation).unwrap_or_default();
    Some(format!(
        "{weights} were trained with images of {}; these are {}, which makes the features less useful. To preprocess \
         images alike, write in the preprocess stage: resize = {resize}, crop = {crop}, interpolation = {filter}, mean = {mean:?}, std = {std:?}",
        InWords(made_with),
        InWords(images),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Pretrained::read(folder.path()).unwrap(), None);
        for preset in registry::presets() {
            let known = Pretrained::published(preset);
            known.write(folder.path()).unwrap();
            assert_eq!(Pretrained::read(folder.path()).unwrap(), Some(known));
        }
        let text = std::fs::read_to_string(folder.path().join(PREPROCESSING)).unwrap();
        assert!(text.contains("0.485") && !text.contains("0.4850"), "{text}");
        std::fs::write(folder.path().join(PREPROCESSING), "{}").unwrap();
        assert!(Pretrained::read(folder.path()).unwrap_err().to_string().contains("missing field"));
    }

    #[test]
    fn a_difference_names_both_and_what_to_write() {
        let of = |name| Pretrained::published(registry::preset(name).unwrap()).preprocessing;
        assert_eq!(mismatch("x", &of("resnet50"), &of("resnet18")), None);
        let sentence =
            mismatch("torchvision's resnet50/V2", &of("resnet50/V2"), &of("resnet50")).unwrap();
        assert!(sentence.starts_with(
            "torchvision's resnet50/V2 were trained with images of 224 from 232 pixels, bilinear, mean 0.485 0.456 0.406, \
             std 0.229 0.224 0.225; these are 224 from 256 pixels, bilinear,"
        ), "{sentence}");
        assert!(sentence.ends_with("resize = 232, crop = 224, interpolation = \"bilinear\", mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225]"), "{sentence}");
    }
}
