//! Infers the classes of images: by folder, by a table, or by a pattern of file names; which folders
//! have no labels; and whether the author split them.

use crate::common::layout::{Layout, SplitFolder, folder_at, split_folder};
use crate::common::number;
use crate::config::quoted;
use crate::stages::dataset::{FittingTable, fitting_table};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Patterns tried on file names without extension; the first that yields classes is taken.
const PATTERNS: [&str; 4] = [
    r"^(?<index>\d+)_(?<class>[^_]+)$",
    r"^(?<class>.*[^\d\s_.-])[\s_.-]*\(?(?<index>\d+)\)?$",
    r"^(?<class>[^_]+)_.+$",
    r"^(?<class>[^-]+)-.+$",
];
/// A pattern must match this share of the images in those top folders where it matches any.
const MIN_MATCHING: f64 = 0.9;
/// Mean number of images per class below which a pattern is taken to match names, not classes.
const MIN_PER_CLASS: usize = 3;
/// Names of folders that hold images rather than a class.
const COLLECTIONS: [&str; 4] = ["images", "pictures", "photos", "img"];
/// Names of folders without labels, beside those of a test split.
const UNLABELLED: [&str; 4] = ["unlabelled", "unlabeled", "unknown", "predict"];
/// At most this many classes are named in the comment.
const NAMED_CLASSES: usize = 6;

/// How images are named.
#[derive(Debug, PartialEq)]
pub(super) struct Naming {
    /// The value of `labels`, as TOML.
    pub(super) labels: String,
    /// A comment that explains it, ending in a newline.
    pub(super) comment: String,
    /// The number of classes.
    pub(super) classes: usize,
    /// Folders in which no image has a class.
    pub(super) unlabelled: Vec<String>,
    /// The author's split, if there is one with labels in several parts.
    pub(super) split: Option<AuthorSplit>,
    /// Images outside the folders of classes.
    pub(super) strays: usize,
}

/// The parts of an author's split that have labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuthorSplit {
    /// Their folders.
    pub(super) folders: Vec<String>,
    pub(super) has_validation: bool,
    pub(super) has_test: bool,
}

/// A table beside images.
pub(super) struct TableFile {
    /// Its path, as the pipeline file names it.
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
}

impl Naming {
    /// Infers the naming from image paths with `/`, sorted, relative to their common folder.
    pub(super) fn infer(paths: &[String], tables: &[TableFile]) -> Option<Naming> {
        Naming::by_folder(paths, tables)
            .or_else(|| tables.iter().find_map(|table| Naming::by_table(paths, table)))
            .or_else(|| PATTERNS.iter().find_map(|pattern| Naming::by_pattern(paths, pattern)))
    }

    fn by_folder(paths: &[String], tables: &[TableFile]) -> Option<Naming> {
        let inside: Vec<&str> =
            paths.iter().map(String::as_str).filter(|path| path.contains('/')).collect();
        let all = Layout::of(&inside);
        let mut unlabelled = unlabelled_folders(&inside, &all);
        let annotated = Annotated::of(paths, tables, &unlabelled);
        if let Some(Annotated { folder, .. }) = &annotated {
            unlabelled.retain(|other| other != folder);
        }
        let is_labelled = |path: &&str| !unlabelled.iter().any(|folder| is_in(path, folder));
        let labelled: Vec<&str> = inside.iter().copied().filter(is_labelled).collect();
        // As a run sees it, which leaves out the unlabelled folders.
        let layout = Layout::of(&labelled);
        let in_table =
            |path: &str| annotated.as_ref().is_some_and(|annotated| is_in(path, &annotated.folder));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for path in labelled.iter().filter(|path| !in_table(path)) {
            if let Some(class) = folder_at(path, layout.class_level) {
                *counts.entry(class).or_default() += 1;
            }
        }
        if let Some(Annotated { table, .. }) = &annotated
            && !table.names.iter().all(|class| counts.contains_key(class.as_str()))
        {
            return Naming::by_folder(paths, &[]);
        }
        let annotations = labelled.iter().filter(|path| in_table(path)).count();
        let in_class = counts.values().sum::<usize>() + annotations;
        let strays = labelled.len() - in_class + (paths.len() - inside.len());
        let are_classes = counts.len() > 1
            && in_class > strays
            && !counts.keys().all(|name| COLLECTIONS.contains(&name.to_lowercase().as_str()));
        are_classes.then(|| Naming {
            labels: annotated
                .as_ref()
                .map_or("{ from = \"folder\" }".to_owned(), Annotated::labels),
            comment: format!(
                "# The class of an image is its folder{}: {}.\n",
                annotated.as_ref().map_or(String::new(), |one| format!(
                    ", or, in {}, in a table",
                    one.folder.escape_debug()
                )),
                shortened(counts.keys())
            ),
            classes: counts.len(),
            split: author_split(&labelled, &layout, |path| {
                folder_at(path, layout.class_level).is_some()
            }),
            unlabelled,
            strays,
        })
    }

