//! Labels: the class of an image is a folder of its path, matches a pattern, or is in a table.

mod classes;
mod table;

pub use table::{Matches, Table};
pub(crate) use table::{is_class_column, is_named_like_text};

use super::DataError;
use super::images::{Image, ImageSet};
use super::rejected::Rejected;
use crate::common::image_files::EXTENSIONS;
use crate::common::layout::{Layout, folder_at};
use crate::common::nearest;
use crate::common::number::counted;
use crate::common::words::{or_list, shortened_list};
use crate::config::{choices, keys};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};

/// The group of a pattern that matches the class.
pub const GROUP: &str = "class";
/// A pattern that matches a smaller fraction of the images, or a table of which a smaller fraction
/// of the rows has an image, is an error.
const MIN_MATCHED: f64 = 0.5;
/// Largest number of names in a warning.
const SHOWN: usize = 5;

keys! {
    /// Where labels come from.
    pub struct Rule / GivenRule {
        /// Where an image's class is written: `folder`, the folder below the root, or below the
        /// author's train, validation and test folders; `path`, a part of the path; `file_name`, a
        /// part of the file's name; `csv`, a table with a row per image (CSV, TSV or JSON lines).
        from: LabelFrom = "folder";
        /// For `from = "path"` and `"file_name"`: a regular expression with a group `(?<class>…)`,
        /// matched against the path below the source, or the name without its extension.
        pattern: Option<String> = none;
        /// For `from = "folder"`: which folder of the path is the class, 1 being the first below
        /// the source.
        depth: Option<usize> = none in 1..=64;
        /// The table, relative to the pipeline file or to the source. With `from = "folder"`: a table
        /// of images that aren't in the folder of their class, such as `val/val_annotations.txt`.
        /// A `.txt` file has no header; its columns are `1`, `2` and so on.
        file: Option<String> = none;
        /// The table's column with an image's path or name, with or without extension. A column with
        /// a usual name, such as `image` or `id`, else the first.
        image: Option<String> = none;
        /// The table's column with the class. A column with a usual name, such as `class` or
        /// `label`, else the other one of two.
        class: Option<String> = none;
        /// The folder of the source that names in the table start at.
        prefix: Option<String> = none;
    }
}

choices! {
    /// What names the class.
    pub enum LabelFrom {
        /// A folder that the file lies in.
        Folder = "folder",
        /// The path, by a pattern.
        Path = "path",
        /// The file's name, by a pattern.
        FileName = "file_name",
        /// A table.
        Csv = "csv",
    }
}

/// Each image's class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Names of the classes; a class is its index here.
    pub classes: Vec<String>,
    /// Class of each image, in the order given; none for an unlabelled one.
    pub by_image: Vec<Option<u32>>,
    /// Warnings for the user, a sentence each.
    pub warnings: Vec<String>,
    /// Rows of the table without an image.
    pub missing: Vec<Rejected>,
    /// How the folders of the labelled images are laid out.
    pub(crate) layout: Layout,
}

/// The rules that give an image its class.
#[derive(Clone, Copy)]
pub struct Labelling<'a> {
    pub rule: &'a Rule,
    /// Folders whose images have no class.
    pub unlabelled: &'a [String],
    /// From a class as it is written to its name.
    pub names: &'a BTreeMap<String, String>,
    /// The table that `rule` names.
    pub table: Option<&'a Table>,
}

/// The classes as they are written, one per image, before they are named and ordered.
struct Written<'a> {
    by_image: Vec<Option<&'a str>>,
    missing: Vec<Rejected>,
    warnings: Vec<String>,
}

/// Labels the images of a set. An image in one of the unlabelled folders, or of which nothing says
/// the class, has none. Classes are sorted as numbers if all are, otherwise as text.
///
/// # Errors
/// If there are no images, the pattern is invalid or matches less than half of the images outside
/// the unlabelled folders, less than half of the rows of the table have an image, or there is no
/// class.
pub fn label(set: &ImageSet, labelling: &Labelling) -> Result<Labels, DataError> {
    let images = set.list();
    if images.is_empty() {
        let help = format!(
            "check the source: files ending in {} are images, except hidden ones",
            or_list(EXTENSIONS)
        );
        return Err(DataError::invalid("there are no images", help));
    }
    let paths: Vec<&str> = images.iter().map(|image| image.path.as_str()).collect();
    let expected: Vec<&str> =
        paths.iter().copied().filter(|path| !is_below(path, labelling.unlabelled)).collect();
    let layout = Layout::of(&expected);
    let written = match (labelling.rule.from, labelling.table) {
        (LabelFrom::Csv, Some(table)) => by_table(images, table, labelling)?,
        (LabelFrom::Folder, Some(table)) => {
            let folders = by_path(&paths, &layout, labelling)?.by_image;
            let mut written = by_table(images, table, labelling)?;
            for (class, folder) in written.by_image.iter_mut().zip(folders) {
                *class = class.or(folder);
            }
            written
        }
        _ => by_path(&paths, &layout, labelling)?,
    };
    let (order, classes) = classes::ordered(&written.by_image, labelling.names);
    if classes.is_empty() {
        return Err(DataError::invalid("no image has a class", "check [dataset] labels"));
    }
    let by_image = written
        .by_image
        .iter()
        .map(|class| class.and_then(|class| order.get(class).copied()))
        .collect();
    let mut labels =
        Labels { classes, by_image, warnings: written.warnings, missing: written.missing, layout };
    warn_of_names(&mut labels, &paths, labelling, &order);
    labels.warnings.extend(classes::alike(&labels.classes));
    if labelling.rule.from == LabelFrom::Folder {
        labels.warnings.extend(classes::without_images(set, labelling, &labels.layout, &order));
    }
    warn_of_unlabelled(&mut labels, &paths, labelling);
    Ok(labels)
}

