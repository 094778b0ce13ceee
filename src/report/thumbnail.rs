//! Small images on a page, as `data:` URIs.

use crate::data::TensorCache;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{ExtendedColorType, RgbImage};
use maud::{Markup, html};

/// Side in pixels: at most about 10 kB each.
const SIDE: u32 = 160;
const QUALITY: u8 = 82;

/// A record as a small JPEG image.
pub(super) fn of_record(cache: &TensorCache, record: u32) -> Option<String> {
    of_pixels(&cache.record(record).ok()?, u32::try_from(cache.size()).ok()?)
}

/// A square of `side * side * 3` bytes of RGB as a small JPEG image.
pub(super) fn of_pixels(pixels: &[u8], side: u32) -> Option<String> {
    let image = RgbImage::from_raw(side, side, pixels.to_vec())?;
    // The browser enlarges smaller images; larger ones would only make the page heavier.
    let image = if side > SIDE {
        imageops::resize(&image, SIDE, SIDE, FilterType::Triangle)
    } else {
        image
    };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(&image, image.width(), image.height(), ExtendedColorType::Rgb8)
        .ok()?;
    Some(of_base64(&BASE64_STANDARD.encode(&jpeg)))
}

/// A JPEG image in base64.
pub(super) fn of_base64(text: &str) -> String {
    // Anything else would end the URI.
    let is_base64 = |letter: char| letter.is_ascii_alphanumeric() || "+/=".contains(letter);
    format!(
        "data:image/jpeg;base64,{}",
        text.chars().filter(|&one| is_base64(one)).collect::<String>()
    )
}

/// An image with a caption.
pub(super) fn figure(uri: &str, alt: &str, title: &str, caption: &Markup) -> Markup {
    html! {
        figure {
            img src=(uri) alt=(alt) title=(title);
            figcaption { (caption) }
        }
    }
}
