//! Fetches images from an archive: a file of the user's or a downloaded one.

use super::weights;
use crate::common::number::counted;
use crate::data::archive::{self, Format, Unpacked};
use crate::data::images::{self, FOLDER, Image, LISTING, SKIPPED, Skipped};
use crate::data::skipped;
use crate::engine::{Context, OrFail, StageError};
use crate::store::digest_file;
use rayon::prelude::*;
use std::path::Path;

/// Whether the file at `path` is an archive of images rather than weights: by its name, and where
/// that says nothing, by its content. Files with weights may be zip archives, too.
pub(super) fn is_images(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if weights::is_named_like_weights(Path::new(&*name)) || !path.is_file() {
        return false;
    }
    archive::is_named_like_archive(&name) || has_images(path)
}

/// The same by content alone.
pub(super) fn has_images(path: &Path) -> bool {
    match archive::format(path) {
        Ok(Some(Format::Zip)) => !weights::is_zip_of_weights(path),
        Ok(Some(Format::Tar | Format::Gzip | Format::Zstd)) => true,
        Ok(None) | Err(_) => false,
    }
}

/// Unpacks the archive at `path`, called `named` in messages, into the artifact.
pub(super) fn run(path: &Path, named: &str, context: &Context) -> Result<(), StageError> {
    let folder = context.slot.join(FOLDER);
    let found = archive::unpack(path, named, &folder, &context.events, &context.cancel)?;
    if found.images.is_empty() {
        return Err(super::no_images(named));
    }
    let listed = listing(&folder, &found.images, context)?;
    // A table that labels come from is left out where it is read.
    let tables = found.labels.iter().map(|path| Skipped::by_name(path));
    write_lists(&listed, found.skipped.iter().cloned().chain(tables).collect(), context)?;
    report(&found, context);
    Ok(())
}

/// Writes the listing of images and the list of what isn't used.
pub(super) fn write_lists(
    listing: &[u8],
    skipped: Vec<Skipped>,
    context: &Context,
) -> Result<(), StageError> {
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(context.slot.join(name), bytes).or_fail("writing the listing")
    };
    write(LISTING, listing)?;
    write(SKIPPED, &images::skipped_table(skipped))
}

/// The listing of images in a folder.
pub(super) fn listing(
    folder: &Path,
    paths: &[String],
    context: &Context,
) -> Result<Vec<u8>, StageError> {
    let task = context.events.task("list", Some(paths.len() as u64), "images");
    let one = |path: &String| {
        StageError::check(&context.cancel)?;
        let whole = folder.join(path);
        let digest = digest_file(&whole).or_fail(format_args!("reading {}", whole.display()))?;
        let length = std::fs::metadata(&whole).or_fail(whole.display())?.len();
        task.advance(1);
        Ok(Image { path: path.clone(), length, digest })
    };
    let listed: Result<Vec<Image>, StageError> = paths.par_iter().map(one).collect();
    Ok(images::listing(listed?))
}

fn report(found: &Unpacked, context: &Context) {
    let warnings = found.warnings.iter().cloned().chain(skipped::unsupported(&found.skipped));
    warnings.for_each(|text| context.events.warn(text));
    let mut text = format!("{} unpacked", counted(found.images.len() as u64, "image"));
    if !found.labels.is_empty() {
        text += &format!(" and {}", counted(found.labels.len() as u64, "label file"));
    }
    text += &skipped::sentence(&found.skipped);
    context.events.info(text);
}
