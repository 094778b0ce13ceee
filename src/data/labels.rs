//! Labels from paths: the class of an image is its folder's name or matches a pattern in its file
//! name.

use super::DataError;
use super::images::Image;
use crate::common::image_files::EXTENSIONS;
use crate::common::words::or_list;
use crate::config::{choices, keys};
use regex::Regex;
use std::collections::BTreeMap;

/// The group of a pattern that matches the class.
pub const GROUP: &str = "class";
/// A pattern that matches a smaller fraction of the images is an error.
const MIN_MATCHED: f64 = 0.5;

keys! {
    /// Where labels come from.
    pub struct Rule / GivenRule {
        /// Where an image's class is written: the folder it lies in, or its file name.
        from: LabelFrom = "folder";
        /// For `from = "file_name"`: a regular expression with a group `(?<class>…)`, matched
        /// against the name without its extension.
        pattern: Option<String> = none;
    }
}

choices! {
    /// The part of a path that names the class.
    pub enum LabelFrom {
        /// The folder that the file lies in.
        Folder = "folder",
        /// The file's name, by a pattern.
        FileName = "file_name",
    }
}

/// Each image's class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Names of the classes; a class is its index here.
    pub classes: Vec<String>,
    /// Class of each image, in the order given; none for an unlabelled one.
    pub by_image: Vec<Option<u32>>,
    /// Keys of `class_names` that occur in no path.
    pub unused_names: Vec<String>,
}

/// Labels `images`. An image in one of the `unlabelled` folders, or whose path doesn't match, has
/// no class. `names` maps a class as written in a path to its display name. Classes are sorted
/// numerically if all are integers, otherwise as text.
///
/// # Errors If there are no images, the pattern is invalid or matches less than half of the images
/// outside the unlabelled folders, or there are fewer than two classes.
pub fn label(
    images: &[Image],
    rule: &Rule,
    unlabelled: &[String],
    names: &BTreeMap<String, String>,
) -> Result<Labels, DataError> {
    if images.is_empty() {
        let help = format!(
            "check the source: files ending in {} are images, except hidden ones",
            or_list(EXTENSIONS)
        );
        return Err(DataError::invalid("there are no images", help));
    }
    let pattern = match (rule.from, &rule.pattern) {
        (LabelFrom::Folder, _) => None,
        (LabelFrom::FileName, Some(pattern)) => {
            Some(compile(pattern).map_err(|message| DataError::invalid(message, PATTERN_HELP))?)
        }
        (LabelFrom::FileName, None) => {
            return Err(DataError::invalid("labels from file names need a pattern", PATTERN_HELP));
        }
    };
    let written: Vec<Option<&str>> = images
        .iter()
        .map(|image| match is_below(&image.path, unlabelled) {
            true => None,
            false => written_class(&image.path, pattern.as_ref()),
        })
        .collect();
    check_matches(images, &written, rule, unlabelled)?;
    let (order, classes) = classes(&written, names);
    if let [only] = classes.as_slice() {
        return Err(DataError::invalid(
            format!("there is only one class, `{only}`"),
            "a classifier needs at least two: check [dataset] labels",
        ));
    }
    let by_image =
        written.iter().map(|class| class.and_then(|class| order.get(class).copied())).collect();
    let unused_names =
        names.keys().filter(|key| !order.contains_key(key.as_str())).cloned().collect();
    Ok(Labels { classes, by_image, unused_names })
}

const PATTERN_HELP: &str = "write one such as '^(?<index>\\d+)_(?<class>\\d+)$'; it is matched against the file name without its extension";

/// Compiles a pattern and checks that it has a group named `class`. The error is a sentence.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let regex = Regex::new(pattern).map_err(|error| {
        let last = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
        format!(
            "`{pattern}` is not a valid regular expression: {}",
            last.trim_start_matches("error: ")
        )
    })?;
    match regex.capture_names().flatten().any(|name| name == GROUP) {
        true => Ok(regex),
        false => Err(format!("`{pattern}` has no group named `{GROUP}`")),
    }
}

/// Whether a path is inside one of the folders.
fn is_below(path: &str, folders: &[String]) -> bool {
    folders.iter().any(|folder| {
        let folder = folder.trim_start_matches("./").trim_end_matches('/');
        path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    })
}

/// The class as written in the path.
fn written_class<'a>(path: &'a str, pattern: Option<&Regex>) -> Option<&'a str> {
    let (folders, name) =
        path.rsplit_once('/').map_or((None, path), |(folders, name)| (Some(folders), name));
    let class = match pattern {
        None => folders?.rsplit('/').next(),
        Some(pattern) => {
            let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
            pattern.captures(stem)?.name(GROUP).map(|group| group.as_str())
        }
    };
    class.filter(|class| !class.is_empty())
}

