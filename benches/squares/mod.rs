//! The stored squares of benchmarks: 224 x 224 pixels, the center of an image.

use pipe::data::{Fit, Interpolation, Preprocessing};

/// Side in pixels.
pub(crate) const SIDE: u32 = 224;

pub(crate) fn preprocessing() -> Preprocessing {
    Preprocessing {
        resize: SIDE,
        crop: SIDE,
        fit: Fit::Crop,
        interpolation: Interpolation::Bilinear,
        mean: [0.5; 3],
        std: [0.5; 3],
        decoding: Default::default(),
    }
}
