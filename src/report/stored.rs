//! The images of a run in its tensor cache, as long as that is in the store.

use super::thumbnail::{Size, of_record};
use crate::data::TensorCache;
use crate::runs::{Results, StageRecord};
use rayon::prelude::*;
use std::borrow::Cow;

/// An opened tensor cache.
pub(super) struct StoredImages {
    cache: TensorCache,
}

impl StoredImages {
    /// Those that a stage reads.
    pub(super) fn of_inputs(results: &Results, stage: &StageRecord) -> Option<StoredImages> {
        stage.needs.values().find_map(|need| StoredImages::of_stage(results, need))
    }

    /// Those that a stage wrote.
    pub(super) fn of_stage(results: &Results, stage: &str) -> Option<StoredImages> {
        let cache = TensorCache::open(&results.artifact(stage)?).ok()?;
        Some(StoredImages { cache })
    }

    /// Those of the images that `explored` looked at: of the first stage that stored some of them.
    pub(super) fn of_explored(results: &Results, explored: &StageRecord) -> Option<StoredImages> {
        let source = explored.needs.get("images")?;
        let stages = results.record().stages.iter();
        let mut same = stages.filter(|stage| stage.needs.get("images") == Some(source));
        same.find_map(|stage| StoredImages::of_stage(results, &stage.stage))
    }

    /// An image by its path, as a `data:` URI.
    pub(super) fn thumbnail(&self, path: &str, size: Size) -> Option<String> {
        of_record(&self.cache, self.record_of(path)?, size)
    }

    fn record_of(&self, path: &str) -> Option<u32> {
        let samples = self.cache.samples();
        let at = samples.binary_search_by(|sample| sample.path.as_str().cmp(path)).ok()?;
        Some(samples[at].record)
    }

    /// A stored square, `side * side * 3` bytes of RGB, by the path of its image.
    pub(super) fn square(&self, path: &str) -> Option<Vec<u8>> {
        self.cache.record(self.record_of(path)?).ok().map(Cow::into_owned)
    }

    /// Several thumbnails, drawn in parallel, in the order of the paths.
    pub(super) fn thumbnails(&self, paths: &[&str], size: Size) -> Vec<Option<String>> {
        paths.par_iter().map(|path| self.thumbnail(path, size)).collect()
    }
}
