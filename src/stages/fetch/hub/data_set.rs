//! Writes a data set of the Hub into the artifact: images as they are, archives unpacked, and images
//! in shards as files.

use super::selection::{Images, Part, Selection, select};
use super::shards::{self, TABLE};
use super::{archives, bring, card, tables};
use crate::common::image_files::is_image;
use crate::common::layout::split_folder;
use crate::common::number::counted;
use crate::common::words::and_list;
use crate::data::archive::relative_path;
use crate::data::images::{FOLDER, Skipped};
use crate::data::parquet::ClassNames;
use crate::data::skipped;
use crate::data::web_dataset::is_web_dataset;
use crate::download::hub::{File, Repository};
use crate::download::{self, RetryPolicy};
use crate::engine::{Context, OrFail, StageError};
use crate::stages::fetch::{FetchOptions, archive as fetched_archive, no_images};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A list of the names of classes, a line each, beside shards of the format `webdataset`.
pub(super) const CLASS_LIST: &str = "classnames.txt";

/// The files that were written.
#[derive(Default)]
pub(super) struct Written {
    /// Paths below the folder of the images.
    pub images: Vec<String>,
    /// Label files likewise.
    pub labels: Vec<String>,
    /// Files and rows that aren't used, of those that were downloaded.
    pub skipped: Vec<Skipped>,
    /// Files of the repository that are read, but not written.
    pub read: Vec<String>,
    pub warnings: Vec<String>,
}

impl Written {
    /// Adds what isn't used of an archive, whose files go to the folder `place`.
    pub(super) fn skip(&mut self, place: &str, skipped: Vec<Skipped>) {
        let inside = |one: Skipped| Skipped { path: below(place, &one.path), ..one };
        self.skipped.extend(skipped.into_iter().map(inside));
    }
}

/// A path below a folder, which is empty for the root.
pub(super) fn below(folder: &str, path: &str) -> String {
    if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") }
}

/// Downloads the files of a data set and writes the artifact.
pub(super) fn run(
    repository: &Repository,
    files: &[File],
    options: &FetchOptions,
    remember_size: &dyn Fn(&[&File]) -> Result<(), StageError>,
    context: &Context,
) -> Result<(), StageError> {
    let named = format!("hf:{}", repository.id);
    let card = download::hub_facts(repository, &RetryPolicy::default(), &context.cancel)?.card_data;
    let chosen = (options.config.as_deref(), options.splits.as_deref().unwrap_or_default());
    let selection = select(files, &card, &named, chosen)?;
    let parts: Vec<&Part> = selection.parts().collect();
    let wanted: Vec<&File> = parts.iter().map(|part| part.file).collect();
    remember_size(&wanted)?;
    let paths = bring(repository, &wanted, context)?;
    let brought: Vec<(&Part, PathBuf)> = parts.into_iter().zip(paths).collect();
    let names = card::class_names(&card, selection.configuration.as_deref());
    let folder = context.slot.join(FOLDER);
    std::fs::create_dir_all(&folder).or_fail(folder.display())?;
    let mut written = match &selection.images {
        Images::Parquet(_) => shards::parquet(&brought, &names, &folder, context)?,
        Images::Archives(all) => {
            let (archives, tables) = brought.split_at(all.len());
            let names = || listed_names(repository, files, names, context);
            let mut written = match archives.iter().any(|(_, path)| is_web_dataset(path)) {
                true => shards::web_dataset(archives, &names()?, &folder, context)?,
                false => archives::unpack(archives, &folder, context)?,
            };
            place(tables, &selection, &folder, &mut written)?;
            written
        }
        Images::Plain(_) => {
            let mut written = Written::default();
            place(&brought, &selection, &folder, &mut written)?;
            written
        }
    };
    if written.images.is_empty() {
        return Err(no_images(&named));
    }
    let labels = written.labels.clone();
    let joined = tables::join(&folder, &mut written)?;
    let Written { skipped, read, .. } = &mut written;
    let unread = selection.skipped.iter().filter(|one| !read.contains(&one.path));
    skipped.extend(unread.cloned());
    written.skipped.sort();
    written.skipped.dedup();
    let listed = fetched_archive::listing(&folder, &written.images, context)?;
    let tables = labels.iter().filter(|path| *path != TABLE && !joined.contains(path));
    let tables = tables.map(|path| Skipped::by_name(path));
    let skipped = written.skipped.iter().cloned().chain(tables).collect();
    fetched_archive::write_lists(&listed, skipped, context)?;
    report(&written, &selection, context);
    Ok(())
}

