//! Finds the images in a folder, by the same rule ([`is_image`]) as the stages that read folders.

use super::failure::Failure;
use crate::common::image_files::{is_hidden, is_image, is_unsupported};
use std::io;
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// An image file: its path, and the same relative to the folder that was searched, with `/`.
pub(super) struct ImageFile {
    pub(super) path: PathBuf,
    pub(super) relative: String,
}

/// The images in `folder` and its subfolders, ordered by file name in each folder. Hidden files and
/// folders are left out, whether or not `folder` itself is hidden. Links are followed; one that leads
/// nowhere counts as an image if its name is that of one, so that it isn't passed over. Holds one
/// folder's names at a time.
pub(super) fn walk(folder: &Path) -> impl Iterator<Item = Result<ImageFile, Unreadable>> + use<> {
    let visible =
        |entry: &DirEntry| entry.depth() == 0 || !is_hidden(&entry.file_name().to_string_lossy());
    let walk = WalkDir::new(folder).follow_links(true).sort_by_file_name();
    let folder = folder.to_owned();
    walk.into_iter().filter_entry(visible).filter_map(move |entry| {
        let path = match entry {
            Ok(entry) if entry.file_type().is_file() => entry.into_path(),
            Ok(_) => return None,
            Err(error) => match error.path().filter(|path| path.is_symlink()) {
                Some(_) if error.loop_ancestor().is_some() => return None,
                Some(path) => path.to_owned(),
                None => return Some(Err(Unreadable::of(&error, &folder))),
            },
        };
        let relative = relative(&path, &folder);
        let is_wanted = is_image(&relative) || is_unsupported(&relative);
        is_wanted.then_some(Ok(ImageFile { path, relative }))
    })
}

/// A folder that can't be read, and why.
pub(super) struct Unreadable {
    pub(super) path: PathBuf,
    pub(super) reason: String,
}

impl Unreadable {
    fn of(error: &walkdir::Error, folder: &Path) -> Unreadable {
        let path = error.path().unwrap_or(folder).to_owned();
        let reason = error.io_error().map_or_else(|| error.to_string(), io::Error::to_string);
        Unreadable { path, reason }
    }
}

/// The same as a list.
///
/// # Errors
/// When a folder can't be read.
pub(super) fn images_in(folder: &Path) -> Result<Vec<ImageFile>, Failure> {
    walk(folder).collect::<Result<_, _>>().map_err(|Unreadable { path, reason }| {
        Failure::failed(format!("failed to read `{}`: {reason}", path.display()))
    })
}

fn relative(path: &Path, folder: &Path) -> String {
    let relative = path.strip_prefix(folder).unwrap_or(path);
    relative.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn images_are_found_in_order_without_hidden_files() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join(".hidden-parent");
        let files = [
            "b.JPG",
            "a.png",
            "c.jfif",
            "d.jpe",
            ".hidden.jpg",
            "notes.txt",
            "sub/._e.png",
            "sub/e.webp",
            ".thumbs/f.jpg",
            "__MACOSX/g.jpg",
        ];
        for name in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        let found = images_in(&folder).unwrap();
        let names: Vec<&str> = found.iter().map(|image| image.relative.as_str()).collect();
        assert_eq!(names, ["a.png", "b.JPG", "c.jfif", "d.jpe", "sub/e.webp"]);
        assert_eq!(found[4].path, folder.join("sub/e.webp"));
        assert!(images_in(&folder.join("none")).is_err());
    }

    #[test]
    fn links_are_followed_and_dangling_ones_are_not_passed_over() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        fs::create_dir_all(path("real")).unwrap();
        fs::create_dir_all(path("images")).unwrap();
        fs::write(path("real/a.png"), b"x").unwrap();
        for (target, link) in [
            ("../real", "images/cat"),
            ("../real/a.png", "images/b.png"),
            ("nowhere.png", "images/c.png"),
            ("nowhere", "images/.#d.png"),
            (".", "images/loop"),
        ] {
            std::os::unix::fs::symlink(target, path(link)).unwrap();
        }
        let found = images_in(&path("images")).unwrap();
        let names: Vec<&str> = found.iter().map(|image| image.relative.as_str()).collect();
        assert_eq!(names, ["b.png", "c.png", "cat/a.png"]);
    }
}
