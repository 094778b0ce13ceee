//! Reading and writing model files, and rejecting damaged ones.

use super::*;
use crate::data::{Fit, Interpolation};
use crate::nn::WeightTensor;
use crate::nn::weights::to_bytes;

pub(super) fn info() -> ModelInfo {
    ModelInfo {
        backbone: "resnet18".to_owned(),
        head: Classifier::Dense(Dense { hidden: vec![4], dropout: 0.5 }),
        classes: ["a", "b"].map(str::to_owned).to_vec(),
        preprocessing: Preprocessing {
            resize: 40,
            crop: 32,
            fit: Fit::Crop,
            interpolation: Interpolation::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            decoding: Default::default(),
        },
        bf16: false,
    }
}

fn tiny() -> Weights {
    let tensor = WeightTensor { shape: vec![2], data: vec![0.5, -1.0] };
    Weights { tensors: BTreeMap::from([("fc.bias".to_owned(), tensor)]), metadata: BTreeMap::new() }
}

#[test]
fn an_info_round_trips() {
    let text = info().to_json().unwrap();
    assert!(
        text.starts_with(
            r#"{"format":1,"backbone":"resnet18","head":{"hidden":[4],"dropout":0.5},"classes":["a","b"],"#
        )
    );
    assert_eq!(ModelInfo::from_json(&text).unwrap(), info());
    assert!(!text.contains("bf16"));
    let in_bf16 = ModelInfo { bf16: true, ..info() };
    let text = in_bf16.to_json().unwrap();
    assert!(text.starts_with(r#"{"format":2,"#), "an older `pipe` refuses it: {text}");
    assert_eq!(ModelInfo::from_json(&text).unwrap(), in_bf16);
}

#[test]
fn a_newer_format_is_refused() {
    let error = ModelInfo::from_json(r#"{"format":3,"unheard":"of"}"#).unwrap_err().to_string();
    assert!(error.contains("it is of format 3, and this `pipe` reads up to format 2"), "{error}");
}

#[test]
fn impossible_infos_are_refused() {
    let text = info().to_json().unwrap();
    for length in 0..text.len() {
        assert!(ModelInfo::from_json(&text[..length]).is_err());
    }
    for (from, to) in [
        ("\"resize\":40", "\"resize\":4000000000"),
        ("\"crop\":32", "\"crop\":41"),
        ("\"crop\":32", "\"crop\":0"),
        ("[4]", "[0]"),
        ("[4]", "[99999999999]"),
        ("\"dropout\":0.5", "\"dropout\":1.0"),
        ("[\"a\",\"b\"]", "[]"),
        ("0.229", "0.0"),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(ModelInfo::from_json(&text.replace(from, to)).is_err(), "{to}");
    }
}

#[test]
fn files_that_are_no_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = Model::open(&path).err().unwrap().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        error
    };
    refused(b"");
    assert!(refused(&to_bytes(&tiny()).unwrap()).contains("not a model that `pipe` trained"));
    let with = |info: &ModelInfo| {
        let metadata = BTreeMap::from([(METADATA.to_owned(), info.to_json().unwrap())]);
        to_bytes(&Weights { metadata, ..tiny() }).unwrap()
    };
    assert!(refused(&with(&info())).contains("it contains 2 weights"));
    assert!(
        refused(&with(&ModelInfo { backbone: "vgg".to_owned(), ..info() }))
            .contains("no backbone has the name `vgg`")
    );
    let whole = with(&info());
    for length in 0..whole.len() {
        refused(&whole[..length]);
    }
    std::fs::remove_file(&path).unwrap();
    assert!(Model::open(&path).is_err());
}
