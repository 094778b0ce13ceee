//! Weights as named tensors in torchvision's names and layouts, the files that hold them (safetensors, torch's `.pth`),
//! and the registry of published ones. Knows nothing of networks: whether weights fit one is the network's to say.

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

/// How much of a file is looked at to tell what it is.
const BEGINNING: u64 = 512;

/// Said where a file isn't whole.
const AGAIN: &str = "download or copy it again";

/// What frameworks put before every name of a network that they wrap: torch's `DataParallel` and `compile`, Lightning, and
/// classes of one's own.
const WRAPPINGS: [&str; 5] = ["module.", "_orig_mod.", "model.", "net.", "backbone."];

/// Reads a file of weights, safetensors or `.pth`, whatever its name: its content says which it is. What a framework put
/// before all names is taken off.
///
/// # Errors
/// When it can't be read, is neither, is cut short or damaged, asks for anything but tensors, or holds what isn't finite.
pub fn read(path: &Path) -> Result<Weights, NnError> {
    let failed = |source| NnError::Io { path: path.to_owned(), source };
    let mut beginning = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(BEGINNING).read_to_end(&mut beginning).map_err(failed)?;
    // A safetensors file begins with the length of its header, eight bytes, which could be those of any other format, and
    // the header with a brace.
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

/// The weights without what is before all of their names.
fn unwrapped(mut weights: Weights) -> Weights {
    let is_before_all = |weights: &Weights, wrapping: &&str| {
        !weights.tensors.is_empty()
            && weights.tensors.keys().all(|name| name.starts_with(*wrapping))
    };
    while let Some(wrapping) =
        WRAPPINGS.into_iter().find(|wrapping| is_before_all(&weights, wrapping))
    {
        let tensors = weights.tensors.into_iter();
        weights.tensors =
            tensors.map(|(name, tensor)| (name[wrapping.len()..].to_owned(), tensor)).collect();
    }
    weights
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct WeightTensor<N = f32> {
    /// torchvision's shape.
    pub shape: Vec<usize>,
    /// Its values, row by row.
    pub data: Vec<N>,
}

/// Named tensors and what the file says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights<N = f32> {
    /// By torchvision's names, buffers included.
    pub tensors: BTreeMap<String, WeightTensor<N>>,
    /// Free text by name.
    pub metadata: BTreeMap<String, String>,
}

impl<N> Default for Weights<N> {
    fn default() -> Self {
        Weights { tensors: BTreeMap::new(), metadata: BTreeMap::new() }
    }
}