    fn by_table(paths: &[String], table: &TableFile) -> Option<Naming> {
        let FittingTable { image, class, names, images } =
            fitting_table(&table.path, &table.bytes, paths)?;
        let named: BTreeSet<usize> = images.into_iter().collect();
        let mut folders: BTreeMap<&str, bool> = BTreeMap::new();
        for (at, path) in paths.iter().enumerate() {
            if let Some(folder) = folder_at(path, 0) {
                *folders.entry(folder).or_default() |= named.contains(&at);
            }
        }
        let unlabelled: Vec<String> = folders
            .into_iter()
            .filter(|(_, has_labels)| !has_labels)
            .map(|(folder, _)| folder.to_owned())
            .collect();
        let in_them = |path: &&String| unlabelled.iter().any(|folder| is_in(path, folder));
        let expected = paths.len() - paths.iter().filter(in_them).count();
        Some(Naming {
            labels: format!(
                "{{ from = \"csv\", file = {}, image = {}, class = {} }}",
                quoted(&table.path),
                quoted(&image),
                quoted(&class)
            ),
            comment: "# The class of an image is in a table, by the image's name.\n".to_owned(),
            classes: names.len(),
            unlabelled,
            split: None,
            strays: expected.saturating_sub(named.len()),
        })
    }

    fn by_pattern(paths: &[String], pattern: &str) -> Option<Naming> {
        let regex = Regex::new(pattern).ok()?;
        let class = |path: &str| {
            let stem = Path::new(path).file_stem()?.to_str()?.to_owned();
            Some(regex.captures(&stem)?.name("class")?.as_str().to_owned())
        };
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        // For each top folder: the number of images that match, and of all images.
        let mut folders: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for path in paths {
            let folder = path.split_once('/').map_or("", |(top, _)| top);
            let (matching, all) = folders.entry(folder).or_default();
            *all += 1;
            if let Some(class) = class(path) {
                *matching += 1;
                *counts.entry(class).or_default() += 1;
            }
        }
        let (unlabelled, labelled): (Vec<_>, Vec<_>) =
            folders.iter().partition(|(_, (matching, _))| *matching == 0);
        let matching: usize = counts.values().sum();
        let expected: usize = labelled.iter().map(|(_, (_, all))| all).sum();
        let fits = matching as f64 >= MIN_MATCHING * expected as f64
            && unlabelled.iter().all(|(folder, _)| !folder.is_empty());
        let are_classes = counts.len() > 1 && matching >= MIN_PER_CLASS * counts.len();
        if !(fits && are_classes) {
            return None;
        }
        let unlabelled: Vec<String> =
            unlabelled.iter().map(|(folder, _)| (**folder).to_owned()).collect();
        let labelled: Vec<&str> = paths
            .iter()
            .map(String::as_str)
            .filter(|path| !unlabelled.iter().any(|folder| is_in(path, folder)))
            .collect();
        let layout = Layout::of(&labelled);
        Some(Naming {
            labels: format!("{{ from = \"file_name\", pattern = '{pattern}' }}"),
            comment: format!(
                "# The class is what the group `class` of the pattern matches in a file's name: {}.\n",
                shortened(counts.keys())
            ),
            classes: counts.len(),
            split: author_split(&labelled, &layout, |path| class(path).is_some()),
            unlabelled,
            strays: expected - matching,
        })
    }
}

/// A folder without folders of classes, whose images have their classes in a table.
struct Annotated {
    folder: String,
    table: FittingTable,
    /// The path of the table.
    file: String,
}

