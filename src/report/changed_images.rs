//! The images whose prediction differs between two runs, fixed and broken apart, the most confident
//! first.

use super::html;
use super::stored::StoredImages;
use super::thumbnail::{self, Size};
use crate::common::number::counted;
use crate::draw::{percent, shorten};
use crate::runs::Results;
use crate::runs::diff::{ChangedImage, Diff};
use maud::{Markup, html};

/// The number of images of each kind.
const MAX_IMAGES: usize = 12;

/// Galleries of a run compared with the first, under its name. Empty where nothing changed, or where
/// the runs can't be compared.
pub(super) fn galleries(name: &str, diff: &Diff, second: &Results) -> Markup {
    let Some(split) = diff.splits.iter().find(|split| split.allows_verdict()) else {
        return Markup::default();
    };
    let stage = second.record().stage(&split.stage);
    let images = stage.and_then(|stage| StoredImages::of_inputs(second, stage));
    let lists = [
        ("fixed", "wrong in the first run", &split.images.fixed),
        ("broken", "right in the first run", &split.images.broken),
    ];
    html! {
        @for (word, meaning, list) in lists {
            @if !list.is_empty() {
                h3 { (name) ": " (counted(list.len() as u64, "image")) " " (word) }
                (html::note(&format!("Those that were {meaning}; the most confident come first.")))
                .images { @for image in list.iter().take(MAX_IMAGES) { (figure(image, images.as_ref())) } }
            }
        }
    }
}

fn figure(image: &ChangedImage, images: Option<&StoredImages>) -> Markup {
    let (first, second) = (&image.first, &image.second);
    let uri = images.and_then(|images| images.thumbnail(&image.path, Size::Large));
    let caption = html! {
        b { (shorten(&second.0, 40)) } " " (percent(f64::from(second.1)))
        span.soft {
            "before " (shorten(&first.0, 40)) " " (percent(f64::from(first.1)))
            ", is " (shorten(&image.label, 40))
        }
        span.soft.path title=(image.path) { (shorten(&image.path, 40)) }
    };
    let alt = format!("{}: {} predicted as {}", image.path, image.label, second.0);
    thumbnail::figure(uri.as_deref(), &alt, &image.path, &caption)
}
