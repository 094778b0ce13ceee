//! Heat maps of images: where the evidence for a class is (Grad-CAM), and the same laid over the
//! image. Takes the squares of the tensor cache, which decoding makes of image files too.

use super::{Model, ModelError};
use crate::data::Preprocessing;
use crate::data::normalization::network_input;
use crate::nn::ClassMaps;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

/// Smallest side of an overlay, in pixels: smaller images are enlarged.
const SIDE: u32 = 224;

/// Share of the color where there is no evidence, and where there is most of it.
const OPACITY: [f32; 2] = [0.35, 0.65];

/// Where in an image the evidence for a class is, as coarse as the network's feature map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeatMap {
    width: usize,
    height: usize,
    /// Row by row; 0 for none to 1 for the strongest. All 0 where nothing in the image speaks for
    /// the class.
    values: Vec<f32>,
}

impl Model {
    /// Checks that the network has a feature map to explain its answers by.
    ///
    /// # Errors
    /// When it has none of several pixels.
    pub(crate) fn check_explainable(&self) -> Result<(), ModelError> {
        if self.network.explained_map().is_some() {
            return Ok(());
        }
        let (backbone, side) = (&self.info.backbone, self.preprocessing().crop);
        Err(ModelError::new(format!(
            "the model can't be explained: {backbone} has no feature map of several pixels for images of {side} x {side}"
        )))
    }

    /// The heat map of each stored square (`resize * resize * 3` bytes of RGB, as decoded or as a
    /// record of the tensor cache) for its class, an index into [`classes`](Self::classes). It is the
    /// same bytes whatever the other images are, since each runs alone.
    ///
    /// # Errors
    /// As for [`check_explainable`](Self::check_explainable), and when a class or a length doesn't
    /// match, or memory can't be allocated.
    pub(crate) fn explain<S: AsRef<[u8]>>(
        &self,
        squares: &[S],
        classes: &[usize],
    ) -> Result<Vec<HeatMap>, ModelError> {
        self.check_explainable()?;
        let side = self.preprocessing().resize as usize;
        if squares.iter().any(|square| square.as_ref().len() != side * side * 3) {
            return Err(ModelError::new(format!("the images aren't squares of {side} x {side}")));
        }
        let mut maps = Vec::with_capacity(squares.len());
        for (square, &class) in squares.iter().zip(classes) {
            let image = network_input(square.as_ref(), self.preprocessing());
            let ClassMaps { width, height, values } =
                self.network.class_maps(&image, 1, &[class])?;
            maps.push(HeatMap { width, height, values: scaled(&values) });
        }
        Ok(maps)
    }
}

/// Values of at least 0 as shares of the largest one.
fn scaled(values: &[f32]) -> Vec<f32> {
    let largest = values.iter().copied().fold(0.0, f32::max);
    let share = |value: &f32| if largest > 0.0 { value / largest } else { 0.0 };
    values.iter().map(share).collect()
}

impl HeatMap {
    /// The value at a place, given as shares (0 to 1) of the width and the height: bilinear between
    /// the centers of the map's pixels.
    fn at(&self, x: f32, y: f32) -> f32 {
        let along = |place: f32, count: usize| {
            let place = (place * count as f32 - 0.5).clamp(0.0, (count - 1) as f32);
            let first = place as usize;
            (first, (first + 1).min(count - 1), place - first as f32)
        };
        let (left, right, x) = along(x, self.width);
        let (top, bottom, y) = along(y, self.height);
        let value = |row: usize, column: usize| self.values[row * self.width + column];
        let between = |row: usize| value(row, left) * (1.0 - x) + value(row, right) * x;
        between(top) * (1.0 - y) + between(bottom) * y
    }

    /// The network's view of a stored square (its center crop) under the heat map, from dark violet
    /// (no evidence) over orange to pale yellow (the strongest). At least 224 pixels wide and high.
    /// `None` if the square's length doesn't match.
    pub(crate) fn overlay(&self, square: &[u8], preprocessing: &Preprocessing) -> Option<RgbImage> {
        let Preprocessing { resize, crop, .. } = *preprocessing;
        let square = RgbImage::from_raw(resize, resize, square.to_vec())?;
        let offset = preprocessing.crop_offset();
        let view = imageops::crop_imm(&square, offset, offset, crop, crop).to_image();
        let side = crop.max(SIDE);
        let mut view = match side == crop {
            true => view,
            false => imageops::resize(&view, side, side, FilterType::Triangle),
        };
        for (x, y, pixel) in view.enumerate_pixels_mut() {
            let [x, y] = [x, y].map(|place| (place as f32 + 0.5) / side as f32);
            let heat = self.at(x, y);
            *pixel = blended(*pixel, color(heat), OPACITY[0] + (OPACITY[1] - OPACITY[0]) * heat);
        }
        Some(view)
    }
}

