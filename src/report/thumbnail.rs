//! Small images on a page, as `data:` URIs.

use crate::data::{TensorCache, thumbnail};
use maud::{Markup, html};

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
    thumbnail::of_square(pixels, side, size.side(), size.quality()).map(|text| of_base64(&text))
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

/// An image with a caption, or the caption alone.
pub(super) fn figure(uri: Option<&str>, alt: &str, title: &str, caption: &Markup) -> Markup {
    figure_of(&uri.map_or_else(Markup::default, |uri| img(uri, alt, title, None)), caption)
}

/// An image with a caption under it.
pub(super) fn figure_of(image: &Markup, caption: &Markup) -> Markup {
    html! { figure { (image) figcaption { (caption) } } }
}

/// An image. Those far down the page are decoded when they come into view.
pub(super) fn img(uri: &str, alt: &str, title: &str, class: Option<&str>) -> Markup {
    html! {
        img class=[class] src=(uri) alt=(alt) title=(title) loading="lazy" decoding="async";
    }
}