impl Labels {
    /// No image has a label.
    pub fn none(set: &ImageSet) -> Labels {
        Labels {
            classes: Vec::new(),
            by_image: vec![None; set.list().len()],
            warnings: Vec::new(),
            missing: Vec::new(),
            layout: Layout::of(&[]),
        }
    }

    /// Fails if there is only one class.
    pub fn check_several(&self) -> Result<(), DataError> {
        match self.classes.as_slice() {
            [only] => Err(DataError::invalid(
                format!("there is only one class, `{only}`"),
                "a classifier needs at least two: check [dataset] labels",
            )),
            _ => Ok(()),
        }
    }
}

/// Compiles a pattern and checks that it has a group of this name. The error is a sentence.
pub fn compile(pattern: &str, group: &str) -> Result<Regex, String> {
    let regex = Regex::new(pattern).map_err(|error| {
        let last = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
        format!(
            "`{pattern}` is not a valid regular expression: {}",
            last.trim_start_matches("error: ")
        )
    })?;
    match regex.capture_names().flatten().any(|name| name == group) {
        true => Ok(regex),
        false => Err(format!("`{pattern}` has no group named `{group}`")),
    }
}

/// The part of a path that a pattern for `from` is matched against.
pub fn matched_part(path: &str, from: LabelFrom) -> &str {
    if from != LabelFrom::FileName {
        return path;
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// Whether a path is inside one of the folders.
pub fn is_below(path: &str, folders: &[String]) -> bool {
    folders.iter().any(|folder| {
        let folder = folder.trim_start_matches("./").trim_end_matches('/');
        path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    })
}

fn by_path<'a>(
    paths: &[&'a str],
    layout: &Layout,
    labelling: &Labelling,
) -> Result<Written<'a>, DataError> {
    let rule = labelling.rule;
    let pattern = match (rule.from, &rule.pattern) {
        (LabelFrom::Folder, _) => None,
        (_, Some(pattern)) => Some(
            compile(pattern, GROUP).map_err(|message| DataError::invalid(message, PATTERN_HELP))?,
        ),
        (_, None) => {
            return Err(DataError::invalid("these labels need a pattern", PATTERN_HELP));
        }
    };
    let level = rule.depth.map_or(layout.class_level, |depth| depth - 1);
    let class = |path: &'a str| {
        let class = match &pattern {
            None => folder_at(path, level),
            Some(pattern) => {
                let part = matched_part(path, rule.from);
                pattern.captures(part)?.name(GROUP).map(|group| group.as_str())
            }
        };
        class.filter(|class| !class.is_empty())
    };
    let by_image: Vec<Option<&str>> = paths
        .iter()
        .map(|path| if is_below(path, labelling.unlabelled) { None } else { class(path) })
        .collect();
    check_matches(paths, &by_image, labelling)?;
    Ok(Written { by_image, missing: Vec::new(), warnings: Vec::new() })
}

const PATTERN_HELP: &str = "write one such as '^(?<index>\\d+)_(?<class>\\d+)$' for the name without its extension, or '^(?<class>[^/]+)/' for the path";

fn check_matches(
    paths: &[&str],
    written: &[Option<&str>],
    labelling: &Labelling,
) -> Result<(), DataError> {
    let expected =
        || paths.iter().zip(written).filter(|(path, _)| !is_below(path, labelling.unlabelled));
    let (count, matched) =
        (expected().count(), expected().filter(|(_, class)| class.is_some()).count());
    if count > 0 && matched as f64 >= MIN_MATCHED * count as f64 {
        return Ok(());
    }
    if count == 0 {
        return Err(DataError::invalid(
            "every image is in a folder listed as unlabelled",
            "check [dataset] unlabelled",
        ));
    }
    let rule = labelling.rule;
    let message = match (rule.from, &rule.pattern) {
        (LabelFrom::FileName, Some(pattern)) => {
            format!("the pattern `{pattern}` matches {matched} of {count} file names")
        }
        (LabelFrom::Path, Some(pattern)) => {
            format!("the pattern `{pattern}` matches {matched} of {count} paths")
        }
        _ => format!("{matched} of {count} images are in a folder that could be their class"),
    };
    let examples: Vec<&str> = expected()
        .filter(|(_, class)| class.is_none())
        .map(|(path, _)| *path)
        .take(SHOWN)
        .collect();
    Err(DataError::invalid(
        format!("{message}; no match, for example:\n  {}", examples.join("\n  ")),
        "change [dataset] labels to match them, or list folders without labels in [dataset] unlabelled",
    ))
}

