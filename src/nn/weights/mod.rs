//! Weights as named tensors in torchvision's names and layouts, the safetensors files that hold them, and the registry
//! of published ones. Knows nothing of networks: whether weights fit one is the network's to say.

pub mod registry;
mod safetensors;

use std::collections::BTreeMap;

pub use registry::{Interpolation, Preset, preset, presets};
pub use safetensors::{from_bytes, read_safetensors, to_bytes, write_safetensors};

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightTensor {
    /// torchvision's shape.
    pub shape: Vec<usize>,
    /// Its values, row by row.
    pub data: Vec<f32>,
}

/// Named tensors and what the file says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// By torchvision's names, buffers included.
    pub tensors: BTreeMap<String, WeightTensor>,
    /// Free text by name.
    pub metadata: BTreeMap<String, String>,
}
