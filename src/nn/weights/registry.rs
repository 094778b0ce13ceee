//! The registry of published weights: their network, URL, digest prefix and preprocessing. Doesn't
//! depend on network structures and downloads nothing.

use crate::nn::NnError;

/// Interpolation when resizing images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// Antialiased bilinear.
    Bilinear,
    /// Antialiased bicubic.
    Bicubic,
}

impl Interpolation {
    /// The name in a pipeline file.
    pub fn name(self) -> &'static str {
        match self {
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
        }
    }
}

/// A published set of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// Full name, such as `resnet50/V1`.
    pub name: &'static str,
    /// Name of the network; also a short name of the network's first preset in the list.
    pub backbone: &'static str,
    /// File name below [`BASE`].
    pub file: &'static str,
    /// Prefix of the file's SHA-256, in hexadecimal.
    pub sha256_prefix: &'static str,
    /// The shorter side is resized to this many pixels.
    pub resize: u32,
    /// Side of the center crop, in pixels.
    pub crop: u32,
    pub interpolation: Interpolation,
    /// Mean of each channel, for pixels in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
    /// Published top-1 accuracy on ImageNet's validation set, percent.
    pub top1: f32,
}

/// Base URL of torchvision's files.
pub const BASE: &str = "https://download.pytorch.org/models/";

impl Preset {
    /// The URL of its file below `base`: [`BASE`], or a mirror with the same files.
    pub fn url(&self, base: &str) -> String {
        format!("{}/{}", base.trim_end_matches('/'), self.file)
    }
}

const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// A preset with torchvision's usual preprocessing to 224 pixels.
const fn imagenet(
    name: &'static str,
    backbone: &'static str,
    file: &'static str,
    sha256_prefix: &'static str,
    resize: u32,
    top1: f32,
) -> Preset {
    Preset {
        name,
        backbone,
        file,
        sha256_prefix,
        resize,
        crop: 224,
        interpolation: Interpolation::Bilinear,
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        top1,
    }
}

/// All presets, the default version of each network first: V1 gives better frozen features than
/// V2's training recipe.
pub fn presets() -> &'static [Preset] {
    static LIST: &[Preset] = &[
        imagenet("resnet18/V1", "resnet18", "resnet18-f37072fd.pth", "f37072fd", 256, 69.758),
        imagenet("resnet34/V1", "resnet34", "resnet34-b627a593.pth", "b627a593", 256, 73.314),
        imagenet("resnet50/V1", "resnet50", "resnet50-0676ba61.pth", "0676ba61", 256, 76.130),
        imagenet("resnet50/V2", "resnet50", "resnet50-11ad3fa6.pth", "11ad3fa6", 232, 80.858),
        imagenet("resnet101/V1", "resnet101", "resnet101-63fe2227.pth", "63fe2227", 256, 77.374),
        imagenet("resnet101/V2", "resnet101", "resnet101-cd907fc2.pth", "cd907fc2", 232, 81.886),
        imagenet("resnet152/V1", "resnet152", "resnet152-394f9c45.pth", "394f9c45", 256, 78.312),
        imagenet("resnet152/V2", "resnet152", "resnet152-f82ba261.pth", "f82ba261", 232, 82.284),
        Preset {
            crop: 299,
            mean: [0.5; 3],
            std: [0.5; 3],
            ..imagenet(
                "inception_v3/V1",
                "inception_v3",
                "inception_v3_google-0cc3c7bd.pth",
                "0cc3c7bd",
                342,
                77.294,
            )
        },
        imagenet("alexnet/V1", "alexnet", "alexnet-owt-7be5be79.pth", "7be5be79", 256, 56.522),
    ];
    LIST
}

/// The preset of this name: `resnet50/V2`, or `resnet50` for the network's default.
///
/// # Errors
/// For an unknown name; the error lists the known names, most similar first.
pub fn preset(name: &str) -> Result<&'static Preset, NnError> {
    let found = presets().iter().find(|preset| preset.name == name || preset.backbone == name);
    found.ok_or_else(|| {
        NnError::unknown("weights", name, presets().iter().map(|preset| preset.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_contains_its_digest_prefix() {
        for preset in presets() {
            assert!(
                preset.file.ends_with(&format!("-{}.pth", preset.sha256_prefix)),
                "{}",
                preset.file
            );
            assert_eq!(preset.name.split('/').next(), Some(preset.backbone));
            assert!(preset.resize >= preset.crop);
        }
    }

    #[test]
    fn a_name_without_version_is_the_first_version() {
        assert_eq!(preset("resnet50").unwrap().name, "resnet50/V1");
        assert_eq!(preset("resnet50/V2").unwrap().resize, 232);
        let url = preset("alexnet").unwrap().url(BASE);
        assert_eq!(url, "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth");
        let message = preset("resnet50/V3").unwrap_err().to_string();
        assert!(
            message.contains("no weights has the name `resnet50/V3`; there are resnet50/V"),
            "{message}"
        );
    }
}
