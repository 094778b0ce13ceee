//! Recognizes the backbone of weights by the names and shapes of their tensors, and lists the
//! tensors of a classifier.

use super::backbones::{BackboneInfo, backbones};
use super::graph::{Graph, Head};
use super::parameters::{ParameterInfo, describe};
use super::weights::Weights;

/// Minimum similarity, as intersection over union of tensors.
const MIN_SIMILARITY: f64 = 0.9;

/// The backbone that weights belong to: the one with the most similar parameters, if at least 90 %
/// of the tensors in either are in both with the same shape. The classifier and running statistics
/// are ignored.
pub fn recognize(weights: &Weights) -> Option<&'static BackboneInfo> {
    let scored = backbones().iter().filter_map(|info| Some((similarity(info, weights)?, info)));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(similarity, _)| *similarity >= MIN_SIMILARITY).map(|(_, info)| info)
}

/// Names of the tensors of a backbone's published classifier.
pub fn classifier(info: &BackboneInfo) -> Vec<String> {
    let Some(graph) = published(info) else { return Vec::new() };
    describe(&graph).into_iter().filter(is_classifier).map(|parameter| parameter.name).collect()
}

fn published(info: &BackboneInfo) -> Option<Graph> {
    info.graph(&Head::Original, (info.input_size, info.input_size)).ok()
}

fn is_classifier(parameter: &ParameterInfo) -> bool {
    parameter.group == "head"
}

fn similarity(info: &BackboneInfo, weights: &Weights) -> Option<f64> {
    let (classifier, features): (Vec<_>, Vec<_>) =
        describe(&published(info)?).into_iter().partition(is_classifier);
    let is_there = |one: &&ParameterInfo| {
        weights.tensors.get(&one.name).is_some_and(|tensor| tensor.shape == one.shape)
    };
    let in_both = features.iter().filter(is_there).count();
    let is_counted = |name: &&String| {
        !name.ends_with("running_mean")
            && !name.ends_with("running_var")
            && !classifier.iter().any(|one| one.name == **name)
    };
    let of_weights = weights.tensors.keys().filter(is_counted).count();
    let in_either = features.len() + of_weights - in_both.min(of_weights);
    Some(in_both as f64 / in_either.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Network, WeightTensor};

    #[test]
    fn similar_networks_are_distinguished() {
        for name in ["resnet18", "resnet34", "alexnet"] {
            let head = Head::Dense { hidden: vec![], dropout: 0.0, classes: 3 };
            let mut weights = Network::new(name, &head, (64, 64), 0).unwrap().save();
            assert_eq!(recognize(&weights).map(|info| info.name), Some(name));
            // Another classifier and an extra tensor don't change the result.
            weights
                .tensors
                .insert("extra".into(), WeightTensor { shape: vec![1], data: vec![0.0] });
            weights.tensors.remove("fc.weight");
            assert_eq!(recognize(&weights).map(|info| info.name), Some(name));
        }
        assert!(recognize(&Weights::default()).is_none());
    }

    #[test]
    fn the_classifier_is_the_layers_after_the_features() {
        let of = |name| classifier(crate::nn::backbone(name).unwrap());
        assert_eq!(of("resnet50"), ["fc.weight", "fc.bias"]);
        assert!(of("alexnet").contains(&"classifier.6.weight".to_owned()));
    }
}
