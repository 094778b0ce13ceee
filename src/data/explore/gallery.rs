//! `thumbnails.json`: small JPEG images of the findings, for the report.

use super::findings::Exploration;
use crate::data::DataError;
use crate::data::decode::{self, DecodeOptions};
use crate::data::images::{Image, ImageSet};
use crate::data::resize::{self, View};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
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
        match decode::decode(&images.read(image)?, DecodeOptions::default()) {
            Ok(full) => Ok(drawn(full.pixels.view())?.map(|text| (image.path.clone(), text))),
            // A glance reads less of a file.
            Err(DataError::Unreadable(_)) => Ok(None),
            Err(other) => Err(other),
        }
    };
    let drawn: Result<Vec<Option<(String, String)>>, DataError> =
        shown.par_iter().map(drawn).collect();
    Ok(drawn?.into_iter().flatten().collect())
}

fn drawn(image: View) -> Result<Option<String>, DataError> {
    // The browser enlarges smaller images.
    let scale = (f64::from(SIDE) / f64::from(image.width.max(image.height))).min(1.0);
    let [width, height] =
        [image.width, image.height].map(|side| ((f64::from(side) * scale).round() as u32).max(1));
    let small = resize::to_rgb(image, image.whole(), [width, height])?;
    let mut jpeg = Vec::new();
    let drawn = JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode(
        &small,
        width,
        height,
        ExtendedColorType::Rgb8,
    );
    Ok(drawn.is_ok().then(|| BASE64_STANDARD.encode(&jpeg)))
}
