//! A fetched set of pictures: its listing (names, lengths, digests) and the checked reading of each. The pictures lie
//! in the artifact or in a folder of the user's, read in place: either way, bytes that aren't those listed are refused.
//! Knows nothing of what the pictures show.

use super::{DataError, table};
use crate::common::image_files::{is_hidden, is_image};
use crate::store::{Digest, digest_bytes};
use std::path::{Path, PathBuf};

/// File name of the listing in a fetched artifact.
pub const LISTING: &str = "listing.tsv";
/// Folder of the pictures in a fetched artifact, unless they are read in place.
pub const FOLDER: &str = "pictures";
const KIND: &str = "listing 1";

/// One picture of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Relative path, parts separated by `/`.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
    /// Digest of the content.
    pub digest: Digest,
}

/// A set of pictures, sorted by path.
#[derive(Clone, Debug)]
pub struct Pictures {
    folder: PathBuf,
    list: Vec<Picture>,
}

/// The listing of `pictures` as bytes: what [`LISTING`] holds. Sorted by path, whatever the order given.
pub fn listing(mut pictures: Vec<Picture>) -> Vec<u8> {
    pictures.sort_by(|a, b| a.path.cmp(&b.path));
    table::write(
        KIND,
        pictures.into_iter().map(|one| [one.path, one.length.to_string(), one.digest.to_string()]),
    )
}

/// Opens a fetched set: the listing in `artifact`, the pictures there too or in the `borrowed` folder.
pub fn open(artifact: &Path, borrowed: Option<&Path>) -> Result<Pictures, DataError> {
    let mut list = Vec::new();
    table::read_file(&artifact.join(LISTING), KIND, |[path, length, digest]| {
        list.push(Picture { path, length: length.parse().ok()?, digest: digest.parse().ok()? });
        Some(())
    })?;
    Ok(Pictures { folder: borrowed.map_or_else(|| artifact.join(FOLDER), Path::to_owned), list })
}

impl Pictures {
    /// The pictures, sorted by path.
    pub fn list(&self) -> &[Picture] {
        &self.list
    }

    /// The bytes of one picture, which are those listed or an error.
    pub fn read(&self, picture: &Picture) -> Result<Vec<u8>, DataError> {
        let path = self.folder.join(&picture.path);
        let bytes = std::fs::read(&path).map_err(|error| DataError::io("reading", &path, error))?;
        if bytes.len() as u64 == picture.length && digest_bytes(&bytes) == picture.digest {
            return Ok(bytes);
        }
        Err(DataError::unfit(
            format!("{} changed since it was listed", path.display()),
            "run the pipeline again when nothing writes to that folder any more",
        ))
    }
}

/// The files below a folder, by name alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Those that look like pictures, sorted.
    pub pictures: Vec<String>,
    /// How many hidden ones were left out.
    pub hidden: u64,
    /// How many others were.
    pub others: u64,
    /// How many have names that aren't text.
    pub unnamed: u64,
}

impl Names {
    /// Sorts one relative path in.
    pub fn take(&mut self, path: &str) {
        if is_hidden(path) {
            self.hidden += 1;
        } else if is_image(path) {
            self.pictures.push(path.to_owned());
        } else {
            self.others += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_and_strangers_are_left_out() {
        let paths = [
            "b.JPG",
            "a/x.png",
            "a/._x.jpg",
            ".ipynb_checkpoints/y.jpg",
            "notes.txt",
            ".jpg",
            "__MACOSX/z.jpg",
        ];
        let mut names = Names::default();
        paths.into_iter().for_each(|path| names.take(path));
        let pictures = vec!["b.JPG".into(), "a/x.png".into()];
        assert_eq!(names, Names { pictures, hidden: 4, others: 1, unnamed: 0 });
    }

    #[test]
    fn a_changed_picture_is_refused() {
        let (artifact, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("a.jpg"), b"one").unwrap();
        let one = Picture { path: "a.jpg".into(), length: 3, digest: Digest::of(b"one") };
        std::fs::write(artifact.path().join(LISTING), listing(vec![one.clone()])).unwrap();
        let pictures = open(artifact.path(), Some(folder.path())).unwrap();
        assert_eq!(pictures.list(), std::slice::from_ref(&one));
        assert_eq!(pictures.read(&one).unwrap(), b"one");
        std::fs::write(folder.path().join("a.jpg"), b"two").unwrap();
        assert!(
            pictures.read(&one).unwrap_err().to_string().contains("changed since it was listed")
        );
        std::fs::remove_file(folder.path().join("a.jpg")).unwrap();
        assert!(matches!(pictures.read(&one), Err(DataError::Io { .. })));
    }
}
