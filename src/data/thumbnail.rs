//! Small JPEG images for pages, in base64.

use super::DataError;
use super::resize::{self, View};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

/// An image with at most `limit` pixels along its longer side: the browser enlarges smaller ones.
pub(super) fn of_view(image: View, limit: u32, quality: u8) -> Result<Option<String>, DataError> {
    let scale = (f64::from(limit) / f64::from(image.width.max(image.height))).min(1.0);
    let [width, height] =
        [image.width, image.height].map(|side| ((f64::from(side) * scale).round() as u32).max(1));
    let small = resize::to_rgb(image, image.whole(), [width, height])?;
    let mut jpeg = Vec::new();
    let drawn = JpegEncoder::new_with_quality(&mut jpeg, quality).encode(
        &small,
        width,
        height,
        ExtendedColorType::Rgb8,
    );
    Ok(drawn.is_ok().then(|| BASE64_STANDARD.encode(&jpeg)))
}

/// The same of a square of `side * side * 3` bytes of RGB; none of anything else.
pub fn of_square(pixels: &[u8], side: u32, limit: u32, quality: u8) -> Option<String> {
    let bytes = usize::try_from(side).ok()?.checked_pow(2)?.checked_mul(3)?;
    if side == 0 || pixels.len() != bytes {
        return None;
    }
    let image = View { bytes: pixels, width: side, height: side, channels: 3 };
    of_view(image, limit, quality).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_is_made_smaller_but_never_larger() {
        let size = |side: u32| {
            let pixels = vec![100; (side * side * 3) as usize];
            let text = of_square(&pixels, side, 16, 80)?;
            let image = image::load_from_memory(&BASE64_STANDARD.decode(text).ok()?).ok()?;
            Some((image.width(), image.height()))
        };
        assert_eq!([40, 16, 9, 1].map(size), [(16, 16), (16, 16), (9, 9), (1, 1)].map(Some));
        assert_eq!(size(0), None);
        assert_eq!(of_square(&[0; 10], 2, 16, 80), None);
    }
}
