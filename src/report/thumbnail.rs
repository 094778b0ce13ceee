//! Small images on a page, as `data:` URIs.

use crate::data::TensorCache;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{ExtendedColorType, RgbImage};
use maud::{Markup, html};
use std::borrow::Cow;

/// The size of an image on a page.
#[derive(Clone, Copy)]
pub(super) enum Size {
    /// At most about 10 kB.
    Large,
    /// At most about 5 kB: a page has hundreds.
    Small,
}

impl Size {
    /// The longest side, in pixels.
    fn side(self) -> u32 {
        match self {
            Size::Large => 160,
            Size::Small => 96,
        }
    }

    fn quality(self) -> u8 {
        match self {
            Size::Large => 82,
            Size::Small => 75,
        }
    }
}

/// A record as a small JPEG image.
pub(super) fn of_record(cache: &TensorCache, record: u32, size: Size) -> Option<String> {
    of_pixels(&cache.record(record).ok()?, u32::try_from(cache.size()).ok()?, size)
}

/// A square of `side * side * 3` bytes of RGB as a small JPEG image.
pub(super) fn of_pixels(pixels: &[u8], side: u32, size: Size) -> Option<String> {
    let whole = RgbImage::from_raw(side, side, pixels.to_vec())?;
    let limit = size.side();
    // The browser enlarges smaller images; larger ones would only make the page heavier.
    let small = match side > limit {
        true => Cow::Owned(imageops::resize(&whole, limit, limit, FilterType::Triangle)),
        false => Cow::Borrowed(&whole),
    };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, size.quality())
        .encode(&small, small.width(), small.height(), ExtendedColorType::Rgb8)
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

/// An image with a caption, or the caption alone. Images far down the page are decoded when they
/// come into view.
pub(super) fn figure(uri: Option<&str>, alt: &str, title: &str, caption: &Markup) -> Markup {
    html! {
        figure {
            @if let Some(uri) = uri {
                img src=(uri) alt=(alt) title=(title) loading="lazy" decoding="async";
            }
            figcaption { (caption) }
        }
    }
}
