//! From a image's path to its class: by a pattern on the file's name or by the folder it lies in. Knows nothing of
//! what images show or how they are split.

use super::DataError;
use super::images::Image;
use regex::Regex;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Name of the group in a pattern that holds the class.
pub const GROUP: &str = "class";
/// A pattern that fits less than this part of the images isn't the right one.
const LEAST_FIT: f64 = 0.5;

/// Where labels come from.
#[derive(Deserialize, Clone, Debug)]
pub struct Rule {
    /// The file's name or its folder's.
    pub from: Place,
    /// For [`Place::FileName`]: a regular expression on the name without its extension, with a group named `class`.
    #[serde(default)]
    pub pattern: Option<String>,
}

/// The part of a path that names the class.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The file's name, by a pattern.
    FileName,
    /// The folder that the file lies in.
    Folder,
}

/// Each image's class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// What the classes are called, in order.
    pub classes: Vec<String>,
    /// Index of the class of each image, in the order given; none for an unlabelled one.
    pub by_image: Vec<Option<u32>>,
    /// Keys of `class_names` that no image has.
    pub unused_names: Vec<String>,
}

/// Labels `images`. Those below one of the `unlabelled` folders have no class, and those whose name doesn't fit.
/// `names` maps a class as it is written in the path to what it is called. Classes are in numeric order where all are
/// integers, else in that of their text.
///
/// # Errors
/// Where there are no images, the pattern is none, fits less than half of the images that should have labels, or
/// leaves fewer than two classes.
pub fn label(
    images: &[Image],
    rule: &Rule,
    unlabelled: &[String],
    names: &BTreeMap<String, String>,
) -> Result<Labels, DataError> {
    if images.is_empty() {
        return Err(DataError::invalid(
            "there are no images",
            "look at the source: files ending in .jpg, .png, .webp, .gif, .bmp or .tiff are taken, hidden ones are not",
        ));
    }
    let pattern = match (rule.from, &rule.pattern) {
        (Place::Folder, _) => None,
        (Place::FileName, Some(pattern)) => {
            Some(compile(pattern).map_err(|what| DataError::invalid(what, PATTERN_HELP))?)
        }
        (Place::FileName, None) => {
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
    check_fit(images, &written, rule, unlabelled)?;
    let (order, classes) = classes(&written, names);
    if let [only] = classes.as_slice() {
        return Err(DataError::invalid(
            format!("there is only one class, `{only}`"),
            "a classifier needs at least two: look at [dataset] labels",
        ));
    }
    let by_image =
        written.iter().map(|class| class.and_then(|class| order.get(class).copied())).collect();
    let unused_names =
        names.keys().filter(|key| !order.contains_key(key.as_str())).cloned().collect();
    Ok(Labels { classes, by_image, unused_names })
}

const PATTERN_HELP: &str = "write one such as '^(?<index>\\d+)_(?<class>\\d+)$'; it is matched with the file's name without its extension";

/// A pattern with a group named `class`; the sentence says what is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let regex = Regex::new(pattern).map_err(|error| {
        let last = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
        format!("`{pattern}` isn't a regular expression: {}", last.trim_start_matches("error: "))
    })?;
    match regex.capture_names().flatten().any(|name| name == GROUP) {
        true => Ok(regex),
        false => Err(format!("`{pattern}` has no group named `{GROUP}`")),
    }
}

/// Whether a path lies below one of the folders.
fn is_below(path: &str, folders: &[String]) -> bool {
    folders.iter().any(|folder| {
        let folder = folder.trim_start_matches("./").trim_end_matches('/');
        path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    })
}

/// The class as the path has it.
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

