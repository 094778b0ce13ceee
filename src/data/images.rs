//! A fetched set of images: its listing (paths, lengths, digests) and verified reads. The images
//! are in the artifact or in a folder of the user's, read in place; either way, an image that
//! differs from the listing is refused.

use super::{DataError, table};
use crate::common::image_files::{is_hidden, is_image};
use crate::store::{Digest, digest_bytes};
use std::path::{Path, PathBuf};

/// File name of the listing in a fetched artifact.
pub const LISTING: &str = "listing.tsv";
/// Folder of the images in a fetched artifact, unless they are read in place.
pub const FOLDER: &str = "images";
const KIND: &str = "listing 1";

/// An entry of the listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Relative path, separated by `/`.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
    pub digest: Digest,
}

/// A set of images, sorted by path.
#[derive(Clone, Debug)]
pub struct ImageSet {
    folder: PathBuf,
    list: Vec<Image>,
}

/// The content of [`LISTING`], sorted by path.
pub fn listing(mut images: Vec<Image>) -> Vec<u8> {
    images.sort_by(|a, b| a.path.cmp(&b.path));
    table::write(
        KIND,
        images.into_iter().map(|one| [one.path, one.length.to_string(), one.digest.to_string()]),
    )
}

/// Opens a fetched set: the listing in `artifact`, and the images there or in the `external`
/// folder.
pub fn open(artifact: &Path, external: Option<&Path>) -> Result<ImageSet, DataError> {
    let mut list = Vec::new();
    table::read_file(&artifact.join(LISTING), KIND, |[path, length, digest]| {
        list.push(Image { path, length: length.parse().ok()?, digest: digest.parse().ok()? });
        Some(())
    })?;
    Ok(ImageSet { folder: external.map_or_else(|| artifact.join(FOLDER), Path::to_owned), list })
}

impl ImageSet {
    /// Sorted by path.
    pub fn list(&self) -> &[Image] {
        &self.list
    }

    /// Reads an image and verifies that it is the one in the listing.
    pub fn read(&self, image: &Image) -> Result<Vec<u8>, DataError> {
        let path = self.folder.join(&image.path);
        let bytes = std::fs::read(&path).map_err(|error| DataError::io("read", &path, error))?;
        if bytes.len() as u64 == image.length && digest_bytes(&bytes) == image.digest {
            return Ok(bytes);
        }
        Err(DataError::invalid(
            format!("{} changed since it was listed", path.display()),
            "run the pipeline again once no other program writes to that folder",
        ))
    }
}

/// The files below a folder, sorted into images and others by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderScan {
    /// Paths of files with an image extension.
    pub images: Vec<String>,
    /// Number of hidden files.
    pub hidden: u64,
    /// Number of files of other kinds.
    pub others: u64,
    /// Number of files whose names aren't UTF-8.
    pub unnamed: u64,
}

impl FolderScan {
    /// Adds a file by its relative path.
    pub fn add(&mut self, path: &str) {
        if is_hidden(path) {
            self.hidden += 1;
        } else if is_image(path) {
            self.images.push(path.to_owned());
        } else {
            self.others += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_and_other_kinds_are_skipped() {
        let paths = [
            "b.JPG",
            "a/x.png",
            "a/._x.jpg",
            ".ipynb_checkpoints/y.jpg",
            "notes.txt",
            ".jpg",
            "__MACOSX/z.jpg",
        ];
        let mut scan = FolderScan::default();
        paths.into_iter().for_each(|path| scan.add(path));
        let images = vec!["b.JPG".into(), "a/x.png".into()];
        assert_eq!(scan, FolderScan { images, hidden: 4, others: 1, unnamed: 0 });
    }

    #[test]
    fn a_changed_image_is_refused() {
        let (artifact, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("a.jpg"), b"one").unwrap();
        let one = Image { path: "a.jpg".into(), length: 3, digest: Digest::of(b"one") };
        std::fs::write(artifact.path().join(LISTING), listing(vec![one.clone()])).unwrap();
        let images = open(artifact.path(), Some(folder.path())).unwrap();
        assert_eq!(images.list(), std::slice::from_ref(&one));
        assert_eq!(images.read(&one).unwrap(), b"one");
        std::fs::write(folder.path().join("a.jpg"), b"two").unwrap();
        assert!(images.read(&one).unwrap_err().to_string().contains("changed since it was listed"));
        std::fs::remove_file(folder.path().join("a.jpg")).unwrap();
        assert!(matches!(images.read(&one), Err(DataError::Io { .. })));
    }
}
