//! Decodes image files of any supported format. The format is detected from the content, never from
//! the name; dimensions are checked before decoding; deviations (missing rows, EXIF orientation, …)
//! are reported as [`Notes`]. One file per format; this one has what they share: orientation,
//! damage, transparency and depth.

mod bmp;
mod budget;
mod buffers;
mod bytes;
mod gif;
mod glance;
mod jpeg;
mod kind;
mod options;
mod orientation;
mod png;
mod tiff;
mod webp;

pub use glance::{Glance, glance};
pub use options::{Background, DecodeOptions, OnDamaged};

use super::DataError;
use super::preprocessing::{Geometry, Preprocessing};
use super::resize::{self, Pixels};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use kind::Format;

/// Raised whenever the same bytes decode to different pixels, so that earlier records are not
/// reused.
///
/// - 2: images of which more than a tenth is missing are rejected; damaged PNG, GIF, BMP, WebP and
///   TIFF files are decoded as far as possible; more kinds of TIFF; premultiplied alpha.
/// - 3: JPEG files whose data ends before their last row, PNG files with a wrong checksum and
///   progressive JPEG files that are cut short follow the rule for damaged images.
pub const VERSION: u32 = 3;

/// Largest number of pixels that is decoded: a file of a few kilobytes can declare billions.
pub const MAX_PIXELS: u64 = 100_000_000;
/// Longest side that is decoded.
pub const MAX_SIDE: u32 = 50_000;
/// Bytes that a decoder may allocate in addition to the pixels.
const MAX_ALLOCATION: u64 = 1 << 30;
/// Largest share of an image that may be missing, unless damaged images are kept.
pub const MAX_MISSING: f64 = 0.1;
/// The range that images with 16 bits per channel should exceed: 12 bits. What is in a smaller one
/// differs by at most 16 of 256 levels.
const NARROW: u16 = 4096;

/// Something unusual about an image or its decoding: one bit of [`Notes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The file breaks the rules of its format; as much as possible was decoded.
    Lenient,
    /// Rotated or flipped according to its EXIF orientation.
    Oriented,
    /// Grayscale.
    Gray,
    /// Has transparent pixels.
    Alpha,
    /// Has more than 8 bits per channel.
    Deep,
    /// Has CMYK colors.
    Cmyk,
    /// Has floating-point values.
    Float,
    /// A part is missing and was filled with gray.
    Damaged,
    /// Its transparent pixels leave only one color.
    Blank,
    /// Has 16 bits per channel, but all values lie within a small part of their range.
    Narrow,
}

/// Every note with its name.
pub const NOTES: [(Note, &str); 10] = [
    (Note::Lenient, "lenient"),
    (Note::Oriented, "oriented"),
    (Note::Gray, "gray"),
    (Note::Alpha, "alpha"),
    (Note::Deep, "deep"),
    (Note::Cmyk, "cmyk"),
    (Note::Float, "float"),
    (Note::Damaged, "damaged"),
    (Note::Blank, "blank"),
    (Note::Narrow, "narrow"),
];

/// A set of [`Note`]s. The highest byte is the missing share of a damaged image in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes(pub u32);

/// Position of the missing percentage in [`Notes`].
const PERCENT_SHIFT: u32 = 24;

impl Notes {
    fn add(&mut self, note: Note) {
        self.0 |= 1 << note as u32;
    }

    fn add_damage(&mut self, missing: f64) {
        self.add(Note::Damaged);
        self.0 |= ((missing * 100.0).ceil().clamp(1.0, 100.0) as u32) << PERCENT_SHIFT;
    }

    pub fn has(self, note: Note) -> bool {
        self.0 & (1 << note as u32) != 0
    }

    /// The missing share of a damaged image, in percent; 0 for any other.
    pub fn missing_percent(self) -> u32 {
        self.0 >> PERCENT_SHIFT
    }

    /// The names, separated by spaces.
    pub fn words(self) -> String {
        let words: Vec<&str> =
            NOTES.iter().filter(|(note, _)| self.has(*note)).map(|(_, word)| *word).collect();
        words.join(" ")
    }

