//! The machine of a run: the properties that can change its results, and those that explain its
//! times.

use serde::{Deserialize, Serialize};

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
    /// The device that networks are computed on: `cpu`, `cuda:0`.
    pub device: String,
}

impl Machine {
    /// The machine of this process.
    pub fn current(device: &str) -> Machine {
        Machine {
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            simd: simd(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            device: device.to_owned(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn simd() -> Vec<String> {
    let known = [
        ("sse4.1", is_x86_feature_detected!("sse4.1")),
        ("avx", is_x86_feature_detected!("avx")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    known
        .iter()
        .filter(|(_, is_detected)| *is_detected)
        .map(|(name, _)| (*name).to_owned())
        .collect()
}

#[cfg(target_arch = "aarch64")]
fn simd() -> Vec<String> {
    vec!["neon".to_owned()]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn simd() -> Vec<String> {
    Vec::new()
}
