//! Small image files for tests.

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use std::io::Cursor;

pub(crate) fn file(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG of one color.
pub(crate) fn png(width: u32, height: u32, color: [u8; 3]) -> Vec<u8> {
    file(&RgbImage::from_pixel(width, height, Rgb(color)).into(), ImageFormat::Png)
}

/// A dark left half and a bright right half, both brighter towards the bottom.
pub(crate) fn halves(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| {
        Luma([if x < width / 2 { 20 } else { 150 } + (y * 90 / height) as u8])
    })
}

/// [`halves`] as a color JPEG.
pub(crate) fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let image = DynamicImage::from(halves(width, height)).into_rgb8();
    JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(&image).unwrap();
    bytes
}

/// [`jpeg`] with an EXIF orientation (1 to 8).
pub(crate) fn oriented_jpeg(width: u32, height: u32, orientation: u8) -> Vec<u8> {
    let plain = jpeg(width, height);
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let mut bytes = plain[..2].to_vec();
    bytes.extend([0xff, 0xe1]);
    bytes.extend((exif.len() as u16 + 2).to_be_bytes());
    bytes.extend(exif);
    bytes.extend(&plain[2..]);
    bytes
}

/// A TIFF of one strip, its directory first: little-endian or not, classic or BigTIFF.
pub(crate) fn tiff(
    is_big_endian: bool,
    is_big_tiff: bool,
    tags: &[(u16, &[u64])],
    data: &[u8],
) -> Vec<u8> {
    let number = |value: u64, length: usize| {
        let bytes = value.to_le_bytes()[..length].to_vec();
        if is_big_endian { bytes.into_iter().rev().collect() } else { bytes }
    };
    let (wide, step) = if is_big_tiff { (8, 20) } else { (4, 12) };
    let mut tags: Vec<(u16, Vec<u64>)> =
        tags.iter().map(|(tag, values)| (*tag, values.to_vec())).collect();
    let has = |tags: &[(u16, Vec<u64>)], tag| tags.iter().any(|(other, _)| *other == tag);
    for (tag, value) in [(273, 0), (279, data.len() as u64)] {
        if !has(&tags, tag) {
            tags.push((tag, vec![value]));
        }
    }
    tags.sort();
    let start = if is_big_tiff { 16 } else { 8 };
    let counter = if is_big_tiff { 8 } else { 2 };
    let values_at = start + counter + tags.len() * step + wide;
    let values: usize =
        tags.iter().filter(|(_, all)| all.len() * 4 > wide).map(|(_, all)| all.len() * 4).sum();
    if let Some((_, offset)) = tags.iter_mut().find(|(tag, all)| *tag == 273 && all == &[0]) {
        *offset = vec![(values_at + values) as u64];
    }
    let mut file = if is_big_endian { b"MM".to_vec() } else { b"II".to_vec() };
    file.extend(number(if is_big_tiff { 43 } else { 42 }, 2));
    if is_big_tiff {
        file.extend(number(8, 2));
        file.extend(number(0, 2));
    }
    file.extend(number(start as u64, wide));
    file.extend(number(tags.len() as u64, counter));
    let mut area = Vec::new();
    for (tag, all) in &tags {
        file.extend(number(u64::from(*tag), 2));
        file.extend(number(4, 2));
        file.extend(number(all.len() as u64, wide));
        let list: Vec<u8> = all.iter().flat_map(|&value| number(value, 4)).collect();
        if list.len() <= wide {
            file.extend(list.iter().copied().chain([0; 8]).take(wide));
        } else {
            file.extend(number((values_at + area.len()) as u64, wide));
            area.extend(list);
        }
    }
    file.extend(number(0, wide));
    file.extend(area);
    file.extend(data);
    file
}