/// The names of the classes of shards, also from a list beside them.
fn listed_names(
    repository: &Repository,
    files: &[File],
    mut names: ClassNames,
    context: &Context,
) -> Result<ClassNames, StageError> {
    let Some(list) = files.iter().find(|file| file.path == CLASS_LIST) else { return Ok(names) };
    for path in bring(repository, &[list], context)? {
        let text = std::fs::read_to_string(&path)
            .or_fail(format_args!("reading {CLASS_LIST} of {}", repository.id))?;
        let lines = text.lines().map(|line| line.trim().to_owned()).collect();
        names.insert(shards::CLASS.to_owned(), lines);
    }
    Ok(names)
}

/// Puts files into the folder at their paths in the repository. Those of a split that only the
/// metadata of the data set says go below a folder of its name. A table takes the place of one that
/// an archive has at the same path.
fn place(
    brought: &[(&Part, PathBuf)],
    selection: &Selection,
    folder: &Path,
    written: &mut Written,
) -> Result<(), StageError> {
    for (part, from) in brought {
        let path = &part.file.path;
        let is_said = path.split('/').any(|name| split_folder(name).is_some());
        let split = part.split.as_ref().filter(|_| selection.configuration.is_some() && !is_said);
        let relative = match split {
            Some(split) => format!("{split}/{path}"),
            None => path.clone(),
        };
        let relative = checked(&relative, path)?;
        let target = folder.join(&relative);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).or_fail(parent.display())?;
        }
        let is_image = is_image(&relative);
        let is_taken = std::fs::symlink_metadata(&target).is_ok();
        if is_taken && is_image {
            let message = format!("two images of the data set have the path `{relative}`");
            return Err(StageError::failed(message));
        }
        if is_taken {
            // Not overwritten: it may share its content with the memo.
            std::fs::remove_file(&target)
                .or_fail(format_args!("replacing {}", target.display()))?;
        }
        // The file in the memo never changes, so that both can share their content.
        if std::fs::hard_link(from, &target).is_err() {
            std::fs::copy(from, &target).or_fail(format_args!("writing {}", target.display()))?;
        }
        match is_image {
            true => written.images.push(relative),
            false if is_taken => {}
            false => written.labels.push(relative),
        }
    }
    Ok(())
}

/// A path of the repository, relative to the folder of the images.
pub(super) fn checked(path: &str, named: &str) -> Result<String, StageError> {
    relative_path(path).map_err(|reason| {
        StageError::failed(format!("the file `{}` {reason}", named.escape_debug()))
    })
}

fn report(written: &Written, selection: &Selection, context: &Context) {
    let unsupported = skipped::unsupported(&written.skipped);
    let warnings = written.warnings.iter().cloned().chain(unsupported);
    warnings.for_each(|text| context.events.warn(text));
    let splits: BTreeSet<&str> =
        selection.parts().filter_map(|part| part.split.as_deref()).collect();
    let mut text = counted(written.images.len() as u64, "image");
    if !splits.is_empty() {
        text += &format!(" of {}", and_list(splits.into_iter()));
    }
    if !written.labels.is_empty() {
        text += &format!(" and {}", counted(written.labels.len() as u64, "label file"));
    }
    text += &skipped::sentence(&written.skipped);
    context.events.info(text);
}
