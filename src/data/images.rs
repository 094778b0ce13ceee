//! A fetched set of images: its listing (paths, lengths, digests) and verified reads. The images
//! are in the artifact or in a folder of the user's, read in place; either way, an image that
//! differs from the listing is refused.

use super::{DataError, decode, table};
use crate::common::number;
use crate::store::{Digest, digest_bytes};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// File name of the listing in a fetched artifact.
pub const LISTING: &str = "listing.tsv";
/// Folder of the images in a fetched artifact, unless they are read in place.
pub const FOLDER: &str = "images";
const KIND: &str = "listing 1";
/// File name of the list of files that aren't images, or can't be read, in a fetched artifact.
pub const SKIPPED: &str = "skipped.tsv";
const SKIPPED_KIND: &str = "skipped 1";

/// The longest image file that is read, in bytes: more than the largest image that is decoded has
/// without compression.
pub(crate) const MAX_FILE: u64 = 2_000_000_000;
/// A longer file has to begin as an image before the rest is read.
const LONG: u64 = 32 << 20;
/// The bytes that show whether it does.
const HEAD: u64 = 64 << 10;

/// The error of a file of `length` bytes, if that is above [`MAX_FILE`].
pub(crate) fn too_long(length: u64) -> Option<DataError> {
    let [has, most] = [length, MAX_FILE].map(number::bytes);
    let reason = || format!("the file has {has}, above the limit of {most}");
    (length > MAX_FILE).then(|| DataError::Unreadable(reason()))
}

/// The bytes of an image file of `length` bytes.
///
/// # Errors
/// Outside, when it can't be read; inside, [`DataError::Unreadable`] for a file that is too long, or
/// that is long and doesn't begin as an image.
pub(crate) fn read_file(
    mut file: File,
    length: u64,
) -> std::io::Result<Result<Vec<u8>, DataError>> {
    if let Some(error) = too_long(length) {
        return Ok(Err(error));
    }
    let mut bytes = Vec::new();
    if length > LONG {
        (&mut file).take(HEAD).read_to_end(&mut bytes)?;
        if let Err(error) = decode::recognize(&bytes) {
            return Ok(Err(error));
        }
    }
    file.read_to_end(&mut bytes)?;
    Ok(Ok(bytes))
}

/// An entry of the listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Relative path, separated by `/`.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
    pub digest: Digest,
}

/// A file below the source that isn't in the listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// Relative path; of a folder, with a `/` at its end.
    pub path: String,
    /// As in [`Rejected`](super::rejected::Rejected).
    pub reason: String,
}

/// A set of images, sorted by path.
#[derive(Clone, Debug)]
pub struct ImageSet {
    folder: PathBuf,
    list: Vec<Image>,
    skipped: Vec<Skipped>,
}

/// The content of [`LISTING`], sorted by path.
pub fn listing(mut images: Vec<Image>) -> Vec<u8> {
    images.sort_by(|a, b| a.path.cmp(&b.path));
    table::write(
        KIND,
        images.into_iter().map(|one| [one.path, one.length.to_string(), one.digest.to_string()]),
    )
}

/// The content of [`SKIPPED`], sorted by path, each path and reason once.
pub fn skipped_table(mut skipped: Vec<Skipped>) -> Vec<u8> {
    skipped.sort();
    skipped.dedup();
    table::write(SKIPPED_KIND, skipped.into_iter().map(|one| [one.path, one.reason]))
}

/// The content of [`LISTING`] as bytes; `path` is for messages.
pub fn read_listing(bytes: &[u8], path: &Path) -> Result<Vec<Image>, DataError> {
    let mut list = Vec::new();
    table::read(bytes, path, KIND, |[path, length, digest]| {
        let (length, digest) = (length.parse().ok()?, digest.parse().ok()?);
        list.push(Image { path: path.into_owned(), length, digest });
        Some(())
    })?;
    Ok(list)
}

/// The content of [`SKIPPED`] as bytes; `path` is for messages.
pub fn read_skipped(bytes: &[u8], path: &Path) -> Result<Vec<Skipped>, DataError> {
    let mut skipped = Vec::new();
    table::read(bytes, path, SKIPPED_KIND, |[path, reason]| {
        skipped.push(Skipped { path: path.into_owned(), reason: reason.into_owned() });
        Some(())
    })?;
    Ok(skipped)
}

/// Opens a fetched set: the listing in `artifact`, and the images there or in the `external`
/// folder.
pub fn open(artifact: &Path, external: Option<&Path>) -> Result<ImageSet, DataError> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| DataError::io("read", path, error));
    let [listing, left_out] = [LISTING, SKIPPED].map(|name| artifact.join(name));
    let list = read_listing(&read(&listing)?, &listing)?;
    // Not every source can have such files.
    let skipped = match left_out.exists() {
        true => read_skipped(&read(&left_out)?, &left_out)?,
        false => Vec::new(),
    };
    let folder = external.map_or_else(|| artifact.join(FOLDER), Path::to_owned);
    Ok(ImageSet { folder, list, skipped })
}

impl ImageSet {
    /// Sorted by path.
    pub fn list(&self) -> &[Image] {
        &self.list
    }

    /// Files below the source that aren't in the listing, sorted by path.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The folder that paths are relative to.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Leaves out the images at which `keep` is false.
    pub fn retain(&mut self, keep: &[bool]) {
        let mut keep = keep.iter();
        self.list.retain(|_| keep.next().is_some_and(|keep| *keep));
    }

    /// Reads an image and verifies that it is the one in the listing.
    ///
    /// # Errors
    /// [`DataError::Unreadable`] for a file that is too long, or that is long and doesn't begin as an
    /// image.
    pub fn read(&self, image: &Image) -> Result<Vec<u8>, DataError> {
        let path = self.folder.join(&image.path);
        let read = File::open(&path).and_then(|file| read_file(file, image.length));
        let bytes = read.map_err(|error| DataError::io("read", &path, error))??;
        if bytes.len() as u64 == image.length && digest_bytes(&bytes) == image.digest {
            return Ok(bytes);
        }
        Err(DataError::invalid(
            format!("{} changed since it was listed", path.display()),
            "run the pipeline again once no other program writes to that folder",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
