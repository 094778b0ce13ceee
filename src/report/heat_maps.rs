//! Heat maps over the images of a gallery: where the evidence for the predicted class is. The
//! network is beyond this module: the caller lends a function that draws them.

use super::files::MODEL;
use super::stored::StoredImages;
use super::thumbnail::{Size, of_pixels};
use crate::metrics::Prediction;
use crate::runs::{Results, StageRecord};
use image::RgbImage;
use std::path::{Path, PathBuf};

/// The name of the need by which a stage reads its model.
const MODEL_NEED: &str = "model";

/// A stored image and the class to explain.
pub struct Explained<'a> {
    /// `side * side * 3` bytes of RGB, as in the tensor cache.
    pub square: Vec<u8>,
    pub class: &'a str,
}

/// Draws the heat map of each image over it, with the model in a file. `None` where that model
/// can't be opened or explained.
pub type Explain<'a> = &'a dyn Fn(&Path, &[Explained]) -> Option<Vec<RgbImage>>;

/// A model that a page explains, and the images that it was scored on.
pub(super) struct HeatMaps<'a> {
    explain: Explain<'a>,
    model: PathBuf,
    images: &'a StoredImages,
}

impl<'a> HeatMaps<'a> {
    /// Those of an evaluating stage; `None` where its model or its images are no longer in the store.
    pub(super) fn of(
        results: &Results,
        stage: &StageRecord,
        images: Option<&'a StoredImages>,
        explain: Option<Explain<'a>>,
    ) -> Option<HeatMaps<'a>> {
        let trained = results.record().stage(stage.needs.get(MODEL_NEED)?)?;
        let (model, _) = results.output(trained, MODEL)?;
        Some(HeatMaps { explain: explain?, model, images: images? })
    }

    /// The overlay of each prediction as a `data:` URI; none of an image that isn't in the store.
    pub(super) fn drawn(&self, rows: &[&Prediction]) -> Vec<Option<String>> {
        let squares: Vec<Option<Vec<u8>>> =
            rows.iter().map(|row| self.images.square(&row.path)).collect();
        let explained: Vec<Explained> = rows
            .iter()
            .zip(&squares)
            .filter_map(|(row, square)| {
                Some(Explained { square: square.clone()?, class: &row.prediction })
            })
            .collect();
        let overlays = match explained.is_empty() {
            true => None,
            false => (self.explain)(&self.model, &explained),
        };
        let mut overlays = overlays.unwrap_or_default().into_iter();
        let uri = |overlay: RgbImage| of_pixels(overlay.as_raw(), overlay.width(), Size::Large);
        squares.iter().map(|square| square.as_ref().and_then(|_| uri(overlays.next()?))).collect()
    }
}
