//! Writes images that come one after another, with or without a class, as files of folders:
//! `SPLIT/CLASS/NUMBER.EXTENSION`, or `SPLIT/NUMBER.EXTENSION` without a class.

use super::DataError;
use super::archive::Budget;
use super::decode;
use crate::common::image_files::is_hidden;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The longest name of a folder in bytes; file systems allow 255.
const NAME: usize = 200;

/// The folders of a set of images.
pub(crate) struct ClassFolders<'a> {
    into: &'a Path,
    /// The size to which the files that the images come from may expand.
    budget: Budget,
    /// The number of images of each split.
    counts: BTreeMap<String, u64>,
    /// From a class as it is written to its folder.
    names: BTreeMap<String, String>,
    /// Folders of classes in lower case, with the last number after each such name.
    taken: BTreeMap<String, u64>,
    /// Folders that exist.
    made: BTreeSet<PathBuf>,
    images: Vec<String>,
}

impl ClassFolders<'_> {
    /// Writes below the folder `into` what files of `length` bytes in all hold.
    pub(crate) fn new(into: &Path, length: u64) -> ClassFolders<'_> {
        ClassFolders {
            into,
            budget: Budget::of(length),
            counts: BTreeMap::new(),
            names: BTreeMap::new(),
            taken: BTreeMap::new(),
            made: BTreeSet::new(),
            images: Vec::new(),
        }
    }

    /// Writes an image and returns its path below the folder. The extension is that of the content,
    /// else that of the name which the image had.
    ///
    /// # Errors
    /// If there is more than the files can hold, or the image can't be written.
    pub(crate) fn add(
        &mut self,
        split: &str,
        class: Option<&str>,
        content: &[u8],
        name: Option<&str>,
    ) -> Result<String, DataError> {
        let counted = self.budget.entry().and_then(|()| self.budget.expand(content.len() as u64));
        counted.map_err(|reason| {
            let help =
                "if you trust it, save its images as files, then write `source = \"path:FOLDER\"`";
            DataError::invalid(format!("the data set {reason}"), help)
        })?;
        let split = folder_name(split);
        let folder = match class.map(str::trim).filter(|class| !class.is_empty()) {
            Some(class) => format!("{split}/{}", self.class_folder(class)),
            None => split.clone(),
        };
        let number = self.counts.entry(split).or_default();
        let extension = decode::extension(content).or_else(|| name.and_then(extension));
        let path = format!("{folder}/{number:07}.{}", extension.unwrap_or("bin"));
        *number += 1;
        let (folder, target) = (self.into.join(folder), self.into.join(&path));
        if !self.made.contains(&folder) {
            std::fs::create_dir_all(&folder)
                .map_err(|error| DataError::io("create", &folder, error))?;
            self.made.insert(folder);
        }
        std::fs::write(&target, content).map_err(|error| DataError::io("write", &target, error))?;
        self.images.push(path.clone());
        Ok(path)
    }

    /// Classes whose folders have other names, and those names.
    pub(crate) fn renamed(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.names.iter().map(|(class, folder)| (class.as_str(), folder.as_str()));
        pairs.filter(|(class, folder)| class != folder)
    }

    /// The paths of the images that were written.
    pub(crate) fn into_images(self) -> Vec<String> {
        self.images
    }

    fn class_folder(&mut self, class: &str) -> String {
        if let Some(folder) = self.names.get(class) {
            return folder.clone();
        }
        let plain = folder_name(class);
        let lower = plain.to_lowercase();
        let mut number = self.taken.get(&lower).copied().unwrap_or_default();
        let folder = loop {
            number += 1;
            let name = if number == 1 { plain.clone() } else { format!("{plain} {number}") };
            if !self.taken.contains_key(&name.to_lowercase()) {
                break name;
            }
        };
        self.taken.insert(folder.to_lowercase(), 1);
        self.taken.insert(lower, number);
        self.names.insert(class.to_owned(), folder.clone());
        folder
    }
}

/// A name without characters that separate folders or hide them.
fn folder_name(text: &str) -> String {
    let safe = |letter: char| {
        if matches!(letter, '/' | '\\') || letter.is_control() { '_' } else { letter }
    };
    let mut name: String = text.trim().chars().map(safe).collect();
    while name.len() > NAME {
        name.pop();
    }
    match name.is_empty() || is_hidden(&name) {
        true => format!("_{name}"),
        false => name,
    }
}

/// The extension of a name, if it is a plain one.
fn extension(name: &str) -> Option<&str> {
    let (_, extension) = name.rsplit_once('.')?;
    let is_plain = (1..=5).contains(&extension.len())
        && extension.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_plain.then_some(extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_get_numbers_and_safe_folders() {
        let folder = tempfile::tempdir().unwrap();
        let mut folders = ClassFolders::new(folder.path(), 10);
        let png = b"\x89PNG\r\n\x1a\n";
        let mut add =
            |class, content: &[u8], name| folders.add("train", class, content, name).unwrap();
        assert_eq!(add(Some("cat"), png, Some("a.jpg")), "train/cat/0000000.png");
        assert_eq!(add(Some("Cat"), b"?", Some("a.HEIC")), "train/Cat 2/0000001.HEIC");
        assert_eq!(add(Some("../up"), b"?", Some("a.x/y")), "train/_.._up/0000002.bin");
        assert_eq!(add(Some(" "), png, None), "train/0000003.png");
        assert_eq!(add(Some("cat"), png, None), "train/cat/0000004.png");
        let renamed: Vec<_> = folders.renamed().collect();
        assert_eq!(renamed, [("../up", "_.._up"), ("Cat", "Cat 2")]);
        for path in folders.into_images() {
            assert!(folder.path().join(path).is_file());
        }
        assert_eq!(folder_name(&"é".repeat(150)).len(), 200);
        assert_eq!(
            (folder_name("__MACOSX").as_str(), folder_name("").as_str()),
            ("___MACOSX", "_")
        );
    }

    #[test]
    fn more_than_files_can_hold_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut folders = ClassFolders::new(folder.path(), 1);
        let content = vec![1; 129 << 20];
        let written = (0..2).map(|_| folders.add("train", None, &content, None));
        let errors: Vec<DataError> = written.filter_map(Result::err).collect();
        assert!(errors[0].to_string().contains("zip bombs"), "{}", errors[0]);
    }
}