    /// A warning about an image that is used all the same; none for most images.
    pub fn warning(self) -> Option<String> {
        let damage = if self.has(Note::Damaged) {
            Some(format!("damaged: {} % of it is missing", self.missing_percent()))
        } else if self.has(Note::Lenient) {
            Some("it breaks the rules of its format; it may be damaged".to_owned())
        } else {
            None
        };
        let blank = "transparent: on the background it has only one color".to_owned();
        let narrow = "16 bits per channel, of which only a small range is used".to_owned();
        let all = [
            damage,
            self.has(Note::Blank).then_some(blank),
            self.has(Note::Narrow).then_some(narrow),
        ];
        let all: Vec<String> = all.into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
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

/// The names of all formats.
pub(crate) fn formats() -> [&'static str; 6] {
    Format::ALL.map(Format::name)
}

/// The usual extension of an image file with this content; none if it isn't decoded.
pub(crate) fn extension(bytes: &[u8]) -> Option<&'static str> {
    kind::format(bytes).ok().map(Format::extension)
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
    // Held until it is resized.
    let _memory = budget::Scope::open(0);
    let FullImage { pixels, format, notes } = decode(bytes, geometry.decoding)?;
    let square = resize::to_square(&pixels, geometry)?;
    Ok(SquareImage { pixels: square, width: pixels.width, height: pixels.height, format, notes })
}

/// Decodes an image at full size.
///
/// # Errors
/// [`DataError::Unreadable`] with the reason if the bytes can't be decoded.
pub fn decode(bytes: &[u8], options: DecodeOptions) -> Result<FullImage, DataError> {
    // A panic in a third-party decoder means that the image is unreadable.
    std::panic::catch_unwind(|| decode_inside(bytes, options))
        .unwrap_or_else(|_| Err("the decoder panicked".into()))
        .map_err(DataError::Unreadable)
}

/// The result of a format's decoder.
struct Decoded {
    image: DynamicImage,
    /// By its metadata; not applied.
    orientation: Orientation,
    /// Number of pixels that the file lacks.
    missing: u64,
    /// Why its pixels may be wrong although none is missing.
    fault: Option<&'static str>,
    notes: Notes,
}

fn decode_inside(bytes: &[u8], options: DecodeOptions) -> Result<FullImage, String> {
    let format = kind::format(bytes)?;
    let _memory = budget::Scope::open(bytes_per_pixel(format, bytes));
    let Decoded { mut image, orientation, missing, fault, mut notes } = match format {
        Format::Jpeg => jpeg::decode(bytes),
        Format::Png => png::decode(bytes),
        Format::Gif => gif::decode(bytes),
        Format::WebP => webp::decode(bytes),
        Format::Bmp => bmp::decode(bytes),
        Format::Tiff => tiff::decode(bytes),
    }?;
    check_size(image.width(), image.height())?;
    let all = u64::from(image.width()) * u64::from(image.height());
    check_damage(missing as f64 / all as f64, options.on_damaged, &mut notes)?;
    if let Some(fault) = fault.filter(|_| options.on_damaged == OnDamaged::Reject) {
        return Err(format!("it is damaged: {fault}"));
    }
    if orientation != Orientation::NoTransforms {
        image.apply_orientation(orientation);
        notes.add(Note::Oriented);
    }
    let pixels = flat(image, options.background, &mut notes);
    Ok(FullImage { pixels, format: format.name(), notes })
}

/// The most memory that a pixel takes while it is decoded and converted.
fn bytes_per_pixel(format: Format, bytes: &[u8]) -> u64 {
    match format {
        // As decoded, and in 8 bits per channel; a progressive file also has its coefficients.
        Format::Jpeg => 12,
        // The header says the bits per channel.
        Format::Png if bytes.get(24) == Some(&16) => 15,
        Format::Png | Format::Gif | Format::WebP | Format::Bmp => 11,
        Format::Tiff => 23,
    }
}

/// Fails for a file that isn't an image, by its first bytes.
pub(crate) fn recognize(head: &[u8]) -> Result<(), DataError> {
    kind::format(head).map(drop).map_err(DataError::Unreadable)
}

/// Checks the size of an image and reserves the memory for it.
fn check_size(width: u32, height: u32) -> Result<(), String> {
    match (width, height) {
        (0, _) | (_, 0) => Err("it has no pixels".to_owned()),
        (w, h) if w > MAX_SIDE || h > MAX_SIDE || u64::from(w) * u64::from(h) > MAX_PIXELS => {
            Err(format!(
                "it declares {w} x {h} pixels, above the limit of {} million",
                MAX_PIXELS / 1_000_000
            ))
        }
        (w, h) => {
            budget::reserve(u64::from(w) * u64::from(h));
            Ok(())
        }
    }
}

/// One rule for every format: too large a missing share is an error, a smaller one is noted.
fn check_damage(missing: f64, rule: OnDamaged, notes: &mut Notes) -> Result<(), String> {
    if missing == 0.0 {
        return Ok(());
    }
    notes.add_damage(missing);
    if missing >= 1.0 {
        return Err("none of its rows can be decoded".to_owned());
    }
    if rule == OnDamaged::Reject && missing > MAX_MISSING {
        let percent = notes.missing_percent();
        return Err(format!("it is cut short or damaged: {percent} % of it is missing"));
    }
    Ok(())
}

/// Converts to 8 bits per channel, gray or RGB, without transparency.
fn flat(image: DynamicImage, background: Background, notes: &mut Notes) -> Pixels {
    let color = image.color();
    if color.bytes_per_pixel() > color.channel_count() {
        notes.add(Note::Deep);
        if is_narrow(&image) {
            notes.add(Note::Narrow);
        }
    }
    if !color.has_color() {
        notes.add(Note::Gray);
    }
    let (width, height) = (image.width(), image.height());
    if color.has_alpha() {
        return blended(image, background, notes);
    }
    if color.has_color() {
        Pixels { bytes: image.into_rgb8().into_raw(), width, height, channels: 3 }
    } else {
        Pixels { bytes: image.into_luma8().into_raw(), width, height, channels: 1 }
    }
}

/// Whether the colors of an image of 16 bits differ, but only by a small part of their range.
fn is_narrow(image: &DynamicImage) -> bool {
    let range = |all: &mut dyn Iterator<Item = u16>| {
        let (low, high) =
            all.fold((u16::MAX, 0), |(low, high), value| (low.min(value), high.max(value)));
        high.saturating_sub(low)
    };
    let range = match image {
        DynamicImage::ImageLuma16(image) => range(&mut image.as_raw().iter().copied()),
        DynamicImage::ImageRgb16(image) => range(&mut image.as_raw().iter().copied()),
        DynamicImage::ImageLumaA16(image) => range(&mut image.pixels().map(|pixel| pixel.0[0])),
        DynamicImage::ImageRgba16(image) => {
            range(&mut image.pixels().flat_map(|pixel| [pixel.0[0], pixel.0[1], pixel.0[2]]))
        }
        _ => return false,
    };
    (1..=NARROW).contains(&range)
}

/// Lays an image with an alpha channel on the background.
fn blended(image: DynamicImage, background: Background, notes: &mut Notes) -> Pixels {
    let (width, height) = (image.width(), image.height());
    let image = image.into_rgba8();
    let is_transparent = image.pixels().any(|pixel| pixel.0[3] != 255);
    let mut flat = RgbImage::new(width, height);
    for (out, pixel) in flat.pixels_mut().zip(image.pixels()) {
        let [red, green, blue, alpha] = pixel.0;
        out.0 = match background.0 {
            Some(behind) => over([red, green, blue], alpha, behind),
            None => [red, green, blue],
        };
    }
    if is_transparent {
        notes.add(Note::Alpha);
        let mut pixels = flat.pixels();
        let first = pixels.next();
        if pixels.all(|pixel| Some(pixel) == first) {
            notes.add(Note::Blank);
        }
    }
    Pixels { bytes: flat.into_raw(), width, height, channels: 3 }
}

/// Blends a pixel with the color behind it, rounding to nearest.
fn over(color: [u8; 3], alpha: u8, behind: [u8; 3]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    [0, 1, 2].map(|channel| {
        let [above, below] = [color, behind].map(|one: [u8; 3]| u32::from(one[channel]));
        ((above * alpha + below * (255 - alpha) + 127) / 255) as u8
    })
}

/// Why a file can't be decoded whose end is missing.
const CUT_SHORT: &str = "it is cut short";

/// A decoder's message as one line of bounded length, for tables.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().take(200).collect();
    line.trim_matches(['"', '.']).to_owned()
}

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests;