fn by_table<'a>(
    images: &[Image],
    table: &'a Table,
    labelling: &Labelling,
) -> Result<Written<'a>, DataError> {
    let rule = labelling.rule;
    let image = table.image_column(rule.image.as_deref())?;
    let class = table.class_column(rule.class.as_deref(), image)?;
    let found = table.matches(images, image, rule.prefix.as_deref(), |path| {
        !is_below(path, labelling.unlabelled)
    })?;
    let with_image = table.row_count() - found.missing.len();
    if (with_image as f64) < MIN_MATCHED * table.row_count() as f64 {
        let rows = found.missing.iter().take(SHOWN).map(|(path, _)| path.as_str());
        let rows = rows.collect::<Vec<_>>().join("\n  ");
        let first = images.first().map_or("", |image| image.path.as_str());
        return Err(DataError::invalid(
            format!(
                "{with_image} of the {} of {} name an image; not, for example:\n  {rows}\nwhile images are called\n  {first}",
                counted(table.row_count() as u64, "row"),
                table.name
            ),
            "set `image` to the column with the images, or `prefix` to the folder that they are in",
        ));
    }
    let class_of = |row: usize| table.field(row, class);
    let row_class = |row: &Option<usize>| row.and_then(class_of);
    let mut warnings = Vec::new();
    let contrary = found.repeated.iter().filter(|(row, first)| class_of(*row) != class_of(*first));
    if let Some((row, _)) = contrary.clone().next() {
        let name = table.field(*row, image).unwrap_or_default();
        warnings.push(format!(
            "an image is in {} of {} again with another class, such as `{name}`: the first row counts",
            counted(contrary.count() as u64, "row"),
            table.name
        ));
    }
    let reason = format!("no such file: named in {}", table.name);
    let missing = |(path, row): &(String, usize)| Rejected {
        path: path.clone(),
        class: class_of(*row).unwrap_or_default().to_owned(),
        reason: reason.clone(),
    };
    let missing: Vec<Rejected> = found.missing.iter().map(missing).collect();
    if !missing.is_empty() {
        warnings.push(format!(
            "no image for {} of {}, such as {}",
            counted(missing.len() as u64, "row"),
            table.name,
            shortened_list(missing.iter().map(|one| one.path.as_str()), SHOWN)
        ));
    }
    Ok(Written { by_image: found.by_image.iter().map(row_class).collect(), missing, warnings })
}

/// Entries of `unlabelled` and `class_names` that match nothing.
fn warn_of_names(
    labels: &mut Labels,
    paths: &[&str],
    labelling: &Labelling,
    order: &BTreeMap<&str, u32>,
) {
    let unused: Vec<&str> = labelling
        .names
        .keys()
        .map(String::as_str)
        .filter(|name| !order.contains_key(name))
        .collect();
    if !unused.is_empty() {
        let unused = unused.join(", ");
        labels
            .warnings
            .push(format!("no image has the class {unused}, which is named in class_names"));
    }
    for folder in labelling.unlabelled {
        if !paths.iter().any(|path| is_below(path, std::slice::from_ref(folder))) {
            let folders: BTreeSet<&str> =
                paths.iter().filter_map(|path| Some(path.rsplit_once('/')?.0)).collect();
            let tops: BTreeSet<&str> = paths.iter().filter_map(|path| folder_at(path, 0)).collect();
            let hint = nearest(folder, tops.into_iter().chain(folders));
            let hint = hint.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            labels.warnings.push(format!(
                "no image is in the folder `{folder}`, which is named in unlabelled{hint}"
            ));
        }
    }
}

/// Images without a class in folders that aren't said to be unlabelled.
fn warn_of_unlabelled(labels: &mut Labels, paths: &[&str], labelling: &Labelling) {
    let without: Vec<&str> = paths
        .iter()
        .zip(&labels.by_image)
        .filter(|(path, class)| class.is_none() && !is_below(path, labelling.unlabelled))
        .map(|(path, _)| *path)
        .collect();
    if without.is_empty() {
        return;
    }
    let why = match (labelling.rule.from, labelling.table) {
        (LabelFrom::Folder, _) => "not in a folder that names it".to_owned(),
        (LabelFrom::Csv, Some(table)) => format!("not in {}", table.name),
        _ => "not matched by the pattern".to_owned(),
    };
    labels.warnings.push(format!(
        "{} without a class ({why}), to be predicted, never trained on: {}",
        counted(without.len() as u64, "image"),
        shortened_list(without.iter().copied(), SHOWN)
    ));
}

#[cfg(test)]
mod tests;