fn check_matches(
    images: &[Image],
    written: &[Option<&str>],
    rule: &Rule,
    unlabelled: &[String],
) -> Result<(), DataError> {
    let expected =
        || images.iter().zip(written).filter(|(image, _)| !is_below(&image.path, unlabelled));
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
    let message = match (rule.from, &rule.pattern) {
        (LabelFrom::FileName, Some(pattern)) => {
            format!("the pattern `{pattern}` matches {matched} of {count} file names")
        }
        _ => format!("{matched} of {count} images are in a folder that could be their class"),
    };
    let examples: Vec<&str> = expected()
        .filter(|(_, class)| class.is_none())
        .map(|(image, _)| image.path.as_str())
        .take(5)
        .collect();
    Err(DataError::invalid(
        format!("{message}; no match, for example:\n  {}", examples.join("\n  ")),
        "change [dataset] labels to match them, or list folders without labels in [dataset] unlabelled",
    ))
}

/// The index of each class as written in paths, and the display names. Classes with the same
/// display name are merged.
fn classes<'a>(
    written: &[Option<&'a str>],
    names: &BTreeMap<String, String>,
) -> (BTreeMap<&'a str, u32>, Vec<String>) {
    let mut found: Vec<&str> = written.iter().flatten().copied().collect();
    found.sort_unstable();
    found.dedup();
    let numbers: Option<Vec<i128>> = found.iter().map(|class| class.parse().ok()).collect();
    if let Some(numbers) = numbers {
        let mut both: Vec<(i128, &str)> = numbers.into_iter().zip(found).collect();
        both.sort_unstable();
        found = both.into_iter().map(|(_, class)| class).collect();
    }
    let (mut order, mut classes) = (BTreeMap::new(), Vec::new());
    for class in found {
        let name = names.get(class).map_or(class, String::as_str);
        let index = classes.iter().position(|known| known == name).unwrap_or_else(|| {
            classes.push(name.to_owned());
            classes.len() - 1
        });
        order.insert(class, index as u32);
    }
    (order, classes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Digest;

    fn images(paths: &[&str]) -> Vec<Image> {
        let one = |path: &&str| Image {
            path: (*path).into(),
            length: 1,
            digest: Digest::of(path.as_bytes()),
        };
        paths.iter().map(one).collect()
    }

    fn by_name(pattern: &str) -> Rule {
        Rule { from: LabelFrom::FileName, pattern: Some(pattern.into()) }
    }

    const PATTERN: &str = r"^(?<index>\d+)_(?<class>\d+)$";

    #[test]
    fn integer_classes_are_sorted_numerically_and_renamed() {
        let names = BTreeMap::from([("2".into(), "skirt".into()), ("77".into(), "hat".into())]);
        let set = images(&["test/9.jpg", "train/0_10.jpg", "train/1_2.jpg", "train/2_10.jpg"]);
        let labels = label(&set, &by_name(PATTERN), &["test".into()], &names).unwrap();
        assert_eq!(labels.classes, ["skirt", "10"]);
        assert_eq!(labels.by_image, [None, Some(1), Some(0), Some(1)]);
        assert_eq!(labels.unused_names, ["77"]);
    }

    #[test]
    fn folders_name_classes() {
        let rule = Rule { from: LabelFrom::Folder, pattern: None };
        let set =
            images(&["a/b/coat/1.jpg", "hat/2.jpg", "loose.jpg", "new/x/3.jpg", "newer/4.jpg"]);
        let labels = label(&set, &rule, &["new/".into()], &BTreeMap::new()).unwrap();
        assert_eq!(labels.classes, ["coat", "hat", "newer"]);
        assert_eq!(labels.by_image, [Some(0), Some(1), None, None, Some(2)]);
    }

    #[test]
    fn classes_with_the_same_name_are_merged() {
        let names = BTreeMap::from([("1".into(), "shirt".into()), ("3".into(), "shirt".into())]);
        let set = images(&["0_1.jpg", "1_2.jpg", "2_3.jpg"]);
        let labels = label(&set, &by_name(PATTERN), &[], &names).unwrap();
        assert_eq!(labels.classes, ["shirt", "2"]);
        assert_eq!(labels.by_image, [Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn a_pattern_without_matches_shows_five_examples() {
        let paths: Vec<String> = (0..8).map(|index| format!("train/shirt-{index}.jpg")).collect();
        let set = images(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let error = label(&set, &by_name(PATTERN), &[], &BTreeMap::new()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("matches 0 of 8 file names"), "{text}");
        assert_eq!(text.matches("train/shirt-").count(), 5, "{text}");
    }

    #[test]
    fn images_that_cannot_be_labelled_are_an_error() {
        let set = images(&["0_1.jpg", "1_1.jpg"]);
        let message = |set: &[Image], rule: &Rule, unlabelled: &[String]| {
            label(set, rule, unlabelled, &BTreeMap::new()).unwrap_err().to_string()
        };
        assert_eq!(message(&[], &by_name(PATTERN), &[]), "there are no images");
        assert_eq!(message(&set, &by_name(PATTERN), &[]), "there is only one class, `1`");
        assert!(message(&set, &by_name("(?<klass>x)"), &[]).contains("no group named `class`"));
        assert!(
            message(&set, &by_name("(?<class>x"), &[])
                .contains("is not a valid regular expression")
        );
        let below = images(&["new/0_1.jpg"]);
        assert!(
            message(&below, &by_name(PATTERN), &["new".into()]).contains("listed as unlabelled")
        );
    }
}
