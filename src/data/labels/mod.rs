//! Labels: the class of an image is a folder of its path, matches a pattern, or is in a table.

mod classes;
mod table;

pub use table::{Matches, Table};

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
        /// For `from = "csv"`: the table, relative to the pipeline file or to the source.
        file: Option<String> = none;
        /// For `from = "csv"`: the column with an image's path or name, with or without extension.
        /// A column with a usual name, such as `image` or `id`, else the first.
        image: Option<String> = none;
        /// For `from = "csv"`: the column with the class. A column with a usual name, such as
        /// `class` or `label`, else the other one of two.
        class: Option<String> = none;
        /// For `from = "csv"`: the folder of the source that names in the table start at.
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
    /// What a user should look at, a sentence each.
    pub warnings: Vec<String>,
    /// Rows of the table without an image.
    pub missing: Vec<Rejected>,
    /// How the folders of the labelled images are laid out.
    pub(crate) layout: Layout,
}

/// What says the class of an image.
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
    let written = match labelling.table.filter(|_| labelling.rule.from == LabelFrom::Csv) {
        Some(table) => by_table(images, table, labelling)?,
        None => by_path(&paths, &layout, labelling)?,
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
mod tests {
    use super::*;
    use crate::data::images::{self, LISTING, SKIPPED, Skipped, listing, skipped_table};
    use crate::data::rejected::{EMPTY, OTHER};
    use crate::store::Digest;

    fn set_with(paths: &[&str], skipped: &[(&str, &str)]) -> ImageSet {
        let one = |path: &&str| Image {
            path: (*path).into(),
            length: 1,
            digest: Digest::of(path.as_bytes()),
        };
        let folder = tempfile::tempdir().unwrap();
        let skip = |(path, reason): &(&str, &str)| Skipped {
            path: (*path).into(),
            reason: (*reason).into(),
        };
        std::fs::write(folder.path().join(LISTING), listing(paths.iter().map(one).collect()))
            .unwrap();
        let skipped = skipped_table(skipped.iter().map(skip).collect());
        std::fs::write(folder.path().join(SKIPPED), skipped).unwrap();
        images::open(folder.path(), None).unwrap()
    }

    fn set(paths: &[&str]) -> ImageSet {
        set_with(paths, &[])
    }

    fn rule(from: LabelFrom, pattern: Option<&str>) -> Rule {
        Rule {
            from,
            pattern: pattern.map(str::to_owned),
            depth: None,
            file: None,
            image: None,
            class: None,
            prefix: None,
        }
    }

    fn by_name(pattern: &str) -> Rule {
        rule(LabelFrom::FileName, Some(pattern))
    }

    fn by_folder() -> Rule {
        rule(LabelFrom::Folder, None)
    }

    /// Labels with names of classes and unlabelled folders.
    fn labelled(
        set: &ImageSet,
        rule: &Rule,
        unlabelled: &[&str],
        names: &[(&str, &str)],
    ) -> Result<Labels, DataError> {
        let unlabelled: Vec<String> = unlabelled.iter().map(|one| (*one).to_owned()).collect();
        let names = names.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        label(set, &Labelling { rule, unlabelled: &unlabelled, names: &names, table: None })
    }

    const PATTERN: &str = r"^(?<index>\d+)_(?<class>\d+)$";

    #[test]
    fn number_classes_are_sorted_by_value_and_renamed() {
        let names = [("2", "skirt"), ("77", "hat")];
        let images = set(&["test/9.jpg", "train/0_10.jpg", "train/1_2.jpg", "train/2_10.jpg"]);
        let labels = labelled(&images, &by_name(PATTERN), &["test"], &names).unwrap();
        assert_eq!(labels.classes, ["skirt", "10"]);
        assert_eq!(labels.by_image, [None, Some(1), Some(0), Some(1)]);
        assert_eq!(labels.warnings, ["no image has the class 77, which is named in class_names"]);
        let decimals = set(&["10/a.png", "0.5/b.png", "-2/c.png", "9.25/d.png"]);
        let labels = labelled(&decimals, &by_folder(), &[], &[]).unwrap();
        assert_eq!(labels.classes, ["-2", "0.5", "9.25", "10"]);
        let mixed = set(&["10/a.png", "9/b.png", "x/c.png"]);
        assert_eq!(labelled(&mixed, &by_folder(), &[], &[]).unwrap().classes, ["10", "9", "x"]);
    }

    #[test]
    fn the_first_folder_names_the_class_and_depth_another() {
        let images = set(&[
            "coat/a/1.jpg",
            "coat/b/1.jpg",
            "hat/2.jpg",
            "loose.jpg",
            "new/x/3.jpg",
            "newer/4.jpg",
        ]);
        let labels = labelled(&images, &by_folder(), &["new/"], &[]).unwrap();
        assert_eq!(labels.classes, ["coat", "hat", "newer"]);
        assert_eq!(labels.by_image, [Some(0), Some(0), Some(1), None, None, Some(2)]);
        assert_eq!(
            labels.warnings,
            [
                "1 image without a class (not in a folder that names it), to be predicted, never trained on: `loose.jpg`"
            ]
        );
        let deeper = Rule { depth: Some(2), ..by_folder() };
        let images = set(&["x/coat/1.jpg", "x/hat/1.jpg", "y/coat/1.jpg", "y/hat/q/2.jpg"]);
        let labels = labelled(&images, &deeper, &[], &[]).unwrap();
        assert_eq!(labels.classes, ["coat", "hat"]);
        let split = set(&["train/coat/1.jpg", "train/hat/1.jpg", "val/coat/1.jpg", "test/9.jpg"]);
        let labels = labelled(&split, &by_folder(), &[], &[]).unwrap();
        assert_eq!(labels.classes, ["coat", "hat"]);
        assert_eq!(labels.by_image, [None, Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn a_pattern_is_matched_against_the_whole_path() {
        let images = set(&["2020/cat-in/1.png", "2020/dog-out/1.png", "2021/cat-out/1.png"]);
        let rule = rule(LabelFrom::Path, Some(r"^\d+/(?<class>[a-z]+)-"));
        let labels = labelled(&images, &rule, &[], &[]).unwrap();
        assert_eq!(labels.classes, ["cat", "dog"]);
        assert_eq!(labels.by_image, [Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn classes_with_the_same_name_are_merged() {
        let images = set(&["0_1.jpg", "1_2.jpg", "2_3.jpg"]);
        let names = [("1", "shirt"), ("3", "shirt")];
        let labels = labelled(&images, &by_name(PATTERN), &[], &names).unwrap();
        assert_eq!(labels.classes, ["shirt", "2"]);
        assert_eq!(labels.by_image, [Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn suspicious_classes_and_folders_are_named() {
        let images = set_with(
            &["Cat/1.png", "cat /1.png", "cafe\u{301}/1.png", "caf\u{e9}/1.png", "dog/1.png"],
            &[
                ("heic/1.HEIC", "unsupported format: .heic"),
                ("heic/2.HEIC", "unsupported format: .heic"),
                ("empty/", EMPTY),
                ("dog/notes.txt", OTHER),
                ("notes.txt", OTHER),
                ("new/1.txt", OTHER),
            ],
        );
        let labels = labelled(&images, &by_folder(), &["new", "dgo"], &[]).unwrap();
        assert_eq!(
            labels.warnings,
            [
                "no image is in the folder `new`, which is named in unlabelled",
                "no image is in the folder `dgo`, which is named in unlabelled; did you mean `dog`?",
                "the classes `cafe\\u{301}` and `caf\u{e9}` differ only in case, blanks or Unicode form: if they are one, give them one name in class_names",
                "the classes `Cat` and `cat\\u{20}` differ only in case, blanks or Unicode form: if they are one, give them one name in class_names",
                "no image is in `empty` and `heic`, so no class has this name: `empty` is empty; `heic` has 2 files that can't be used, such as heic/1.HEIC",
            ]
        );
    }

    #[test]
    fn a_table_labels_its_images_and_names_what_is_missing() {
        let rule = Rule { file: Some("t.csv".into()), ..rule(LabelFrom::Csv, None) };
        let images = set(&["a/1.png", "a/2.png", "a/3.png", "a/4.png", "test/5.png"]);
        let labels = |text: &str| {
            let table = Table::parse("t.csv", text.as_bytes()).unwrap();
            let unlabelled = ["test".to_owned()];
            let names = BTreeMap::new();
            let labelling = Labelling {
                rule: &rule,
                unlabelled: &unlabelled,
                names: &names,
                table: Some(&table),
            };
            label(&images, &labelling)
        };
        let found = labels("id,label\n1,cat\n2,dog\n9,dog\n1,dog\n4,\n").unwrap();
        assert_eq!(found.classes, ["cat", "dog"]);
        assert_eq!(found.by_image, [Some(0), Some(1), None, None, None]);
        assert_eq!(found.missing[0].reason, "no such file: named in t.csv");
        assert_eq!(
            found.warnings,
            [
                "an image is in 1 row of t.csv again with another class, such as `1`: the first row counts",
                "no image for 1 row of t.csv, such as `9`",
                "2 images without a class (not in t.csv), to be predicted, never trained on: `a/3.png` and `a/4.png`",
            ]
        );
        let error = labels("id,label\nx/1,cat\nx/2,cat\n3,dog\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "1 of the 3 rows of t.csv name an image; not, for example:\n  x/1\n  x/2\nwhile images are called\n  a/1.png"
        );
    }

    #[test]
    fn a_pattern_without_matches_shows_five_examples() {
        let paths: Vec<String> = (0..8).map(|index| format!("train/shirt-{index}.jpg")).collect();
        let images = set(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let error = labelled(&images, &by_name(PATTERN), &[], &[]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("matches 0 of 8 file names"), "{text}");
        assert_eq!(text.matches("train/shirt-").count(), 5, "{text}");
    }

    #[test]
    fn images_that_cannot_be_labelled_are_an_error() {
        let images = set(&["0_1.jpg", "1_1.jpg"]);
        let message = |images: &ImageSet, rule: &Rule, unlabelled: &[&str]| {
            labelled(images, rule, unlabelled, &[])
                .and_then(|labels| labels.check_several())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(message(&set(&[]), &by_name(PATTERN), &[]), "there are no images");
        assert_eq!(message(&images, &by_name(PATTERN), &[]), "there is only one class, `1`");
        assert!(message(&images, &by_name("(?<klass>x)"), &[]).contains("no group named `class`"));
        assert!(
            message(&images, &by_name("(?<class>x"), &[])
                .contains("is not a valid regular expression")
        );
        let below = set(&["new/0_1.jpg"]);
        assert!(message(&below, &by_name(PATTERN), &["new"]).contains("listed as unlabelled"));
    }
}
