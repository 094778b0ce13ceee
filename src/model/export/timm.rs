//! timm's `config.json`, with which `timm.create_model` loads weights from a folder or the Hub: as
//! timm's `push_to_hf_hub` writes it.

use crate::data::{Fit, Interpolation, Preprocessing};
use crate::model::{Classifier, Dense, ModelInfo};
use crate::nn::{Graph, Op};
use serde::Serialize;

/// A network that timm builds with torchvision's parameter names.
struct Architecture {
    /// The name here and in timm.
    name: &'static str,
    /// timm's name of the first convolution.
    first_conv: &'static str,
}

const fn resnet(name: &'static str) -> Architecture {
    Architecture { name, first_conv: "conv1" }
}

/// The backbones that timm has.
const KNOWN: [Architecture; 6] = [
    resnet("resnet18"),
    resnet("resnet34"),
    resnet("resnet50"),
    resnet("resnet101"),
    resnet("resnet152"),
    Architecture { name: "inception_v3", first_conv: "Conv2d_1a_3x3.conv" },
];

/// The file.
#[derive(Serialize)]
struct Config<'a> {
    architecture: &'a str,
    num_classes: usize,
    num_features: usize,
    global_pool: &'a str,
    label_names: &'a [String],
    pretrained_cfg: Pretrained<'a>,
}

#[derive(Serialize)]
struct Pretrained<'a> {
    tag: &'a str,
    custom_load: bool,
    input_size: [u32; 3],
    fixed_input_size: bool,
    interpolation: &'a str,
    crop_pct: f64,
    crop_mode: &'a str,
    mean: [f32; 3],
    std: [f32; 3],
    num_classes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_size: Option<[usize; 2]>,
    first_conv: &'a str,
    classifier: &'a str,
}

/// The text of the file.
///
/// # Errors
/// Why timm can't build the network.
pub(super) fn config(info: &ModelInfo, graph: &Graph) -> Result<String, String> {
    let architecture = architecture(info)?;
    let Preprocessing { resize, crop, fit, interpolation, mean, std, .. } = info.preprocessing;
    let config = Config {
        architecture: architecture.name,
        num_classes: info.classes.len(),
        num_features: graph.feature_count(),
        global_pool: "avg",
        label_names: &info.classes,
        pretrained_cfg: Pretrained {
            tag: "",
            custom_load: false,
            input_size: [3, crop, crop],
            fixed_input_size: false,
            interpolation: match interpolation {
                Interpolation::Bilinear => "bilinear",
                Interpolation::Bicubic => "bicubic",
            },
            crop_pct: crop_part(crop, resize),
            crop_mode: match fit {
                Fit::Crop => "center",
                Fit::Pad => "border",
                Fit::Stretch => "squash",
            },
            mean,
            std,
            num_classes: info.classes.len(),
            pool_size: last_map(graph),
            first_conv: architecture.first_conv,
            classifier: "fc",
        },
    };
    let text = serde_json::to_string_pretty(&config);
    text.map(|text| text + "\n").map_err(|error| format!("it can't be described: {error}"))
}

fn architecture(info: &ModelInfo) -> Result<&'static Architecture, String> {
    let known = KNOWN.iter().find(|known| known.name == info.backbone);
    match (known, &info.head) {
        (None, _) => Err(format!("timm has no network {}", info.backbone)),
        (_, Classifier::Dense(Dense { hidden, .. })) if !hidden.is_empty() => {
            Err("timm has no classifier with hidden layers".to_owned())
        }
        (Some(known), _) => Ok(known),
    }
}

/// timm's `crop_pct`: timm resizes to `floor(crop / crop_pct)`, which must be `resize`. The shortest
/// such number.
fn crop_part(crop: u32, resize: u32) -> f64 {
    let exact = f64::from(crop) / f64::from(resize);
    let is_right = |part: &f64| (f64::from(crop) / part).floor() == f64::from(resize);
    let rounded = (3..=9).map(|digits| {
        let scale = 10f64.powi(digits);
        (exact * scale).round() / scale
    });
    // Rounded up by a little, the quotient would be too small: this one is in the middle.
    let middle = f64::from(crop) / (f64::from(resize) + 0.5);
    rounded.chain([exact]).find(is_right).unwrap_or(middle)
}

/// Height and width of the map before the global mean.
fn last_map(graph: &Graph) -> Option<[usize; 2]> {
    let pool = graph.main_nodes().iter().find(|node| matches!(node.op, Op::AdaptivePool { .. }))?;
    let map = graph.nodes()[pool.inputs[0]].shape;
    Some([map.height, map.width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::info;
    use crate::nn;
    use proptest::prelude::*;

    #[test]
    fn every_backbone_is_known_to_timm_or_known_not_to_be() {
        // `timm.list_models()` of timm 1.0.
        let missing = ["alexnet"];
        for backbone in nn::backbones() {
            let is_known = KNOWN.iter().any(|known| known.name == backbone.name);
            assert!(is_known != missing.contains(&backbone.name), "{}", backbone.name);
            let first = KNOWN.iter().find(|known| known.name == backbone.name);
            let graph = backbone.graph(&nn::Head::Original, (299, 299)).unwrap();
            let is_convolution = |node: &&nn::Node| matches!(node.op, Op::Convolution { .. });
            let convolution = graph.nodes().iter().find(is_convolution).unwrap();
            assert!(first.is_none_or(|first| first.first_conv == convolution.name));
            assert!(
                is_known
                    .then(|| nn::classifier(backbone))
                    .is_none_or(|names| names[0] == "fc.weight")
            );
        }
    }

    #[test]
    fn the_file_is_as_timm_writes_it() {
        let mut info = info();
        let graph = |info: &ModelInfo| {
            nn::backbone(&info.backbone).unwrap().graph(&info.head(), info.input()).unwrap()
        };
        let reason = config(&info, &graph(&info)).unwrap_err();
        assert_eq!(reason, "timm has no classifier with hidden layers");
        info.head = Classifier::Dense(Dense { hidden: vec![], dropout: 0.5 });
        let text = config(&info, &graph(&info)).unwrap();
        insta::assert_snapshot!(text);
        let resnet = graph(&info);
        info.backbone = "alexnet".to_owned();
        assert_eq!(config(&info, &resnet).unwrap_err(), "timm has no network alexnet");
    }

    #[test]
    fn crop_parts_are_those_of_published_weights() {
        assert_eq!(
            [crop_part(224, 256), crop_part(299, 342), crop_part(64, 64)],
            [0.875, 0.874, 1.0]
        );
        assert_eq!(crop_part(224, 232), 0.9655);
    }

    proptest! {
        #[test]
        fn timm_resizes_to_the_same_size(crop in 1u32..2000, more in 0u32..2000) {
            let part = crop_part(crop, crop + more);
            prop_assert_eq!((f64::from(crop) / part).floor(), f64::from(crop + more));
            prop_assert!(part > 0.0 && part <= 1.0);
        }
    }
}
