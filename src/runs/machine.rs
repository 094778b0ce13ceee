//! The machine of a run: the properties that can change its results, and those that explain its
//! times.

use crate::common::machine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Two runs with equal `target`, `simd` and `device`, the same pipeline file and the same images
/// give the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Architecture and operating system: `x86_64-linux`.
    pub target: String,
    /// The SIMD extensions of the processor that kernels are selected by, the widest last.
    pub simd: Vec<String>,
    /// Cores available to the process.
    pub cores: usize,
    /// The device that networks are computed on: `cpu`, or `cuda:0` with the GPU's name and the
    /// versions of the driver and cuDNN.
    pub device: String,
    /// The versions of the libraries that compute numbers.
    pub libraries: BTreeMap<String, String>,
}

/// The libraries whose versions can change results: decoding, resizing, networks.
const LIBRARIES: [&str; 8] = [
    "dfdx",
    "fast_image_resize",
    "gemm-f32",
    "gemm-f64",
    "image",
    "image-webp",
    "png",
    "zune-jpeg",
];

impl Machine {
    /// The machine of this process.
    pub fn current(device: &str) -> Machine {
        Machine {
            target: machine::target(),
            simd: machine::simd(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            device: device.to_owned(),
            libraries: libraries(),
        }
    }
}

/// The versions of [`LIBRARIES`] that this program was built with. Of several, the newest: that is
/// the one that is used directly.
fn libraries() -> BTreeMap<String, String> {
    let lock = include_str!("../../Cargo.lock");
    let version = |name: &str| {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let (_, rest) = lock.rsplit_once(&entry)?;
        Some(rest.split('"').next()?.to_owned())
    };
    LIBRARIES.iter().filter_map(|name| Some(((*name).to_owned(), version(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_versions_are_known() {
        let libraries = libraries();
        assert_eq!(libraries.len(), LIBRARIES.len(), "{libraries:?}");
        assert!(libraries["dfdx"].starts_with("0.13"), "{libraries:?}");
        assert!(libraries["gemm-f32"].starts_with("0.19"), "{libraries:?}");
    }
}
