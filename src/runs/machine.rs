//! The kind of machine a run ran on: what can change the bytes of its results, and what explains its times.

use serde::{Deserialize, Serialize};

/// A kind of machine. Two runs on the same kind, with one pipeline file and one set of images, give the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Processor architecture and system: `x86_64-linux`.
    pub target: String,
    /// The SIMD extensions that the processor has, of those that kernels choose by; the widest last.
    pub simd: Vec<String>,
    /// Processor cores that this process may use.
    pub cores: usize,
    /// Where networks were computed: `cpu`, `cuda:0`.
    pub device: String,
}

impl Machine {
    /// The machine that this process runs on.
    pub fn here(device: &str) -> Machine {
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
    known.iter().filter(|(_, there)| *there).map(|(name, _)| (*name).to_owned()).collect()
}

#[cfg(target_arch = "aarch64")]
fn simd() -> Vec<String> {
    vec!["neon".to_owned()]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn simd() -> Vec<String> {
    Vec::new()
}
