//! Preprocessing parameters, and the geometry that follows from them: torchvision's `Resize` and
//! `CenterCrop`, divided into the square that is stored and the center crop at load time. Contains
//! arithmetic only; no pixels.

use super::decode::DecodeOptions;
use crate::config::choices;
use serde::{Deserialize, Serialize};

choices! {
    /// How an image that isn't square becomes square.
    #[derive(Default)]
    pub enum Fit {
        /// The shorter side is resized, the center kept.
        #[default]
        Crop = "crop",
        /// The longer side is resized, the rest filled with the mean color.
        Pad = "pad",
        /// Both sides are resized.
        Stretch = "stretch",
    }
}

choices! {
    /// The filter of a resize, antialiased as PIL's: its support widens with the scale.
    #[derive(Default)]
    pub enum Interpolation {
        /// A triangle of one source pixel on each side.
        #[default]
        Bilinear = "bilinear",
        /// Catmull and Rom's cubic (a = -0.5), two source pixels on each side.
        Bicubic = "bicubic",
    }
}

/// From a decoded image to a network's input.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Preprocessing {
    /// Side of the stored square, in pixels.
    pub resize: u32,
    /// Side of the network's input, in pixels; at most `resize`.
    pub crop: u32,
    /// How an image that isn't square is made square.
    pub fit: Fit,
    pub interpolation: Interpolation,
    /// Per RGB channel, for pixels in 0..1: normalized values are `(pixel - mean) / std`.
    pub mean: [f32; 3],
    pub std: [f32; 3],
    #[serde(default, skip_serializing_if = "DecodeOptions::is_default")]
    pub decoding: DecodeOptions,
}

/// `input.json`: the preprocessing and the classes of a tensor cache.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct InputInfo {
    pub preprocessing: Preprocessing,
    /// Names of the classes; a class is its index here.
    pub classes: Vec<String>,
}

/// The part of [`Preprocessing`] that the stored bytes depend on. Its `Debug` output enters the
/// records' fingerprint.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Side of the stored square.
    pub size: u32,
    /// Side of the center crop, which the stored square contains at torchvision's position.
    pub crop: u32,
    /// How an image that isn't square is made square.
    pub fit: Fit,
    pub interpolation: Interpolation,
    /// The padding color, for [`Fit::Pad`].
    pub padding: [u8; 3],
    pub decoding: DecodeOptions,
}

/// The part of an image that is resized, and its position in the stored square.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Placement {
    /// Left, top, width and height in pixels of the image; may be fractional.
    pub crop_box: [f64; 4],
    /// Left, top, width and height in the stored square; all of it except for [`Fit::Pad`].
    pub target: [u32; 4],
}

impl Preprocessing {
    /// Offset of the center crop in the stored square: torchvision's, rounded half to even.
    pub fn crop_offset(&self) -> u32 {
        center_offset(self.resize, self.crop)
    }

    pub fn geometry(&self) -> Geometry {
        let padding = match self.fit {
            Fit::Pad => self.mean.map(|mean| (mean * 255.0).round().clamp(0.0, 255.0) as u8),
            Fit::Crop | Fit::Stretch => [0; 3],
        };
        Geometry {
            size: self.resize,
            crop: self.crop,
            fit: self.fit,
            interpolation: self.interpolation,
            padding,
            decoding: self.decoding,
        }
    }
}

/// `round((side - crop) / 2)`, half to even as in Python; 0 if the crop isn't smaller.
pub(super) fn center_offset(side: u32, crop: u32) -> u32 {
    (f64::from(side.saturating_sub(crop)) / 2.0).round_ties_even() as u32
}

/// The length of the other side when a side is resized from `from` to `to`: torchvision's `int(to *
/// other / from)`, at least 1.
fn scaled(other: u32, from: u32, to: u32) -> u32 {
    let exact = u64::from(to) * u64::from(other) / u64::from(from.max(1));
    exact.clamp(1, u64::from(u32::MAX)) as u32
}

impl Geometry {
    /// The placement of an image of `width` x `height` pixels (both at least 1).
    ///
    /// For [`Fit::Crop`] the shorter side becomes `size`, the longer one L = `int(size * long /
    /// short)`, and the stored square begins at `round((L - crop) / 2) - round((size - crop) / 2)`
    /// of L, so that a crop at [`Preprocessing::crop_offset`] lands where torchvision's
    /// `CenterCrop` of the whole resized image does. Both are one resize from a fractional box of
    /// the image, since output pixel i of L is centered on `(i + 0.5) * long / L`.
    pub fn placement(&self, width: u32, height: u32) -> Placement {
        let whole = [0.0, 0.0, f64::from(width), f64::from(height)];
        let square = [0, 0, self.size, self.size];
        match self.fit {
            Fit::Stretch => Placement { crop_box: whole, target: square },
            Fit::Pad => {
                let long = width.max(height);
                let inner = [width, height].map(|side| scaled(side, long, self.size));
                let [x, y] = inner.map(|side| center_offset(self.size, side));
                Placement { crop_box: whole, target: [x, y, inner[0], inner[1]] }
            }
            Fit::Crop => {
                let short = width.min(height);
                let [x, w] = self.kept(width, scaled(width, short, self.size));
                let [y, h] = self.kept(height, scaled(height, short, self.size));
                Placement { crop_box: [x, y, w, h], target: square }
            }
        }
    }

