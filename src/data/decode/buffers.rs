//! Images from flat lists of values, row by row: gray, gray with alpha, RGB, or RGB with alpha.

use image::{DynamicImage, ImageBuffer};

/// Of 8 bits per channel. None if the number of values is wrong.
pub(super) fn of_bytes(
    bytes: Vec<u8>,
    width: u32,
    height: u32,
    channels: usize,
) -> Option<DynamicImage> {
    Some(match channels {
        1 => DynamicImage::ImageLuma8(ImageBuffer::from_raw(width, height, bytes)?),
        2 => DynamicImage::ImageLumaA8(ImageBuffer::from_raw(width, height, bytes)?),
        3 => DynamicImage::ImageRgb8(ImageBuffer::from_raw(width, height, bytes)?),
        _ => DynamicImage::ImageRgba8(ImageBuffer::from_raw(width, height, bytes)?),
    })
}

/// Of 16 bits per channel. None if the number of values is wrong.
pub(super) fn of_words(
    words: Vec<u16>,
    width: u32,
    height: u32,
    channels: usize,
) -> Option<DynamicImage> {
    Some(match channels {
        1 => DynamicImage::ImageLuma16(ImageBuffer::from_raw(width, height, words)?),
        2 => DynamicImage::ImageLumaA16(ImageBuffer::from_raw(width, height, words)?),
        3 => DynamicImage::ImageRgb16(ImageBuffer::from_raw(width, height, words)?),
        _ => DynamicImage::ImageRgba16(ImageBuffer::from_raw(width, height, words)?),
    })
}
