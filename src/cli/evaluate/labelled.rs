//! The images of a folder with their classes, as the names of folders say them.

use super::super::failure::Failure;
use super::super::images::{ImageFile, images_in};
use super::super::init::no_images;
use super::super::shared::shown;
use crate::common::layout::{Layout, folder_at};
use crate::common::nearest;
use crate::common::words::{and_list, shortened_list};
use crate::model::{Content, GivenImage};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names in an error.
const NAMES: usize = 20;

/// The images of a folder that have a class of the model, and the others.
pub(super) struct Labelled {
    pub(super) images: Vec<LabelledImage>,
    /// The number of images in folders that are no class of the model, by their names.
    pub(super) left_out: BTreeMap<String, u64>,
    /// Images that are in no folder which could name a class.
    pub(super) strays: u64,
}

/// An image with its class.
pub(super) struct LabelledImage {
    path: PathBuf,
    /// Below the folder that is scored, with `/`.
    relative: String,
    /// Its index in the model's classes.
    pub(super) class: u32,
}

impl Labelled {
    /// The images to classify, named by their paths below the folder.
    pub(super) fn given(&self) -> impl Iterator<Item = GivenImage> + Send + use<> {
        let images = self.images.iter();
        let pairs: Vec<_> =
            images.map(|image| (image.relative.clone(), image.path.clone())).collect();
        pairs.into_iter().map(|(name, path)| GivenImage { name, content: Content::File(path) })
    }
}

/// The labelled images of a folder: those of `split` if it has folders of an author's split.
///
/// # Errors
/// When the folder isn't there or has no images, when a split has to be chosen or there is none of
/// that name, and when no folder is a class of the model.
pub(super) fn labelled(
    folder: &Path,
    split: Option<&str>,
    classes: &[String],
) -> Result<Labelled, Failure> {
    if !folder.is_dir() {
        return Err(Failure::invalid(match folder.exists() {
            true => format!("`{}` is not a folder", shown(folder)),
            false => format!("there is no folder `{}`", shown(folder)),
        }));
    }
    let mut files = images_in(folder)?;
    if files.is_empty() {
        return Err(no_images(folder));
    }
    let paths: Vec<&str> = files.iter().map(|file| file.relative.as_str()).collect();
    let mut layout = Layout::of(&paths);
    // Classes may be called `train` or `test`.
    if split.is_none() && layout.splits.iter().all(|name| classes.contains(name)) {
        layout.splits.clear();
    }
    let chosen = chosen_split(folder, &layout, split)?;
    let level = class_level(&paths, &layout, classes);
    if let Some(split) = chosen {
        files.retain(|file| folder_at(&file.relative, layout.class_level - 1) == Some(split));
    }
    let found = by_class(files, level, classes);
    match found.images.is_empty() {
        true => Err(no_class(folder, &found, classes)),
        false => Ok(found),
    }
}

/// The folder of the author's split to score; `None` without such folders.
fn chosen_split<'a>(
    folder: &Path,
    layout: &'a Layout,
    split: Option<&str>,
) -> Result<Option<&'a str>, Failure> {
    let splits = &layout.splits;
    let names = || splits.iter().map(String::as_str);
    match split {
        None if splits.is_empty() => Ok(None),
        None => Err(Failure::invalid(format!(
            "`{}` has folders of an author's split: {}",
            shown(folder),
            and_list(names())
        ))
        .help(format!("choose the one to score, such as `--split {}`", splits[0]))),
        Some(wanted) => match splits.iter().find(|name| *name == wanted) {
            Some(name) => Ok(Some(name)),
            None => {
                let message =
                    format!("`{}` has no folder `{wanted}` of an author's split", shown(folder));
                Err(Failure::invalid(message).help(match nearest(wanted, names()) {
                    Some(near) => format!("did you mean `--split {near}`?"),
                    None if splits.is_empty() => "leave out `--split`".to_owned(),
                    None => format!("choose one of {}", and_list(names())),
                }))
            }
        },
    }
}

