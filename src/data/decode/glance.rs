//! A glance at an image: a thumbnail of 32 x 32 pixels, and all that is known of the file without
//! its pixels. A regular JPEG isn't decoded for it; the means of its blocks are enough.

use super::jpeg;
use super::kind::{self, Format};
use super::options::DecodeOptions;
use super::{Note, Notes, decode};
use crate::data::DataError;
use crate::data::similarity::{SIDE, Thumbnail};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

/// A small version of an image and its size.
pub struct Glance {
    /// The whole image, after orientation.
    pub thumbnail: Thumbnail,
    /// Width of the image, after orientation.
    pub width: u32,
    /// Height of the image, after orientation.
    pub height: u32,
    /// The detected format: "jpeg".
    pub format: &'static str,
    pub notes: Notes,
}

/// Looks at an image.
///
/// # Errors
/// [`DataError::Unreadable`] with the reason if the bytes can't be decoded.
pub fn glance(bytes: &[u8], options: DecodeOptions) -> Result<Glance, DataError> {
    if let Some(glance) = of_means(bytes) {
        return glance;
    }
    let full = decode(bytes, options)?;
    let view = full.pixels.view();
    Ok(Glance {
        thumbnail: Thumbnail::of(view, view.whole())?,
        width: view.width,
        height: view.height,
        format: full.format,
        notes: full.notes,
    })
}

/// From the means of the blocks; none if they don't suffice.
fn of_means(bytes: &[u8]) -> Option<Result<Glance, DataError>> {
    kind::format(bytes).ok().filter(|format| *format == Format::Jpeg)?;
    let means = jpeg::means(bytes, 8 * SIDE as u32)?;
    let mut notes = Notes::default();
    if means.pixels.channels == 1 {
        notes.add(Note::Gray);
    }
    let [mut width, mut height] = [means.width, means.height];
    let shown = [0.0, 0.0, f64::from(width) / 8.0, f64::from(height) / 8.0];
    let orientation = jpeg::orientation_of(bytes);
    let made = Thumbnail::of(means.pixels.view(), shown).map(|mut thumbnail| {
        if orientation != Orientation::NoTransforms {
            notes.add(Note::Oriented);
            thumbnail = oriented(thumbnail, orientation);
            if is_turned(orientation) {
                (width, height) = (height, width);
            }
        }
        Glance { thumbnail, width, height, format: Format::Jpeg.name(), notes }
    });
    Some(made)
}

fn oriented(thumbnail: Thumbnail, orientation: Orientation) -> Thumbnail {
    let pixels = thumbnail.pixels().to_vec();
    let turned = RgbImage::from_raw(SIDE as u32, SIDE as u32, pixels).and_then(|image| {
        let mut image = DynamicImage::ImageRgb8(image);
        image.apply_orientation(orientation);
        Thumbnail::from_pixels(image.into_rgb8().into_raw())
    });
    turned.unwrap_or(thumbnail)
}

/// Whether width and height change places.
fn is_turned(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::decode::samples;

    fn both(bytes: &[u8]) -> [Glance; 2] {
        let quick = of_means(bytes).unwrap().unwrap();
        let full = decode(bytes, DecodeOptions::default()).unwrap();
        let view = full.pixels.view();
        let thumbnail = Thumbnail::of(view, view.whole()).unwrap();
        let (width, height) = (view.width, view.height);
        [quick, Glance { thumbnail, width, height, format: full.format, notes: full.notes }]
    }

    #[test]
    fn a_glance_shows_what_decoding_does_in_every_orientation() {
        for orientation in 1..=8 {
            let [quick, full] = both(&samples::oriented_jpeg(301, 277, orientation));
            assert_eq!((quick.width, quick.height), (full.width, full.height));
            assert_eq!((quick.format, quick.notes), (full.format, full.notes));
            let pairs = quick.thumbnail.pixels().iter().zip(full.thumbnail.pixels());
            let sum: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
            assert!(sum < 3 * 3072, "{orientation}: {sum}");
        }
    }

    #[test]
    fn small_images_and_other_formats_are_decoded() {
        for bytes in [samples::jpeg(255, 600), samples::png(300, 300, [1, 2, 3])] {
            assert!(of_means(&bytes).is_none());
            assert!(glance(&bytes, DecodeOptions::default()).is_ok());
        }
        assert!(matches!(
            glance(b"no image", DecodeOptions::default()),
            Err(DataError::Unreadable(_))
        ));
    }
}
