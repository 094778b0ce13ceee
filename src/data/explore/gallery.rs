//! `thumbnails.json`: small JPEG images of the findings, for the report.

use super::findings::Exploration;
use crate::data::DataError;
use crate::data::decode::{self, DecodeOptions};
use crate::data::images::{Image, ImageSet};
use crate::data::thumbnail;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Longer side in pixels; at most about 8 kB each.
const SIDE: u32 = 128;
const QUALITY: u8 = 80;
/// Conflicts and pairs that are shown.
const MAX_GROUPS: usize = 12;
/// Images of a conflict that are shown.
const MAX_IN_A_GROUP: usize = 4;

/// By path: a JPEG image in base64.
pub type Gallery = BTreeMap<String, String>;

/// Draws the images that the report shows: at most 100.
///
/// # Errors
/// If a file can't be read or has changed.
pub fn gallery(images: &ImageSet, found: &Exploration) -> Result<Gallery, DataError> {
    let conflicts = found.duplicates.conflicts.iter().take(MAX_GROUPS);
    let conflicts =
        conflicts.flat_map(|group| group.iter().take(MAX_IN_A_GROUP).map(|[path, _]| path));
    let near = found.near_duplicates.examples.iter().take(MAX_GROUPS).flat_map(|one| &one.paths);
    let unusual = found.unusual.iter().map(|one| &one.path);
    let shown: BTreeSet<&str> = conflicts.chain(near).chain(unusual).map(String::as_str).collect();
    let shown: Vec<&Image> =
        images.list().iter().filter(|image| shown.contains(image.path.as_str())).collect();
    let drawn = |image: &&Image| {
        let decode = |bytes: Vec<u8>| decode::decode(&bytes, DecodeOptions::default());
        match images.read(image).and_then(decode) {
            Ok(full) => {
                let text = thumbnail::of_view(full.pixels.view(), SIDE, QUALITY)?;
                Ok(text.map(|text| (image.path.clone(), text)))
            }
            // A glance reads less of a file.
            Err(DataError::Unreadable(_)) => Ok(None),
            Err(other) => Err(other),
        }
    };
    let drawn: Result<Vec<Option<(String, String)>>, DataError> =
        shown.par_iter().map(drawn).collect();
    Ok(drawn?.into_iter().flatten().collect())
}
