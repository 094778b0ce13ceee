//! Reads timm's `config.json`: the network of the weights beside it, and their preprocessing.

use super::super::pretrained::Pretrained;
use crate::data::decode::DecodeOptions;
use crate::data::{Fit, Interpolation, Preprocessing};
use serde::Deserialize;
use serde_json::Value;

/// Plausible sides in pixels.
const SIDES: std::ops::RangeInclusive<u32> = 8..=4096;

/// The part of the file that is needed, with timm's defaults.
#[derive(Deserialize)]
struct Configuration {
    input_size: [u32; 3],
    #[serde(default)]
    tag: Option<String>,
    #[serde(default = "bicubic")]
    interpolation: String,
    #[serde(default = "usual_part")]
    crop_pct: f64,
    #[serde(default = "center")]
    crop_mode: String,
    mean: [f32; 3],
    std: [f32; 3],
}

fn bicubic() -> String {
    "bicubic".to_owned()
}

fn usual_part() -> f64 {
    0.875
}

fn center() -> String {
    "center".to_owned()
}

/// Parses the file.
///
/// # Errors
/// If it isn't timm's or contains something unsupported: a message.
pub(super) fn read(text: &[u8]) -> Result<Pretrained, String> {
    let json: Value =
        serde_json::from_slice(text).map_err(|error| format!("it isn't JSON: {error}"))?;
    let Some(architecture) = json.get("architecture").and_then(Value::as_str) else {
        return Err("it names no `architecture`, so it isn't timm's".to_owned());
    };
    // timm's early files have everything on one level.
    let inner = json.get("pretrained_cfg").unwrap_or(&json);
    let found =
        Configuration::deserialize(inner).map_err(|error| format!("`pretrained_cfg`: {error}"))?;
    let preprocessing = found.preprocessing()?;
    let tag =
        found.tag.filter(|tag| !tag.is_empty()).map(|tag| format!(".{tag}")).unwrap_or_default();
    let weights = format!("timm's {architecture}{tag}");
    Ok(Pretrained { weights, architecture: architecture.to_owned(), preprocessing })
}

impl Configuration {
    fn preprocessing(&self) -> Result<Preprocessing, String> {
        let [channels, height, crop] = self.input_size;
        if channels != 3 || height != crop || !SIDES.contains(&crop) {
            return Err(format!(
                "`input_size` is {:?}, but only [3, N, N] is supported",
                self.input_size
            ));
        }
        if !(self.crop_pct > 0.0 && self.crop_pct <= 1.0) {
            return Err(format!("`crop_pct` is {}, which is not between 0 and 1", self.crop_pct));
        }
        let interpolation = match self.interpolation.as_str() {
            "bilinear" => Interpolation::Bilinear,
            "bicubic" => Interpolation::Bicubic,
            other => {
                return Err(format!(
                    "`interpolation` is \"{other}\", but only bilinear and bicubic are supported"
                ));
            }
        };
        let fit = match self.crop_mode.as_str() {
            "center" => Fit::Crop,
            "squash" => Fit::Stretch,
            other => {
                return Err(format!(
                    "`crop_mode` is \"{other}\", but only center and squash are supported"
                ));
            }
        };
        let are_numbers =
            self.mean.iter().all(|mean| mean.is_finite()) && self.std.iter().all(|&std| std > 0.0);
        // timm: floor(input / crop_pct), as transforms_factory.py has it.
        let resize = (f64::from(crop) / self.crop_pct).floor();
        if !are_numbers || resize > f64::from(*SIDES.end()) {
            return Err("`mean`, `std` or `crop_pct` are out of range".to_owned());
        }
        Ok(Preprocessing {
            resize: resize as u32,
            crop,
            fit,
            interpolation,
            mean: self.mean,
            std: self.std,
            decoding: DecodeOptions::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shortened from the file beside timm's resnet50.a1_in1k.
    const A1: &str = r#"{ "architecture": "resnet50", "num_classes": 1000, "num_features": 2048,
        "pretrained_cfg": { "tag": "a1_in1k", "custom_load": false, "input_size": [3, 224, 224],
            "test_input_size": [3, 288, 288], "fixed_input_size": false, "interpolation": "bicubic", "crop_pct": 0.95,
            "test_crop_pct": 1.0, "crop_mode": "center", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
            "num_classes": 1000, "pool_size": [7, 7], "first_conv": "conv1", "classifier": "fc" } }"#;

    #[test]
    fn timms_numbers_are_read() {
        let known = read(A1.as_bytes()).unwrap();
        assert_eq!(
            (known.weights.as_str(), known.architecture.as_str()),
            ("timm's resnet50.a1_in1k", "resnet50")
        );
        let Preprocessing { resize, crop, fit, interpolation, mean, .. } = known.preprocessing;
        assert_eq!(
            (resize, crop, fit, interpolation),
            (235, 224, Fit::Crop, Interpolation::Bicubic)
        );
        assert_eq!(mean, [0.485, 0.456, 0.406]);
    }

    #[test]
    fn early_files_have_one_level_and_defaults() {
        let text = r#"{"architecture":"resnet18","input_size":[3,288,288],"mean":[0.5,0.5,0.5],"std":[0.5,0.5,0.5]}"#;
        let known = read(text.as_bytes()).unwrap();
        assert_eq!((known.weights.as_str(), known.preprocessing.resize), ("timm's resnet18", 329));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let said = |from: &str, to: &str| read(A1.replace(from, to).as_bytes()).unwrap_err();
        assert!(said("\"architecture\"", "\"architectures\"").contains("isn't timm's"));
        assert!(said("\"bicubic\"", "\"random\"").contains("`interpolation` is \"random\""));
        assert!(said("\"center\"", "\"border\"").contains("`crop_mode` is \"border\""));
        assert!(said("0.95", "0").contains("`crop_pct` is 0"));
        assert!(said("\"crop_pct\": 0.95", "\"crop_pct\": 1e-9").contains("out of range"));
        assert!(said("[3, 224, 224]", "[1, 28, 28]").contains("`input_size`"));
        assert!(said("0.229", "0.0").contains("out of range"));
        assert!(said("\"mean\"", "\"means\"").contains("mean"));
        for length in 0..A1.len() {
            assert!(read(&A1.as_bytes()[..length]).is_err());
        }
    }
}
