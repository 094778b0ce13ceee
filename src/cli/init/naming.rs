//! Finding the class in the names of images. Knows the ways in which people usually name them.

use crate::common::image_files::EXTENSIONS;
use crate::common::number;
use regex::Regex;
use std::collections::BTreeMap;
use std::path::Path;
use walkdir::WalkDir;

/// Patterns tried on file names, without their extension; the first that tells classes apart wins.
const PATTERNS: [&str; 4] = [
    r"^(?<index>\d+)_(?<class>[^_]+)$",
    r"^(?<class>.*[^\d\s_.-])[\s_.-]*\(?(?<index>\d+)\)?$",
    r"^(?<class>[^_]+)_.+$",
    r"^(?<class>[^-]+)-.+$",
];
/// A pattern has to fit this share of the images of the folders in which it fits any.
const FITTING: f64 = 0.9;
/// A class has this many images on average, or it is rather a name.
const LEAST_PER_CLASS: usize = 3;
/// Folders that people split data into: their names are no classes.
const SPLITS: [&str; 9] =
    ["train", "training", "test", "testing", "val", "valid", "validation", "images", "images"];

/// The images of a folder: paths below it with `/`, sorted.
pub(super) struct Seen {
    pub(super) paths: Vec<String>,
}

/// How images tell their class.
#[derive(Debug, PartialEq)]
pub(super) struct Naming {
    /// The value of `labels`.
    pub(super) labels: String,
    /// A comment that says so, ending in a newline.
    pub(super) what: String,
    /// How many classes there are.
    pub(super) classes: usize,
    /// Top folders in which no image has a class.
    pub(super) unlabelled: Vec<String>,
}

impl Seen {
    /// Looks through `folder`; hidden files and folders hold no images.
    pub(super) fn of(folder: &Path) -> Result<Seen, String> {
        let hidden = |entry: &walkdir::DirEntry| {
            entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.')
        };
        let mut paths = Vec::new();
        for entry in WalkDir::new(folder).into_iter().filter_entry(|entry| !hidden(entry)) {
            let entry = entry.map_err(|error| error.to_string())?;
            let extension = entry
                .path()
                .extension()
                .map(|extension| extension.to_string_lossy().to_ascii_lowercase());
            if entry.file_type().is_file()
                && extension.is_some_and(|it| EXTENSIONS.contains(&it.as_str()))
            {
                let below = entry.path().strip_prefix(folder).unwrap_or(entry.path());
                paths.push(below.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/"));
            }
        }
        paths.sort();
        Ok(Seen { paths })
    }

    /// `1,200 images`.
    pub(super) fn images(&self) -> String {
        number::counted(self.paths.len() as u64, "image")
    }

    /// The way in which these images tell their class, if any does.
    pub(super) fn naming(&self) -> Option<Naming> {
        self.by_folder().or_else(|| PATTERNS.iter().find_map(|pattern| self.by_pattern(pattern)))
    }

    fn by_folder(&self) -> Option<Naming> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for path in &self.paths {
            let class = path.rsplit('/').nth(1)?;
            *counts.entry(class).or_default() += 1;
        }
        let are_classes =
            counts.keys().all(|name| !SPLITS.contains(&name.to_ascii_lowercase().as_str()));
        (counts.len() > 1 && are_classes).then(|| Naming {
            labels: "{ from = \"folder\" }".to_owned(),
            what: format!(
                "# The class is the folder that a image lies in: {}.\n",
                some(counts.keys())
            ),
            classes: counts.len(),
            unlabelled: Vec::new(),
        })
    }

    fn by_pattern(&self, pattern: &str) -> Option<Naming> {
        let regex = Regex::new(pattern).ok()?;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        // Of each top folder: images that fit, and all of them.
        let mut folders: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for path in &self.paths {
            let folder = path.split_once('/').map_or("", |(top, _)| top);
            let (fitting, all) = folders.entry(folder).or_default();
            *all += 1;
            let stem = Path::new(path).file_stem()?.to_str()?;
            if let Some(class) = regex.captures(stem).and_then(|found| found.name("class")) {
                *fitting += 1;
                *counts.entry(class.as_str()).or_default() += 1;
            }
        }
        let (unlabelled, labelled): (Vec<_>, Vec<_>) =
            folders.iter().partition(|(_, (fitting, _))| *fitting == 0);
        let fitting: usize = counts.values().sum();
        let of: usize = labelled.iter().map(|(_, (_, all))| all).sum();
        let fits = fitting as f64 >= FITTING * of as f64
            && unlabelled.iter().all(|(folder, _)| !folder.is_empty());
        let tells = counts.len() > 1 && fitting >= LEAST_PER_CLASS * counts.len();
        (fits && tells).then(|| Naming {
            labels: format!("{{ from = \"file_name\", pattern = '{pattern}' }}"),
            what: format!(
                "# The class stands in a image's name, where the pattern's group `class` is: {}.\n",
                some(counts.keys())
            ),
            classes: counts.len(),
            unlabelled: unlabelled.iter().map(|(folder, _)| (**folder).to_owned()).collect(),
        })
    }
}

/// The first few names, for a comment: on one line whatever they hold.
fn some<'a>(names: impl ExactSizeIterator<Item = &'a &'a str>) -> String {
    let more = names.len().saturating_sub(6);
    let mut text =
        names.take(6).map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
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
        Seen { paths: paths.iter().flat_map(numbered).collect() }.naming()
    }

    #[test]
    fn folders_are_classes() {
        let found = naming(&["cat/#.jpg", "dog/#.jpg"], 4).unwrap();
        assert_eq!((found.labels.as_str(), found.classes), ("{ from = \"folder\" }", 2));
        let nested = naming(&["train/cat/#.jpg", "train/dog/#.jpg", "val/cat/#.jpg"], 4).unwrap();
        assert_eq!((nested.labels.as_str(), nested.classes), ("{ from = \"folder\" }", 2));
    }

    #[test]
    fn names_hold_classes_and_the_rest_is_unlabelled() {
        let found = naming(&["train/#_0.jpg", "train/#_1.jpg", "test/#.jpg"], 4).unwrap();
        assert_eq!(
            found.labels,
            r"{ from = 'file_name', pattern = '^(?<index>\d+)_(?<class>[^_]+)$' }"
                .replace("'file_name'", "\"file_name\"")
        );
        assert_eq!((found.classes, found.unlabelled), (2, vec!["test".to_owned()]));
    }

    #[test]
    fn classes_before_numbers() {
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
    fn nothing_is_made_up() {
        for names in [
            &["IMG_#.jpg"][..],
            &["#.jpg"],
            &["train/#.jpg", "test/#.jpg"],
            &["holiday.jpg", "house.jpg"],
        ] {
            assert_eq!(naming(names, 6), None, "{names:?}");
        }
    }
}
