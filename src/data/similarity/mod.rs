//! Near duplicates: images that differ only by their size, their compression or both. A [`Sketch`]
//! of each image finds candidates without comparing all pairs; [`Thumbnail`]s verify them. Pairs
//! are verified directly, never through a third image, so that similar images such as products on
//! white don't chain. Images of nearly one color resemble all others of that color, and are left
//! out. All sums are of integers: the result is the same for any number of threads.

mod candidates;
mod sketch;
mod thumbnail;

pub use sketch::Sketch;
pub(super) use sketch::{LENGTH as SKETCH, SIDE as SKETCH_SIDE, VERSION as SKETCH_VERSION};
pub use thumbnail::{SIDE, Thumbnail};

use super::DataError;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Pairs whose thumbnails are in memory at a time.
const PAIRS_AT_A_TIME: usize = 4096;

/// Two images that are near duplicates.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Positions in the list; `first` is the smaller one.
    pub first: usize,
    pub second: usize,
    /// Correlation of the thumbnails, up to 1.
    pub similarity: f64,
}

/// The near duplicates among `count` images, by their sketches, sorted by position. An image without
/// a sketch has none. Only pairs for which `compares` is true are looked at. An image with a great
/// many candidates is verified against the closest ones.
///
/// # Errors
/// Those of `sketch`, and of `thumbnail`, which is called for the candidates alone.
pub fn pairs(
    count: usize,
    sketch: impl Fn(usize) -> Result<Option<Sketch>, DataError> + Sync,
    compares: impl Fn(usize, usize) -> bool + Sync,
    thumbnail: impl Fn(usize) -> Result<Thumbnail, DataError> + Sync,
) -> Result<Vec<Pair>, DataError> {
    let candidates = candidates::find(count, &sketch, &compares)?;
    let mut found = Vec::new();
    for chunk in candidates.chunks(PAIRS_AT_A_TIME) {
        let needed: BTreeSet<usize> = chunk.iter().flat_map(|&(a, b)| [a, b]).collect();
        let thumbnails: Result<BTreeMap<usize, Thumbnail>, DataError> =
            needed.into_par_iter().map(|at| Ok((at, thumbnail(at)?))).collect();
        let thumbnails = thumbnails?;
        found.extend(chunk.iter().filter_map(|&(first, second)| {
            let similarity = thumbnails.get(&first)?.similarity(thumbnails.get(&second)?)?;
            Some(Pair { first, second, similarity })
        }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
