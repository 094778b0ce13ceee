//! The misclassified images with the highest confidence, which show wrong labels and hard images
//! first. The images come from the tensor cache, as long as it is in the store.

use super::thumbnail::{self, of_record};
use crate::data::{Split, TensorCache};
use crate::draw::{percent, shorten};
use crate::metrics::Prediction;
use crate::runs::{Results, StageRecord};
use maud::{Markup, html};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The number of images.
const MAX_IMAGES: usize = 24;

/// The images as figures. Empty without predictions, errors or a tensor cache.
pub(super) fn images(results: &Results, stage: &StageRecord) -> Markup {
    let wrong = most_confident_errors(results.predictions(&stage.stage).unwrap_or_default());
    if wrong.is_empty() {
        return Markup::default();
    }
    let Some(images) = TestImages::of(results, stage) else { return Markup::default() };
    let figures: Vec<(&Prediction, String)> =
        wrong.iter().filter_map(|row| Some((row, images.thumbnail(&row.path)?))).collect();
    html! {
        @if !figures.is_empty() {
            .images { @for (row, uri) in &figures { (figure(row, uri)) } }
        }
    }
}

fn figure(row: &Prediction, uri: &str) -> Markup {
    let label = row.label.as_deref().unwrap_or_default();
    let caption = html! {
        b { (shorten(&row.prediction, 40)) } " " (percent(f64::from(row.probability)))
        span.soft { "is " (shorten(label, 40)) }
    };
    let alt = format!("{label} predicted as {}", row.prediction);
    thumbnail::figure(uri, &alt, &row.path, &caption)
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

/// The test images of an evaluation, in the tensor cache.
pub(super) struct TestImages {
    cache: TensorCache,
    /// Path -> record.
    records: BTreeMap<String, u32>,
}

impl TestImages {
    /// Those that `stage` evaluated; none if the cache is no longer in the store.
    pub(super) fn of(results: &Results, stage: &StageRecord) -> Option<TestImages> {
        let cache =
            inputs(results, stage).iter().find_map(|folder| TensorCache::open(folder).ok())?;
        let test = cache.samples().iter().filter(|sample| sample.split == Split::Test);
        let records = test.map(|sample| (sample.path.clone(), sample.record)).collect();
        Some(TestImages { cache, records })
    }

    /// An image by its path, in a `data:` URI.
    pub(super) fn thumbnail(&self, path: &str) -> Option<String> {
        of_record(&self.cache, *self.records.get(path)?)
    }
}

/// The artifacts of the stage's inputs: one of them may be a tensor cache.
fn inputs(results: &Results, stage: &StageRecord) -> Vec<PathBuf> {
    stage.needs.values().filter_map(|need| results.artifact(need)).collect()
}
