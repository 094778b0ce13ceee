//! The images that a model got wrong while being surest: where labels are wrong or the images are hard, it shows
//! here first. The images come from the tensor cache, while that is in the store.

use super::base64;
use crate::data::{Split, TensorCache};
use crate::draw::{escape, percent, shorten};
use crate::metrics::Prediction;
use crate::runs::{Results, StageFacts};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{ExtendedColorType, RgbImage};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// How many are shown, and their side in pixels: at most about 10 kB each.
const MOST: usize = 24;
const SIDE: u32 = 160;
const QUALITY: u8 = 82;

/// The images as figures. Empty where there are no predictions, no mistakes or no images any more.
pub(super) fn images(results: &Results, stage: &StageFacts) -> String {
    let wrong = most_wrong(results.predictions(&stage.stage).unwrap_or_default());
    if wrong.is_empty() {
        return String::new();
    }
    let Some(cache) =
        caches(results, stage).into_iter().find_map(|folder| TensorCache::open(&folder).ok())
    else {
        return String::new();
    };
    let records: BTreeMap<&str, u32> = cache
        .samples()
        .iter()
        .filter(|sample| sample.split == Split::Test)
        .map(|sample| (sample.path.as_str(), sample.record))
        .collect();
    let mut html = String::new();
    for row in &wrong {
        let Some(uri) =
            records.get(row.path.as_str()).and_then(|&record| thumbnail(&cache, record))
        else {
            continue;
        };
        let label = row.label.as_deref().unwrap_or_default();
        let _ = write!(
            html,
            "<figure><img src=\"{uri}\" alt=\"{}\" title=\"{}\"><figcaption><b>{}</b> {}<span class=\"soft\">is {}</span></figcaption></figure>",
            escape(&format!("a image of {label} taken for {}", row.prediction)),
            escape(&row.path),
            escape(&shorten(&row.prediction, 40)),
            percent(f64::from(row.probability)),
            escape(&shorten(label, 40)),
        );
    }
    if html.is_empty() { html } else { format!("<div class=\"images\">{html}</div>") }
}

/// The wrong predictions of the test split, surest first.
fn most_wrong(predictions: Vec<Prediction>) -> Vec<Prediction> {
    let is_wrong = |row: &Prediction| {
        row.split == "test" && row.label.as_ref().is_some_and(|it| *it != row.prediction)
    };
    let mut wrong: Vec<Prediction> = predictions.into_iter().filter(is_wrong).collect();
    wrong.sort_by(|a, b| b.probability.total_cmp(&a.probability).then_with(|| a.path.cmp(&b.path)));
    wrong.truncate(MOST);
    wrong
}

/// Folders that may be the tensor cache that the stage was fed from.
fn caches(results: &Results, stage: &StageFacts) -> Vec<PathBuf> {
    stage.needs.values().filter_map(|need| results.artifact(need)).collect()
}

/// A record as a small JPEG image in a `data:` URI.
fn thumbnail(cache: &TensorCache, record: u32) -> Option<String> {
    let side = u32::try_from(cache.size()).ok()?;
    let image = RgbImage::from_raw(side, side, cache.record(record).ok()?.into_owned())?;
    // A image of few pixels is enlarged by the browser, one with many would only make the page heavy.
    let image = if side > SIDE {
        imageops::resize(&image, SIDE, SIDE, FilterType::Triangle)
    } else {
        image
    };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(&image, image.width(), image.height(), ExtendedColorType::Rgb8)
        .ok()?;
    Some(format!("data:image/jpeg;base64,{}", base64::encode(&jpeg)))
}
