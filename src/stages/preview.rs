//! A preview of training images, for the command line: from a tensor cache, or from a few images
//! that are decoded for it.

use super::fetch::Fetch;
use super::preprocess::{PreprocessOptions, preprocessing};
use super::train::Train;
use crate::config::Values;
use crate::data::decode;
use crate::data::source::{self, Source};
use crate::data::strip::{Strip, StripOptions, strip_of_cache};
use crate::data::{AugmentationPolicy, DataError, TensorCache};
use crate::engine::{Kind, OrFail, StageError};
use crate::store::Digest;
use crate::training;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Whether stages of this kind train.
pub fn trains(kind: &str) -> bool {
    kind == Train.name()
}

/// The policy and the size of the strip.
pub struct Preview {
    policy: Option<AugmentationPolicy>,
    seed: u64,
    images: usize,
    views: usize,
}

impl Preview {
    /// Of the training that a train stage's values say: the first `views` of `images`.
    ///
    /// # Errors
    /// If the values aren't those of a train stage.
    pub fn new(
        train: &Values,
        seed: u64,
        images: usize,
        views: usize,
    ) -> Result<Preview, StageError> {
        let options: training::Options = typed(train)?;
        Ok(Preview { policy: options.augmentation().cloned(), seed, images, views })
    }

    /// Whether the policy mixes images of a batch, which a single image doesn't show.
    pub fn mixes(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.mixes(1))
    }

    /// Writes a strip as a PNG image.
    pub fn write_png(&self, strip: &Strip, path: &Path) -> Result<(), StageError> {
        Ok(strip.write_png(path)?)
    }

    fn options(&self) -> StripOptions<'_> {
        let Preview { ref policy, seed, images, views } = *self;
        StripOptions { policy: policy.as_ref(), seed, images, views }
    }

    /// From the artifact of a preprocess stage.
    pub fn of_cache(&self, artifact: &Path) -> Result<Strip, StageError> {
        Ok(strip_of_cache(&TensorCache::open(artifact)?, &self.options())?)
    }

    /// From image files, named as they are to be shown: some of them, evenly chosen. Those that
    /// can't be decoded are passed over.
    ///
    /// # Errors
    /// If a file can't be read, none can be decoded, or the size of the network's input isn't known
    /// without the weights that say it.
    pub fn of_files(
        &self,
        preprocess: &Values,
        weights: Option<&Path>,
        files: &[(String, PathBuf)],
    ) -> Result<Strip, StageError> {
        let options: PreprocessOptions = typed(preprocess)?;
        let preprocessing = preprocessing(&options, weights)?;
        let mut strip = Strip { side: preprocessing.crop, images: Vec::new() };
        let (mut last, step) = (None, files.len() as f64 / self.images.max(1) as f64);
        for at in (0..self.images).map(|index| (index as f64 * step) as usize) {
            let Some((name, path)) = files.get(at).filter(|(name, _)| last != Some(name)) else {
                continue;
            };
            last = Some(name);
            let bytes = std::fs::read(path).or_fail(format_args!("reading {}", path.display()))?;
            match decode::preprocess(&bytes, &preprocessing) {
                Ok(square) => {
                    let square = (square.pixels.as_slice(), Digest::of(&square.pixels));
                    self.options().add(&mut strip, name, None, square, &preprocessing)
                }
                Err(DataError::Unreadable(_)) => {}
                Err(other) => return Err(other.into()),
            }
        }
        if strip.images.is_empty() {
            return Err(StageError::failed("none of the images that were tried can be decoded"));
        }
        Ok(strip)
    }
}

/// The folder that a fetch stage reads in place.
pub fn folder_of(fetch: &Values) -> Option<PathBuf> {
    let options: <Fetch as Kind>::Resolved = typed(fetch).ok()?;
    match source::parse(&options.source.0) {
        Ok(Source::Path(path)) if path.is_dir() => Some(path),
        _ => None,
    }
}

fn typed<T: DeserializeOwned>(values: &Values) -> Result<T, StageError> {
    serde_json::from_value(values.clone().into())
        .map_err(|error| StageError::failed(format!("the values of a stage are invalid: {error}")))
}