impl Annotated {
    /// The first of the unlabelled folders of which a table names the images.
    fn of(paths: &[String], tables: &[TableFile], unlabelled: &[String]) -> Option<Annotated> {
        let of_table = |file: &TableFile| {
            let table = fitting_table(&file.path, &file.bytes, paths)?;
            let covers = |folder: &&String| {
                let named = table.images.iter().filter(|at| is_in(&paths[**at], folder)).count();
                let all = paths.iter().filter(|path| is_in(path, folder)).count();
                named == table.images.len() && named as f64 >= MIN_MATCHING * all as f64
            };
            let folder = unlabelled.iter().find(covers)?.clone();
            Some(Annotated { folder, table, file: file.path.clone() })
        };
        tables.iter().find_map(of_table)
    }

    /// The value of `labels`.
    fn labels(&self) -> String {
        format!(
            "{{ from = \"folder\", file = {}, image = {}, class = {} }}",
            quoted(&self.file),
            quoted(&self.table.image),
            quoted(&self.table.class)
        )
    }
}

fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Folders whose images have no class: a part of a split in which images lie flat, or in folders
/// that aren't those of the training images, and folders named for it.
fn unlabelled_folders(paths: &[&str], layout: &Layout) -> Vec<String> {
    let level = layout.class_level;
    if layout.splits.is_empty() {
        let is_unlabelled = |name: &str| {
            UNLABELLED.contains(&name.to_lowercase().as_str())
                || split_folder(name) == Some(SplitFolder::Test)
        };
        let names: BTreeSet<&str> =
            paths.iter().filter_map(|path| folder_at(path, level)).collect();
        let named = paths.iter().filter(|path| folder_at(path, level).is_some_and(is_unlabelled));
        let folders: BTreeSet<String> = named.filter_map(|path| start(path, level + 1)).collect();
        return if names.len() > folders.len() + 1 {
            folders.into_iter().collect()
        } else {
            Vec::new()
        };
    }
    // By the folder of the split: the classes in it, and the number of images without one.
    let mut parts: BTreeMap<String, (BTreeSet<&str>, usize)> = BTreeMap::new();
    for path in paths {
        let Some(part) = start(path, level) else { continue };
        let (classes, flat) = parts.entry(part).or_default();
        match folder_at(path, level) {
            Some(class) => drop(classes.insert(class)),
            None => *flat += 1,
        }
    }
    let kind = |part: &str| part.rsplit('/').next().and_then(split_folder);
    let trained: BTreeSet<&str> = parts
        .iter()
        .filter(|(part, _)| kind(part) == Some(SplitFolder::Train))
        .flat_map(|(_, (classes, _))| classes.iter().copied())
        .collect();
    let others = parts.iter().filter(|(part, _)| kind(part) != Some(SplitFolder::Train));
    let has_classes = |classes: &BTreeSet<&str>| {
        let known = classes.iter().filter(|class| trained.contains(*class)).count();
        known * 2 > classes.len() || (trained.is_empty() && classes.len() > 1)
    };
    let without = others.filter(|(_, (classes, _))| !has_classes(classes));
    without.map(|(part, _)| part.clone()).collect()
}

/// The first `levels` folders of a path.
fn start(path: &str, levels: usize) -> Option<String> {
    let (folders, _) = path.rsplit_once('/')?;
    let parts: Vec<&str> = folders.split('/').take(levels).collect();
    (parts.len() == levels).then(|| parts.join("/"))
}

/// The author's split, if images to train on and others have labels.
fn author_split(
    labelled: &[&str],
    layout: &Layout,
    has_class: impl Fn(&str) -> bool,
) -> Option<AuthorSplit> {
    let parts = labelled.iter().filter(|path| has_class(path));
    let parts: BTreeSet<SplitFolder> = parts.filter_map(|path| layout.split(path)).collect();
    let has = |part| parts.contains(&part);
    (has(SplitFolder::Train) && parts.len() > 1).then(|| AuthorSplit {
        folders: layout.splits.clone(),
        has_validation: has(SplitFolder::Validation),
        has_test: has(SplitFolder::Test),
    })
}

/// The first few names, escaped to fit into a one-line comment.
fn shortened<'a, T: AsRef<str> + 'a>(names: impl ExactSizeIterator<Item = &'a T>) -> String {
    let more = names.len().saturating_sub(NAMED_CLASSES);
    let text = names.take(NAMED_CLASSES).map(|name| name.as_ref().escape_debug().to_string());
    let mut text = text.collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {} more", number::thousands(more as u64)));
    }
    text
}

#[cfg(test)]
mod tests;