fn blended(Rgb(below): Rgb<u8>, above: [f32; 3], opacity: f32) -> Rgb<u8> {
    let channel = |channel: usize| {
        let below = f32::from(below[channel]);
        (below + (above[channel] - below) * opacity).round().clamp(0.0, 255.0) as u8
    };
    Rgb([0, 1, 2].map(channel))
}

/// The color map "inferno" of matplotlib, whose lightness rises evenly, as a polynomial of degree 6;
/// RGB in 0..=255 for a value in 0..=1.
fn color(value: f32) -> [f32; 3] {
    const COEFFICIENTS: [[f32; 3]; 7] = [
        [0.0002, 0.0017, -0.0195],
        [0.1065, 0.564, 3.9327],
        [11.6025, -3.9729, -15.9424],
        [-41.704, 17.4364, 44.3541],
        [77.1629, -33.4024, -81.8073],
        [-71.3194, 32.6261, 73.2095],
        [25.1311, -12.2427, -23.0703],
    ];
    let channel = |channel: usize| {
        let sum = COEFFICIENTS.iter().rev().fold(0.0, |sum, row| sum * value + row[channel]);
        (sum * 255.0).clamp(0.0, 255.0)
    };
    [0, 1, 2].map(channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quarters() -> HeatMap {
        HeatMap { width: 2, height: 2, values: vec![1.0, 0.0, 0.5, 0.0] }
    }

    #[test]
    fn values_between_the_centers_of_pixels_are_bilinear() {
        let map = quarters();
        for (x, y, value) in [
            (0.0, 0.0, 1.0),
            (0.25, 0.25, 1.0),
            (0.75, 0.25, 0.0),
            (0.5, 0.25, 0.5),
            (0.25, 0.5, 0.75),
            (0.5, 0.5, 0.375),
            (0.1, 1.0, 0.5),
            (1.0, 1.0, 0.0),
        ] {
            assert!((map.at(x, y) - value).abs() < 1e-6, "{x} {y} {}", map.at(x, y));
        }
    }

    #[test]
    fn colors_are_those_of_inferno_and_their_lightness_rises() {
        let near = |value: f32, [r, g, b]: [f32; 3]| {
            let found = color(value);
            let distance = [found[0] - r, found[1] - g, found[2] - b].map(f32::abs);
            assert!(distance.iter().all(|&one| one < 8.0), "{value}: {found:?}");
        };
        near(0.0, [0.0, 0.0, 4.0]);
        near(0.25, [87.0, 16.0, 110.0]);
        near(0.5, [188.0, 55.0, 84.0]);
        near(0.75, [249.0, 142.0, 9.0]);
        near(1.0, [252.0, 255.0, 164.0]);
        let lightness = |value: f32| {
            let [r, g, b] = color(value);
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let steps: Vec<f32> = (0..=20).map(|step| lightness(step as f32 / 20.0)).collect();
        assert!(steps.windows(2).all(|pair| pair[0] < pair[1] + 0.5), "{steps:?}");
    }

    #[test]
    fn no_evidence_stays_no_evidence() {
        assert_eq!(scaled(&[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(scaled(&[0.5, 0.0, 2.0]), [0.25, 0.0, 1.0]);
    }

    #[test]
    fn an_overlay_shows_the_center_crop_brighter_where_the_evidence_is() {
        let preprocessing = super::super::tests::info().preprocessing;
        let square = vec![90; 40 * 40 * 3];
        let overlay = quarters().overlay(&square, &preprocessing).unwrap();
        assert_eq!(overlay.dimensions(), (224, 224));
        let sum = |x, y| overlay.get_pixel(x, y).0.iter().map(|&one| u32::from(one)).sum::<u32>();
        assert!(sum(40, 40) > sum(40, 200) && sum(40, 200) > sum(200, 40));
        assert!(quarters().overlay(&square[1..], &preprocessing).is_none());
    }
}
