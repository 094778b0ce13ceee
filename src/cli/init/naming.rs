//! Infers the classes of images from their paths: by folder, or by a pattern of file names.

use crate::common::number;
use regex::Regex;
use std::collections::BTreeMap;
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
/// Folder names that are splits or collections rather than classes.
const NOT_CLASSES: [&str; 9] =
    ["train", "training", "test", "testing", "val", "valid", "validation", "images", "pictures"];
/// At most this many classes are named in the comment.
const NAMED_CLASSES: usize = 6;

/// How the paths of images name their classes.
#[derive(Debug, PartialEq)]
pub(super) struct Naming {
    /// The value of `labels`, as TOML.
    pub(super) labels: String,
    /// A comment that explains it, ending in a newline.
    pub(super) comment: String,
    /// The number of classes.
    pub(super) classes: usize,
    /// Top folders in which no image has a class.
    pub(super) unlabelled: Vec<String>,
}

impl Naming {
    /// Infers the naming from image paths with `/`, relative to their common folder.
    pub(super) fn infer(paths: &[String]) -> Option<Naming> {
        Naming::by_folder(paths)
            .or_else(|| PATTERNS.iter().find_map(|pattern| Naming::by_pattern(paths, pattern)))
    }

    fn by_folder(paths: &[String]) -> Option<Naming> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for path in paths {
            let class = path.rsplit('/').nth(1)?;
            *counts.entry(class).or_default() += 1;
        }
        let are_classes =
            counts.keys().all(|name| !NOT_CLASSES.contains(&name.to_ascii_lowercase().as_str()));
        (counts.len() > 1 && are_classes).then(|| Naming {
            labels: "{ from = \"folder\" }".to_owned(),
            comment: format!(
                "# The class of an image is its folder: {}.\n",
                shortened(counts.keys())
            ),
            classes: counts.len(),
            unlabelled: Vec::new(),
        })
    }

    fn by_pattern(paths: &[String], pattern: &str) -> Option<Naming> {
        let regex = Regex::new(pattern).ok()?;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        // For each top folder: the number of images that match, and of all images.
        let mut folders: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for path in paths {
            let folder = path.split_once('/').map_or("", |(top, _)| top);
            let (matching, all) = folders.entry(folder).or_default();
            *all += 1;
            let stem = Path::new(path).file_stem()?.to_str()?;
            if let Some(class) = regex.captures(stem).and_then(|found| found.name("class")) {
                *matching += 1;
                *counts.entry(class.as_str()).or_default() += 1;
            }
        }
        let (unlabelled, labelled): (Vec<_>, Vec<_>) =
            folders.iter().partition(|(_, (matching, _))| *matching == 0);
        let matching: usize = counts.values().sum();
        let labelled: usize = labelled.iter().map(|(_, (_, all))| all).sum();
        let fits = matching as f64 >= MIN_MATCHING * labelled as f64
            && unlabelled.iter().all(|(folder, _)| !folder.is_empty());
        let are_classes = counts.len() > 1 && matching >= MIN_PER_CLASS * counts.len();
        (fits && are_classes).then(|| Naming {
            labels: format!("{{ from = \"file_name\", pattern = '{pattern}' }}"),
            comment: format!(
                "# The class is what the group `class` of the pattern matches in a file's name: {}.\n",
                shortened(counts.keys())
            ),
            classes: counts.len(),
            unlabelled: unlabelled.iter().map(|(folder, _)| (**folder).to_owned()).collect(),
        })
    }
}

/// The first few names, escaped to fit into a one-line comment.
fn shortened<'a>(names: impl ExactSizeIterator<Item = &'a &'a str>) -> String {
    let more = names.len().saturating_sub(NAMED_CLASSES);
    let text = names.take(NAMED_CLASSES).map(|name| name.escape_debug().to_string());
    let mut text = text.collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {} more", number::thousands(more as u64)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(paths: &[&str], each: usize) -> Option<Naming> {
        let numbered = |path: &&str| {
            (0..each).map(|at| path.replace('#', &at.to_string())).collect::<Vec<_>>()
        };
        Naming::infer(&paths.iter().flat_map(numbered).collect::<Vec<_>>())
    }

    #[test]
    fn folders_name_classes() {
        let found = naming(&["cat/#.jpg", "dog/#.jpg"], 4).unwrap();
        assert_eq!((found.labels.as_str(), found.classes), ("{ from = \"folder\" }", 2));
        let nested = naming(&["train/cat/#.jpg", "train/dog/#.jpg", "val/cat/#.jpg"], 4).unwrap();
        assert_eq!((nested.labels.as_str(), nested.classes), ("{ from = \"folder\" }", 2));
    }

    #[test]
    fn folders_without_matching_names_are_unlabelled() {
        let found = naming(&["train/#_0.jpg", "train/#_1.jpg", "test/#.jpg"], 4).unwrap();
        assert_eq!(
            found.labels,
            r"{ from = 'file_name', pattern = '^(?<index>\d+)_(?<class>[^_]+)$' }"
                .replace("'file_name'", "\"file_name\"")
        );
        assert_eq!((found.classes, found.unlabelled), (2, vec!["test".to_owned()]));
    }

    #[test]
    fn file_names_name_classes() {
        for names in [
            ["cat#.jpg", "dog#.jpg"],
            ["big cat (#).jpg", "dog (#).jpg"],
            ["cat.#.png", "dog.#.png"],
            ["cat_a#.jpg", "dog_b#.jpg"],
        ] {
            assert_eq!(naming(&names, 5).map(|found| found.classes), Some(2), "{names:?}");
        }
    }

    #[test]
    fn names_without_classes_yield_none() {
        for names in [
            &["IMG_#.jpg"][..],
            &["#.jpg"],
            &["train/#.jpg", "test/#.jpg"],
            &["pictures/#.jpg", "images/#.jpg"],
            &["holiday.jpg", "house.jpg"],
        ] {
            assert_eq!(naming(names, 6), None, "{names:?}");
        }
    }
}