/// The level of the folders that are named as classes: the first one at which the model has a class
/// of that name, else what the layout suggests.
fn class_level(paths: &[&str], layout: &Layout, classes: &[String]) -> usize {
    if !layout.splits.is_empty() {
        return layout.class_level;
    }
    let deepest = paths.iter().map(|path| path.matches('/').count()).max().unwrap_or(0);
    let is_class = |level: &usize| {
        let mut names = paths.iter().filter_map(|path| folder_at(path, *level));
        names.any(|name| classes.iter().any(|class| class == name))
    };
    (0..deepest).find(is_class).unwrap_or(layout.class_level)
}

fn by_class(files: Vec<ImageFile>, level: usize, classes: &[String]) -> Labelled {
    let places: BTreeMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
    let mut found = Labelled { images: Vec::new(), left_out: BTreeMap::new(), strays: 0 };
    for ImageFile { path, relative } in files {
        match folder_at(&relative, level) {
            None => found.strays += 1,
            Some(name) => match places.get(name) {
                Some(&class) => found.images.push(LabelledImage { path, relative, class }),
                None => *found.left_out.entry(name.to_owned()).or_default() += 1,
            },
        }
    }
    found
}

fn no_class(folder: &Path, found: &Labelled, classes: &[String]) -> Failure {
    let classes = shortened_list(classes.iter().map(String::as_str), NAMES);
    let message = match found.left_out.is_empty() {
        true => format!("`{}` has no folders that could name classes", shown(folder)),
        false => format!(
            "no folder in `{}` is a class of the model: its folders are {}",
            shown(folder),
            shortened_list(found.left_out.keys().map(String::as_str), NAMES)
        ),
    };
    Failure::invalid(message).help(format!("name a folder for each class: {classes}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(paths: &[&str], split: Option<&str>) -> Result<Labelled, String> {
        let folder = tempfile::tempdir().unwrap();
        for path in paths {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let classes = ["cat", "dog", "2023"].map(str::to_owned);
        labelled(folder.path(), split, &classes).map_err(|failure| match failure {
            Failure::Message { message, .. } => {
                message.replace(&folder.path().display().to_string(), "F")
            }
            other => format!("{other:?}"),
        })
    }

    fn labels(paths: &[&str], split: Option<&str>) -> Vec<(String, u32)> {
        let found = of(paths, split).unwrap();
        found.images.into_iter().map(|image| (image.relative, image.class)).collect()
    }

    #[test]
    fn the_class_is_the_folder_of_that_name_wherever_it_is() {
        for (path, class) in [
            ("cat/1.png", 0),
            ("cat/inside/1.png", 0),
            ("new/dog/1.png", 1),
            ("2023/1.png", 2),
            ("a/b/cat/2.png", 0),
        ] {
            assert_eq!(labels(&[path], None), [(path.to_owned(), class)]);
        }
        let found = of(&["cat/1.png", "Dog/2.png", "zebra/3.png", "zebra/4.png", "5.png"], None);
        let found = found.unwrap();
        assert_eq!((found.images.len(), found.strays), (1, 1));
        assert_eq!(found.left_out, BTreeMap::from([("Dog".into(), 1), ("zebra".into(), 2)]));
    }

    #[test]
    fn a_split_is_chosen() {
        let paths = ["train/cat/1.png", "test/cat/2.png", "test/dog/3.png"];
        assert_eq!(labels(&paths, Some("test")).len(), 2);
        assert_eq!(labels(&paths, Some("train")), [("train/cat/1.png".to_owned(), 0)]);
        let error = |split| of(&paths, split).err().unwrap();
        assert_eq!(error(None), "`F` has folders of an author's split: `test` and `train`");
        assert_eq!(error(Some("val")), "`F` has no folder `val` of an author's split");
    }

    #[test]
    fn a_folder_without_classes_of_the_model_is_an_error() {
        let error = |paths: &[&str]| of(paths, None).err().unwrap();
        assert_eq!(
            error(&["Cat/1.png", "zebra/1.png"]),
            "no folder in `F` is a class of the model: its folders are `Cat` and `zebra`"
        );
        assert_eq!(error(&["1.png"]), "`F` has no folders that could name classes");
        assert_eq!(error(&["notes.txt"]), "there are no images in `F`");
    }
}
