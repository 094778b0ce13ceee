//! Resizes and crops an image to the stored square in one pass: the crop is the box that the resize
//! reads from.

use super::DataError;
use super::preprocessing::{Fit, Geometry, Interpolation};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use std::cell::RefCell;

thread_local! {
    /// Reuses its scratch buffers between images.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// Pixels of 8 bits per channel, row by row, gray or RGB.
pub struct Pixels {
    /// `width * height * channels` bytes.
    pub bytes: Vec<u8>,
    /// Pixels in a row; at least 1.
    pub width: u32,
    /// Rows; at least 1.
    pub height: u32,
    /// 1 or 3.
    pub channels: usize,
}

/// Borrowed pixels, as in [`Pixels`].
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) channels: usize,
}

impl Pixels {
    pub(super) fn view(&self) -> View<'_> {
        let Pixels { ref bytes, width, height, channels } = *self;
        View { bytes, width, height, channels }
    }
}

impl View<'_> {
    /// All of it as a box: left, top, width and height.
    pub(super) fn whole(self) -> [f64; 4] {
        [0.0, 0.0, f64::from(self.width), f64::from(self.height)]
    }
}

/// A box (left, top, width, height) of an image, resized to `width * height * 3` bytes of RGB.
pub(super) fn to_rgb(
    image: View,
    crop_box: [f64; 4],
    [width, height]: [u32; 2],
) -> Result<Vec<u8>, DataError> {
    let resized = resized(image, crop_box, width, height, Interpolation::Bilinear)?;
    Ok(with_colors(resized, image.channels))
}

fn with_colors(bytes: Vec<u8>, channels: usize) -> Vec<u8> {
    if channels == 1 { bytes.into_iter().flat_map(|level| [level; 3]).collect() } else { bytes }
}

/// The stored square of an image: `size * size * 3` bytes of RGB.
pub(super) fn to_square(pixels: &Pixels, geometry: &Geometry) -> Result<Vec<u8>, DataError> {
    let placement = geometry.placement(pixels.width, pixels.height);
    let [x, y, width, height] = placement.target;
    let resized =
        resized(pixels.view(), placement.crop_box, width, height, geometry.interpolation)?;
    let color = with_colors(resized, pixels.channels);
    if geometry.fit != Fit::Pad {
        return Ok(color);
    }
    let size = geometry.size as usize;
    let mut square: Vec<u8> =
        geometry.padding.iter().copied().cycle().take(size * size * 3).collect();
    let row = width as usize * 3;
    for (index, line) in color.chunks_exact(row).enumerate() {
        let start = ((y as usize + index) * size + x as usize) * 3;
        square[start..start + row].copy_from_slice(line);
    }
    Ok(square)
}

fn resized(
    image: View,
    crop_box: [f64; 4],
    width: u32,
    height: u32,
    interpolation: Interpolation,
) -> Result<Vec<u8>, DataError> {
    match image.channels {
        1 => resized_as::<U8>(image, crop_box, width, height, interpolation),
        _ => resized_as::<U8x3>(image, crop_box, width, height, interpolation),
    }
}

/// The library's untyped interface instantiates its kernels for every pixel type, which doubled
/// this crate's build time; only two are needed.
fn resized_as<P: PixelTrait>(
    image: View,
    [left, top, box_width, box_height]: [f64; 4],
    width: u32,
    height: u32,
    interpolation: Interpolation,
) -> Result<Vec<u8>, DataError> {
    let failed =
        |error: &dyn std::fmt::Display| DataError::Unreadable(format!("failed to resize: {error}"));
    let input = TypedImageRef::<P>::from_buffer(image.width, image.height, image.bytes)
        .map_err(|e| failed(&e))?;
    let mut bytes = vec![0; width as usize * height as usize * P::size()];
    let mut output =
        TypedImage::<P>::from_buffer(width, height, &mut bytes).map_err(|error| failed(&error))?;
    let filter = match interpolation {
        Interpolation::Bilinear => FilterType::Bilinear,
        Interpolation::Bicubic => FilterType::CatmullRom,
    };
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .crop(left, top, box_width, box_height);
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize_typed(&input, &mut output, &options))
        .map_err(|error| failed(&error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
