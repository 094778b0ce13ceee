//! Decodes image files of any supported format. The format is detected from the content, never from
//! the name; dimensions are checked before decoding; deviations (lenient decoding, EXIF
//! orientation, …) are reported as [`Notes`].

use super::DataError;
use super::preprocessing::{Geometry, Preprocessing};
use super::resize::{self, Pixels};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// Raised whenever the same bytes decode to different pixels, so that earlier records are not
/// reused.
pub const VERSION: u32 = 1;

/// Largest number of pixels that is decoded: a file of a few kilobytes can declare billions.
pub const MAX_PIXELS: u64 = 100_000_000;
/// Longest side that is decoded.
pub const MAX_SIDE: u32 = 50_000;
/// Bytes that a decoder may allocate in addition to the pixels.
const MAX_ALLOCATION: u64 = 1 << 30;

/// Something unusual about an image or its decoding: one bit of [`Notes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The file is damaged or truncated; as much as possible was decoded.
    Lenient,
    /// Rotated or flipped according to its EXIF orientation.
    Oriented,
    /// Grayscale.
    Gray,
    /// Has transparent pixels, which were blended with white.
    Alpha,
    /// Has more than 8 bits per channel.
    Deep,
    /// Has CMYK colors.
    Cmyk,
}

/// Every note with its name.
pub const NOTES: [(Note, &str); 6] = [
    (Note::Lenient, "lenient"),
    (Note::Oriented, "oriented"),
    (Note::Gray, "gray"),
    (Note::Alpha, "alpha"),
    (Note::Deep, "deep"),
    (Note::Cmyk, "cmyk"),
];

/// A set of [`Note`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes(pub u32);

impl Notes {
    fn add(&mut self, note: Note) {
        self.0 |= 1 << note as u32;
    }

    pub fn has(self, note: Note) -> bool {
        self.0 & (1 << note as u32) != 0
    }

    /// The names, separated by spaces.
    pub fn words(self) -> String {
        let words: Vec<&str> =
            NOTES.iter().filter(|(note, _)| self.has(*note)).map(|(_, word)| *word).collect();
        words.join(" ")
    }
}

/// An image resized for the tensor cache.
pub struct SquareImage {
    /// `size * size * 3` bytes of RGB, row by row.
    pub pixels: Vec<u8>,
    /// Width of the original image, after orientation.
    pub width: u32,
    /// Height of the original image, after orientation.
    pub height: u32,
    /// The detected format: "jpeg".
    pub format: &'static str,
    pub notes: Notes,
}

/// An image at full size.
pub struct FullImage {
    /// After orientation.
    pub pixels: Pixels,
    /// The detected format: "jpeg".
    pub format: &'static str,
    pub notes: Notes,
}

/// Decodes and resizes an image file. Preprocessing and prediction share this function.
///
/// # Errors
/// [`DataError::Unreadable`] with the reason if the bytes can't be decoded.
pub fn preprocess(bytes: &[u8], preprocessing: &Preprocessing) -> Result<SquareImage, DataError> {
    to_square(bytes, &preprocessing.geometry())
}

/// As [`preprocess`], from the geometry.
pub fn to_square(bytes: &[u8], geometry: &Geometry) -> Result<SquareImage, DataError> {
    let FullImage { pixels, format, notes } = decode(bytes)?;
    let square = resize::to_square(&pixels, geometry)?;
    Ok(SquareImage { pixels: square, width: pixels.width, height: pixels.height, format, notes })
}

/// Decodes an image at full size.
pub fn decode(bytes: &[u8]) -> Result<FullImage, DataError> {
    // A panic in a third-party decoder means that the image is unreadable.
    std::panic::catch_unwind(|| decode_inside(bytes))
        .unwrap_or_else(|_| Err(DataError::Unreadable("the decoder panicked".into())))
}

fn decode_inside(bytes: &[u8]) -> Result<FullImage, DataError> {
    if bytes.is_empty() {
        return Err(DataError::Unreadable("the file is empty".into()));
    }
    if bytes.iter().all(|&byte| byte == 0) {
        return Err(DataError::Unreadable("the file contains only zeros".into()));
    }
    let format = image::guess_format(bytes)
        .map_err(|_| DataError::Unreadable("it is not an image of a supported format".into()))?;
    let full = match format {
        ImageFormat::Jpeg => jpeg(bytes)?,
        other => with_image_crate(bytes, other)?,
    };
    check_size(full.pixels.width, full.pixels.height)?;
    Ok(full)
}

