//! The misclassified images with the highest confidence, which show wrong labels and hard images
//! first. The images come from the tensor cache, as long as it is in the store.

use crate::data::{Split, TensorCache};
use crate::draw::{percent, shorten};
use crate::metrics::Prediction;
use crate::runs::{Results, StageRecord};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{ExtendedColorType, RgbImage};
use maud::{Markup, html};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The number of images, and their side in pixels: at most about 10 kB each.
const MAX_IMAGES: usize = 24;
const SIDE: u32 = 160;
const QUALITY: u8 = 82;

/// The images as figures. Empty without predictions, errors or a tensor cache.
pub(super) fn images(results: &Results, stage: &StageRecord) -> Markup {
    let wrong = most_confident_errors(results.predictions(&stage.stage).unwrap_or_default());
    if wrong.is_empty() {
        return Markup::default();
    }
    let cache = inputs(results, stage).iter().find_map(|folder| TensorCache::open(folder).ok());
    let Some(cache) = cache else { return Markup::default() };
    let records: BTreeMap<&str, u32> = cache
        .samples()
        .iter()
        .filter(|sample| sample.split == Split::Test)
        .map(|sample| (sample.path.as_str(), sample.record))
        .collect();
    let figures: Vec<(&Prediction, String)> = wrong
        .iter()
        .filter_map(|row| Some((row, thumbnail(&cache, *records.get(row.path.as_str())?)?)))
        .collect();
    html! {
        @if !figures.is_empty() {
            .images { @for (row, uri) in &figures { (figure(row, uri)) } }
        }
    }
}

fn figure(row: &Prediction, uri: &str) -> Markup {
    let label = row.label.as_deref().unwrap_or_default();
    html! {
        figure {
            img src=(uri) alt=(format_args!("{label} predicted as {}", row.prediction)) title=(row.path);
            figcaption {
                b { (shorten(&row.prediction, 40)) } " " (percent(f64::from(row.probability)))
                span.soft { "is " (shorten(label, 40)) }
            }
        }
    }
}

/// The wrong predictions of the test split, highest confidence first.
fn most_confident_errors(predictions: Vec<Prediction>) -> Vec<Prediction> {
    let is_wrong = |row: &Prediction| {
        row.split == "test" && row.label.as_ref().is_some_and(|label| *label != row.prediction)
    };
    let mut wrong: Vec<Prediction> = predictions.into_iter().filter(is_wrong).collect();
    wrong.sort_by(|a, b| b.probability.total_cmp(&a.probability).then_with(|| a.path.cmp(&b.path)));
    wrong.truncate(MAX_IMAGES);
    wrong
}

/// The artifacts of the stage's inputs: one of them may be a tensor cache.
fn inputs(results: &Results, stage: &StageRecord) -> Vec<PathBuf> {
    stage.needs.values().filter_map(|need| results.artifact(need)).collect()
}

/// A record as a small JPEG image in a `data:` URI.
fn thumbnail(cache: &TensorCache, record: u32) -> Option<String> {
    let side = u32::try_from(cache.size()).ok()?;
    let image = RgbImage::from_raw(side, side, cache.record(record).ok()?.into_owned())?;
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
    Some(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(&jpeg)))
}
