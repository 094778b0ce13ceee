//! Weights as tensors under torchvision's names and in its layouts, their files (safetensors,
//! PyTorch's `.pth`), and the registry of published weights. Doesn't depend on networks.

mod floats;
mod pickle;
mod pth;
pub mod registry;
mod safetensors;

use super::NnError;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

pub use registry::{Interpolation, Preset, preset, presets};
pub use safetensors::{from_bytes, read_safetensors, to_bytes, write_safetensors};

/// Bytes read to detect a file's format.
const BEGINNING: u64 = 512;

/// The advice for an incomplete file.
const AGAIN: &str = "download or copy it again";

/// Prefixes of the names in a wrapped network: PyTorch's `DataParallel` and `compile`, Lightning,
/// and common user classes.
const WRAPPINGS: [&str; 5] = ["module.", "_orig_mod.", "model.", "net.", "backbone."];

/// Reads a weights file, safetensors or `.pth`; the format is detected from its content. Prefixes
/// that wrappers add to names are removed.
///
/// # Errors
/// When the file can't be read, has another format, is truncated or damaged, references anything but tensors, or contains
/// values that aren't finite.
pub fn read(path: &Path) -> Result<Weights, NnError> {
    let failed = |source| NnError::Io { path: path.to_owned(), source };
    let mut beginning = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(BEGINNING).read_to_end(&mut beginning).map_err(failed)?;
    // A safetensors file begins with the header's length in eight bytes, which could match any
    // other format, then the header, which begins with a brace.
    if beginning.get(8) == Some(&b'{') {
        return read_safetensors(path).map(unwrapped);
    }
    let reason = match beginning.as_slice() {
        [] => format!("it is empty; {AGAIN}"),
        some if pth::is_pth(some) => match pth::read(path, some) {
            Ok(weights) => return Ok(unwrapped(weights)),
            Err(reason) => reason,
        },
        _ => format!(
            "it is neither a safetensors nor a .pth file, or its beginning is damaged; {AGAIN}"
        ),
    };
    Err(NnError::file(path, reason))
}

/// Removes prefixes that most names share. Tensors beside the wrapped network, such as the weights
/// of a loss, keep their names, unless a tensor of the network has it: then they are left out.
fn unwrapped(mut weights: Weights) -> Weights {
    let is_before_most = |weights: &Weights, wrapping: &&str| {
        let with = weights.tensors.keys().filter(|name| name.starts_with(*wrapping)).count();
        2 * with > weights.tensors.len()
    };
    while let Some(wrapping) =
        WRAPPINGS.into_iter().find(|wrapping| is_before_most(&weights, wrapping))
    {
        let (inner, others): (Vec<_>, Vec<_>) =
            weights.tensors.into_iter().partition(|(name, _)| name.starts_with(wrapping));
        weights.tensors = others.into_iter().collect();
        let inner = inner.into_iter();
        weights
            .tensors
            .extend(inner.map(|(name, tensor)| (name[wrapping.len()..].to_owned(), tensor)));
    }
    weights
}

/// A tensor.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct WeightTensor<N = f32> {
    /// torchvision's shape.
    pub shape: Vec<usize>,
    /// Values in row-major order.
    pub data: Vec<N>,
}

/// Named tensors, and the metadata of their file.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights<N = f32> {
    /// By torchvision's names, buffers included.
    pub tensors: BTreeMap<String, WeightTensor<N>>,
    /// Text by key.
    pub metadata: BTreeMap<String, String>,
}

impl<N> Default for Weights<N> {
    fn default() -> Self {
        Weights { tensors: BTreeMap::new(), metadata: BTreeMap::new() }
    }
}
