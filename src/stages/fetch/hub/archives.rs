//! Unpacks the archives of a data set: those of a split into a folder of its name. Archives of one
//! folder may have files of the same name, of which none is lost.

use super::data_set::{Written, below, checked};
use super::selection::Part;
use crate::common::layout::{Layout, folder_at};
use crate::common::number::counted;
use crate::data::archive::{self, Unpacked, without_ending};
use crate::engine::{Context, OrFail, StageError};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// The folder in the slot to which archives are unpacked first.
const FIRST: &str = "unpacked";

/// An unpacked archive.
struct Archive<'a> {
    /// Its path in the repository.
    named: &'a str,
    split: Option<&'a str>,
    folder: PathBuf,
    found: Unpacked,
}

/// Unpacks archives into `folder`, which is empty.
pub(super) fn unpack(
    archives: &[(&Part, PathBuf)],
    folder: &Path,
    context: &Context,
) -> Result<Written, StageError> {
    let first = context.slot.join(FIRST);
    let mut all = Vec::new();
    for (number, (part, path)) in archives.iter().enumerate() {
        let (named, into) = (part.file.path.as_str(), first.join(number.to_string()));
        std::fs::create_dir_all(&into).or_fail(into.display())?;
        let found = archive::unpack(path, named, &into, &context.events, &context.cancel)?;
        all.push(Archive { named, split: part.split.as_deref(), folder: into, found });
    }
    let are_parts = are_parts(&all);
    let is_only = all.len() == 1;
    let mut merged = Merged { folder, taken: HashSet::new(), written: Written::default() };
    for one in all {
        let place = match one.split {
            Some(split) => split,
            None if is_only || are_parts => "",
            None => without_ending(one.named).unwrap_or(one.named),
        };
        let place = checked(place, one.named)?;
        merged.add(one, &place)?;
    }
    std::fs::remove_dir_all(&first).or_fail(first.display())?;
    Ok(merged.written)
}

/// Whether archives of which nothing says the split are parts of one: each has several folders of
/// classes, and a class is in two of them. Otherwise the name of an archive may be a class.
fn are_parts(archives: &[Archive]) -> bool {
    let classes = |one: &Archive| -> BTreeSet<String> {
        let paths: Vec<&str> = one.found.images.iter().map(String::as_str).collect();
        let level = Layout::of(&paths).class_level;
        paths.iter().filter_map(|path| Some(folder_at(path, level)?.to_owned())).collect()
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for one in archives.iter().filter(|one| one.split.is_none()) {
        let classes = classes(one);
        if classes.len() < 2 {
            return false;
        }
        classes.into_iter().for_each(|class| *counts.entry(class).or_default() += 1);
    }
    counts.values().any(|&count| count > 1)
}

/// The files of all archives.
struct Merged<'a> {
    folder: &'a Path,
    /// Paths below the folder.
    taken: HashSet<String>,
    written: Written,
}

impl Merged<'_> {
    /// Moves the files of an archive to the folder `place`.
    fn add(&mut self, one: Archive, place: &str) -> Result<(), StageError> {
        let Unpacked { images, labels, skipped, warnings } = one.found;
        let own = without_ending(one.named).unwrap_or(one.named);
        // What a table names is beside it.
        let is_table_taken = labels.iter().any(|path| self.taken.contains(&below(place, path)));
        let place = if is_table_taken { below(place, own) } else { place.to_owned() };
        let mut renamed = 0;
        for (paths, is_image) in [(images, true), (labels, false)] {
            for path in paths {
                let mut target = below(&place, &path);
                if self.taken.contains(&target) {
                    target = below(&place, &within(&path, own));
                    renamed += 1;
                }
                self.take(&one.folder.join(&path), &target)?;
                let list =
                    if is_image { &mut self.written.images } else { &mut self.written.labels };
                list.push(target);
            }
        }
        if renamed > 0 {
            let files = counted(renamed, "file");
            let message = format!(
                "{}: {files} with the name of one in another archive of the same folder, put into folders `{own}`",
                one.named
            );
            self.written.warnings.push(message);
        }
        self.written.skip(&place, skipped);
        self.written.warnings.extend(warnings);
        Ok(())
    }

    fn take(&mut self, from: &Path, target: &str) -> Result<(), StageError> {
        let to = self.folder.join(target);
        if !self.taken.insert(target.to_owned()) {
            let message = format!("two files of the data set have the path `{target}`");
            return Err(StageError::failed(message));
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).or_fail(parent.display())?;
        }
        std::fs::rename(from, &to).or_fail(format_args!("moving a file to {}", to.display()))
    }
}

/// The path of a file in a folder `inner` of the folder that it was in, so that the outermost
/// folders, which say its class, stay.
fn within(path: &str, inner: &str) -> String {
    match path.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/{inner}/{name}"),
        None => format!("{inner}/{path}"),
    }
}