fn check_fit(
    images: &[Image],
    written: &[Option<&str>],
    rule: &Rule,
    unlabelled: &[String],
) -> Result<(), DataError> {
    let expected =
        || images.iter().zip(written).filter(|(image, _)| !is_below(&image.path, unlabelled));
    let (count, fitting) =
        (expected().count(), expected().filter(|(_, class)| class.is_some()).count());
    if count > 0 && fitting as f64 >= LEAST_FIT * count as f64 {
        return Ok(());
    }
    if count == 0 {
        return Err(DataError::invalid(
            "every image lies in a folder that is listed as unlabelled",
            "look at [dataset] unlabelled",
        ));
    }
    let what = match (rule.from, &rule.pattern) {
        (Place::FileName, Some(pattern)) => {
            format!("the pattern `{pattern}` fits {fitting} of {count} names")
        }
        _ => format!("{fitting} of {count} images lie in a folder that could name their class"),
    };
    let examples: Vec<&str> = expected()
        .filter(|(_, class)| class.is_none())
        .map(|(image, _)| image.path.as_str())
        .take(5)
        .collect();
    Err(DataError::invalid(
        format!("{what}; it doesn't fit, for example:\n  {}", examples.join("\n  ")),
        "change [dataset] labels to fit them, or list folders without labels in [dataset] unlabelled",
    ))
}

/// Index of each written class, and what the classes are called. Classes given one name are one class.
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
        Rule { from: Place::FileName, pattern: Some(pattern.into()) }
    }

    const PATTERN: &str = r"^(?<index>\d+)_(?<class>\d+)$";

    #[test]
    fn numbers_are_in_numeric_order_and_named() {
        let names = BTreeMap::from([("2".into(), "skirt".into()), ("77".into(), "hat".into())]);
        let set = images(&["test/9.jpg", "train/0_10.jpg", "train/1_2.jpg", "train/2_10.jpg"]);
        let labels = label(&set, &by_name(PATTERN), &["test".into()], &names).unwrap();
        assert_eq!(labels.classes, ["skirt", "10"]);
        assert_eq!(labels.by_image, [None, Some(1), Some(0), Some(1)]);
        assert_eq!(labels.unused_names, ["77"]);
    }

    #[test]
    fn folders_name_classes() {
        let rule = Rule { from: Place::Folder, pattern: None };
        let set =
            images(&["a/b/coat/1.jpg", "hat/2.jpg", "loose.jpg", "new/x/3.jpg", "newer/4.jpg"]);
        let labels = label(&set, &rule, &["new/".into()], &BTreeMap::new()).unwrap();
        assert_eq!(labels.classes, ["coat", "hat", "newer"]);
        assert_eq!(labels.by_image, [Some(0), Some(1), None, None, Some(2)]);
    }

    #[test]
    fn two_classes_of_one_name_are_one() {
        let names = BTreeMap::from([("1".into(), "shirt".into()), ("3".into(), "shirt".into())]);
        let set = images(&["0_1.jpg", "1_2.jpg", "2_3.jpg"]);
        let labels = label(&set, &by_name(PATTERN), &[], &names).unwrap();
        assert_eq!(labels.classes, ["shirt", "2"]);
        assert_eq!(labels.by_image, [Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn a_pattern_that_fits_nothing_shows_five_names() {
        let paths: Vec<String> = (0..8).map(|index| format!("train/shirt-{index}.jpg")).collect();
        let set = images(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let error = label(&set, &by_name(PATTERN), &[], &BTreeMap::new()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("fits 0 of 8 names"), "{text}");
        assert_eq!(text.matches("train/shirt-").count(), 5, "{text}");
    }

    #[test]
    fn what_cannot_be_labelled_is_said() {
        let set = images(&["0_1.jpg", "1_1.jpg"]);
        let said = |set: &[Image], rule: &Rule, unlabelled: &[String]| {
            label(set, rule, unlabelled, &BTreeMap::new()).unwrap_err().to_string()
        };
        assert_eq!(said(&[], &by_name(PATTERN), &[]), "there are no images");
        assert_eq!(said(&set, &by_name(PATTERN), &[]), "there is only one class, `1`");
        assert!(said(&set, &by_name("(?<klass>x)"), &[]).contains("no group named `class`"));
        assert!(said(&set, &by_name("(?<class>x"), &[]).contains("isn't a regular expression"));
        let below = images(&["new/0_1.jpg"]);
        assert!(said(&below, &by_name(PATTERN), &["new".into()]).contains("listed as unlabelled"));
    }
}
