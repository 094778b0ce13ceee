//! The kind of this machine: what decides, besides a pipeline and its images, which bytes come out.

/// Architecture and operating system: `x86_64-linux`.
pub(crate) fn target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// The target and the SIMD extensions in one line: `x86_64-linux sse4.1 avx`.
pub(crate) fn kind() -> String {
    std::iter::once(target()).chain(simd()).collect::<Vec<_>>().join(" ")
}

/// The SIMD extensions of the processor that kernels are selected by, the widest last.
#[cfg(target_arch = "x86_64")]
pub(crate) fn simd() -> Vec<String> {
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
pub(crate) fn simd() -> Vec<String> {
    vec!["neon".to_owned()]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn simd() -> Vec<String> {
    Vec::new()
}