fn check_size(width: u32, height: u32) -> Result<(), DataError> {
    let reason = match (width, height) {
        (0, _) | (_, 0) => "it has no pixels".to_owned(),
        (w, h) if w > MAX_SIDE || h > MAX_SIDE || u64::from(w) * u64::from(h) > MAX_PIXELS => {
            format!(
                "it declares {w} x {h} pixels, above the limit of {} million",
                MAX_PIXELS / 1_000_000
            )
        }
        _ => return Ok(()),
    };
    Err(DataError::Unreadable(reason))
}

/// Decodes a JPEG, in strict mode first. The `image` crate uses the same decoder in lenient mode
/// only and doesn't report truncated files.
fn jpeg(bytes: &[u8]) -> Result<FullImage, DataError> {
    jpeg_once(bytes, true).or_else(|strict| {
        let mut full = jpeg_once(bytes, false).map_err(|_| strict)?;
        full.notes.add(Note::Lenient);
        Ok(full)
    })
}

fn jpeg_once(bytes: &[u8], strict: bool) -> Result<FullImage, DataError> {
    let failed =
        |error: &dyn std::fmt::Debug| DataError::Unreadable(one_line(&format!("{error:?}")));
    let options = DecoderOptions::default()
        .set_strict_mode(strict)
        .set_max_width(MAX_SIDE as usize)
        .set_max_height(MAX_SIDE as usize);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| failed(&error))?;
    let (width, height) =
        decoder.dimensions().ok_or_else(|| DataError::Unreadable("it has no size".into()))?;
    let (width, height) = (width as u32, height as u32);
    check_size(width, height)?;
    let mut notes = Notes::default();
    let (space, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma | ColorSpace::LumaA) => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    if channels == 1 {
        notes.add(Note::Gray);
    }
    if matches!(decoder.input_colorspace(), Some(ColorSpace::CMYK | ColorSpace::YCCK)) {
        notes.add(Note::Cmyk);
    }
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let decoded = decoder.decode().map_err(|error| failed(&error))?;
    if decoded.len() != width as usize * height as usize * channels {
        return Err(DataError::Unreadable("its decoded size differs from its header".into()));
    }
    let pixels = Pixels { bytes: decoded, width, height, channels };
    let pixels = match orientation {
        None | Some(Orientation::NoTransforms) => pixels,
        Some(orientation) => {
            notes.add(Note::Oriented);
            oriented(pixels, orientation)?
        }
    };
    Ok(FullImage { pixels, format: "jpeg", notes })
}

fn oriented(pixels: Pixels, orientation: Orientation) -> Result<Pixels, DataError> {
    let Pixels { bytes, width, height, channels } = pixels;
    let mut image = if channels == 1 {
        image::GrayImage::from_raw(width, height, bytes).map(DynamicImage::ImageLuma8)
    } else {
        image::RgbImage::from_raw(width, height, bytes).map(DynamicImage::ImageRgb8)
    }
    .ok_or_else(|| DataError::Unreadable("its decoded size differs from its header".into()))?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width(), image.height());
    Ok(Pixels { bytes: image.into_bytes(), width, height, channels })
}

/// Decodes other formats than JPEG.
fn with_image_crate(bytes: &[u8], format: ImageFormat) -> Result<FullImage, DataError> {
    let failed = |error: image::ImageError| DataError::Unreadable(one_line(&error.to_string()));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.no_limits();
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOCATION);
    decoder.set_limits(limits).map_err(failed)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    let mut notes = Notes::default();
    if orientation != Orientation::NoTransforms {
        image.apply_orientation(orientation);
        notes.add(Note::Oriented);
    }
    let name = format.extensions_str().first().copied().unwrap_or("unknown");
    Ok(FullImage { pixels: flat(image, &mut notes), format: name, notes })
}

/// Converts to 8 bits per channel, gray or RGB, without transparency.
fn flat(image: DynamicImage, notes: &mut Notes) -> Pixels {
    let color = image.color();
    if color.bytes_per_pixel() > color.channel_count() {
        notes.add(Note::Deep);
    }
    if !color.has_color() {
        notes.add(Note::Gray);
    }
    let (width, height) = (image.width(), image.height());
    if color.has_alpha() {
        let image = image.into_rgba8();
        if image.pixels().any(|pixel| pixel.0[3] != 255) {
            notes.add(Note::Alpha);
        }
        let bytes = image.pixels().flat_map(|pixel| on_white(pixel.0)).collect();
        return Pixels { bytes, width, height, channels: 3 };
    }
    if color.has_color() {
        Pixels { bytes: image.into_rgb8().into_raw(), width, height, channels: 3 }
    } else {
        Pixels { bytes: image.into_luma8().into_raw(), width, height, channels: 1 }
    }
}

/// Blends a pixel with white, rounding to nearest.
fn on_white([red, green, blue, alpha]: [u8; 4]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    [red, green, blue]
        .map(|value| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}

/// A decoder's message as one line of bounded length, for tables.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(200).collect()
}

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod tests;
