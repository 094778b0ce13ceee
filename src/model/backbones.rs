//! The list of backbones, as rows of a table.

use super::ModelError;
use crate::nn::weights::presets;
use crate::nn::{self, Head};
use serde::Serialize;

/// One backbone, with its published classifier at its usual input size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct BackboneRow {
    pub name: String,
    /// Number of trainable values, without those of an auxiliary head, which model files don't
    /// contain.
    pub parameters: u64,
    /// Multiply-adds per image.
    pub multiply_adds: u64,
    /// Side of its default input, in pixels.
    pub input_size: usize,
    /// Layer groups from input to output, as `freeze` takes them.
    pub stages: Vec<String>,
    /// Published weights, each with its top-1 accuracy on ImageNet in percent, the default first.
    pub weights: Vec<(String, f32)>,
}

/// All backbones, in the order of listings.
///
/// # Errors
/// When a backbone can't be built for its own input size, which would be a bug.
pub(crate) fn backbones() -> Result<Vec<BackboneRow>, ModelError> {
    let row = |info: &nn::BackboneInfo| {
        let side = info.input_size;
        let graph = info.graph(&Head::Original, (side, side))?;
        let weights = presets().iter().filter(|preset| preset.backbone == info.name);
        Ok(BackboneRow {
            name: info.name.to_owned(),
            parameters: graph.parameter_count(),
            multiply_adds: graph.multiply_adds(),
            input_size: side,
            stages: info.layer_groups.iter().map(|&group| group.to_owned()).collect(),
            weights: weights.map(|preset| (preset.name.to_owned(), preset.top1)).collect(),
        })
    };
    nn::backbones().iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_equal_those_that_torchvision_publishes() {
        let rows = backbones().unwrap();
        let row = rows.iter().find(|row| row.name == "resnet50").unwrap();
        assert_eq!((row.parameters, row.input_size), (25_557_032, 224));
        assert!((row.multiply_adds as f64 / 1e9 - 4.09).abs() < 0.02, "{}", row.multiply_adds);
        assert_eq!(row.weights[0].0, "resnet50/V1");
        assert_eq!(row.stages.last().map(String::as_str), Some("layer4"));
    }
}