    /// The share of an image's area that the stored square doesn't show, in 0..1.
    pub fn lost(&self, width: u32, height: u32) -> f64 {
        let [_, _, shown_width, shown_height] = self.placement(width, height).crop_box;
        let area = f64::from(width) * f64::from(height);
        (1.0 - shown_width * shown_height / area).clamp(0.0, 1.0)
    }

    /// The range `[from, length]` of an image's side that the stored square shows when the side is
    /// resized to `scaled`.
    fn kept(&self, side: u32, scaled: u32) -> [f64; 2] {
        let offset = center_offset(scaled, self.crop) - center_offset(self.size, self.crop);
        let pixel = f64::from(side) / f64::from(scaled);
        let from = f64::from(offset) * pixel;
        [from, (f64::from(self.size) * pixel).min(f64::from(side) - from)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn geometry(size: u32, crop: u32, fit: Fit) -> Geometry {
        Geometry {
            size,
            crop,
            fit,
            interpolation: Interpolation::Bilinear,
            padding: [0; 3],
            decoding: DecodeOptions::default(),
        }
    }

    /// torchvision's Resize(size) and CenterCrop(crop) along one side: resized length and offset of
    /// the crop in it.
    fn torchvision(side: u32, short: u32, size: u32, crop: u32) -> (u32, i64) {
        let resized =
            if side == short { size } else { (f64::from(size * side) / f64::from(short)) as u32 };
        let half = f64::from(resized - crop) / 2.0;
        let floor = half.floor();
        let even = if half - floor == 0.5 {
            floor + f64::from(floor as i64 % 2 == 1)
        } else {
            half.round()
        };
        (resized, even as i64)
    }

    proptest! {
        #[test]
        fn both_crops_together_are_torchvisions(
            width in 1u32..3000, height in 1u32..3000, size in 1u32..400, smaller in 0u32..100,
        ) {
            let crop = size.saturating_sub(smaller).max(1);
            let placement = geometry(size, crop, Fit::Crop).placement(width, height);
            let load = i64::from(center_offset(size, crop));
            for (axis, side) in [width, height].into_iter().enumerate() {
                let (resized, offset) = torchvision(side, width.min(height), size, crop);
                let pixel = f64::from(side) / f64::from(resized);
                let stored = placement.crop_box[axis] / pixel;
                prop_assert!((stored - stored.round()).abs() < 1e-6);
                prop_assert_eq!(stored.round() as i64 + load, offset);
                prop_assert!((placement.crop_box[axis + 2] - f64::from(size) * pixel).abs() < 1e-6);
                prop_assert!(placement.crop_box[axis] >= 0.0);
                prop_assert!(placement.crop_box[axis] + placement.crop_box[axis + 2] <= f64::from(side));
            }
        }

        #[test]
        fn padding_keeps_the_whole_image_inside(width in 1u32..5000, height in 1u32..5000, size in 1u32..400) {
            let [x, y, w, h] = geometry(size, size, Fit::Pad).placement(width, height).target;
            prop_assert!(w >= 1 && h >= 1 && x + w <= size && y + h <= size);
            prop_assert_eq!(w.max(h), size);
        }
    }

    #[test]
    fn a_crop_loses_what_exceeds_the_square() {
        let lost = |fit, width, height| geometry(224, 224, fit).lost(width, height);
        assert!((lost(Fit::Crop, 800, 600) - 0.25).abs() < 0.005);
        assert!((lost(Fit::Crop, 100, 400) - 0.75).abs() < 0.005);
        assert_eq!([lost(Fit::Pad, 800, 600), lost(Fit::Stretch, 9, 600)], [0.0; 2]);
        assert_eq!(lost(Fit::Crop, 77, 77), 0.0);
    }

    #[test]
    fn inception_crops_where_torchvision_does() {
        // CenterCrop(299) of a 342-pixel side begins at round(21.5) = 22, half to even.
        assert_eq!(center_offset(342, 299), 22);
        assert_eq!(center_offset(256, 224), 16);
        assert_eq!(center_offset(232, 224), 4);
    }
}
