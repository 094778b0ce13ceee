//! How a folder of images is laid out, by paths alone: folders of an author's train, validation and
//! test split, and the level of the folders that name classes.

use std::collections::BTreeSet;

/// A split that an author's folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SplitFolder {
    Train,
    Validation,
    Test,
}

/// Words in the name of such a folder that say nothing: `training_set`, `seg_train`.
const FILLERS: [&str; 8] = ["set", "data", "dataset", "images", "image", "imgs", "split", "seg"];

/// The split that a folder's name stands for, whatever its case: `train`, `training`, `val`,
/// `valid`, `validation`, `dev`, `test`, `testing`, also as in `Training_Set`.
pub(crate) fn split_folder(name: &str) -> Option<SplitFolder> {
    let lower = name.to_lowercase();
    let words = lower.split(['_', '-', ' ', '.']).filter(|word| !FILLERS.contains(word));
    let [word] = words.collect::<Vec<_>>()[..] else { return None };
    match word {
        "train" | "training" => Some(SplitFolder::Train),
        "val" | "valid" | "validation" | "dev" => Some(SplitFolder::Validation),
        "test" | "testing" => Some(SplitFolder::Test),
        _ => None,
    }
}

/// The layout of a set of labelled images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The folder whose name is the class is this many folders down, 0 being the first.
    pub(crate) class_level: usize,
    /// The names of the folders of the author's split, sorted; empty without one.
    pub(crate) splits: Vec<String>,
}

impl Layout {
    /// Infers the layout from paths with `/`. Folders of a split are passed over, and so is one
    /// folder around everything else.
    pub(crate) fn of(paths: &[&str]) -> Layout {
        let mut layout = Layout { class_level: 0, splits: Vec::new() };
        loop {
            let names = folders_at(paths, layout.class_level);
            if are_splits(&names) {
                let splits = names.into_iter().filter(|name| split_folder(name).is_some());
                layout.splits = splits.map(str::to_owned).collect();
            } else if names.len() != 1
                || !layout.splits.is_empty()
                || !is_wrapper(paths, layout.class_level)
            {
                return layout;
            }
            layout.class_level += 1;
        }
    }

    /// The split of the author's folder that an image is in.
    pub(crate) fn split(&self, path: &str) -> Option<SplitFolder> {
        let level = self.class_level.checked_sub(1).filter(|_| !self.splits.is_empty())?;
        folder_at(path, level).and_then(split_folder)
    }
}

/// The name of the folder of this path that is `level` folders down.
pub(crate) fn folder_at(path: &str, level: usize) -> Option<&str> {
    let (folders, _) = path.rsplit_once('/')?;
    folders.split('/').nth(level)
}

fn folders_at<'a>(paths: &[&'a str], level: usize) -> BTreeSet<&'a str> {
    paths.iter().filter_map(|path| folder_at(path, level)).collect()
}

/// Whether these folders are an author's split: all of them by their names, or, beside others, at
/// least a train folder and another one.
fn are_splits(names: &BTreeSet<&str>) -> bool {
    let splits: BTreeSet<SplitFolder> =
        names.iter().filter_map(|name| split_folder(name)).collect();
    let all = !names.is_empty() && names.iter().all(|name| split_folder(name).is_some());
    all || (splits.contains(&SplitFolder::Train) && splits.len() > 1)
}

/// Whether the only folder at this level has several folders in it rather than images.
fn is_wrapper(paths: &[&str], level: usize) -> bool {
    let inner = folders_at(paths, level + 1);
    inner.len() > 1 || are_splits(&inner) || (inner.len() == 1 && is_wrapper(paths, level + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_folders_are_below_the_root_a_split_or_one_folder_around_them() {
        for (paths, level, splits) in [
            (&["cat/1.png", "dog/2.png"][..], 0, &[][..]),
            (&["cat/in/1.png", "cat/out/1.png", "dog/in/2.png"], 0, &[]),
            (&["logo.png", "cat/1.png", "dog/2.png"], 0, &[]),
            (&["cat/1.png", "cat/2.png"], 0, &[]),
            (&["pets/cat/1.png", "pets/dog/2.png"], 1, &[]),
            (&["a/b/cat/1.png", "a/b/dog/2.png"], 2, &[]),
            (&["train/cat/1.png", "val/cat/2.png"], 1, &["train", "val"]),
            (&["train/cat/1.png", "train/dog/1.png"], 1, &["train"]),
            (
                &["Training_Set/training_set/cat/1.png", "test-set/test-set/cat/1.png"],
                2,
                &["test-set", "training_set"],
            ),
            (
                &["data/seg_train/sea/1.png", "data/seg_test/sea/1.png"],
                2,
                &["seg_test", "seg_train"],
            ),
            (&["train/cat/1.png", "test/cat/2.png", "extra/3.png"], 1, &["test", "train"]),
            (&["train/cat/1.png", "train/dog/1.png", "test/3.png"], 1, &["test", "train"]),
            (&["train/1_cat.png", "test/2_dog.png"], 1, &["test", "train"]),
            (&["train station/1.png", "test tube/1.png", "train car/2.png"], 0, &[]),
            (&["train/1.png", "bus/1.png"], 0, &[]),
            (&["1.png"], 0, &[]),
        ] {
            let layout = Layout::of(paths);
            assert_eq!(layout.class_level, level, "{paths:?}");
            assert_eq!(layout.splits, splits, "{paths:?}");
        }
    }

    #[test]
    fn an_image_is_in_the_split_of_its_folder() {
        let paths = ["d/train/cat/1.png", "d/valid/cat/1.png", "d/TESTING/2.png", "d/3.png"];
        let layout = Layout::of(&paths);
        let found = paths.map(|path| layout.split(path));
        let [train, validation, test] =
            [SplitFolder::Train, SplitFolder::Validation, SplitFolder::Test].map(Some);
        assert_eq!(found, [train, validation, test, None]);
        assert_eq!(Layout::of(&["cat/1.png", "dog/1.png"]).split("train/1.png"), None);
    }
}
