//! Files of a source that aren't used. Their reasons follow one rule, whether they are in a folder,
//! an archive or a repository.

use super::images::Skipped;
use super::rejected::{DANGLING, HIDDEN, NOT_CHOSEN, OTHER, UNSUPPORTED};
use crate::common::image_files::{hidden_part, is_image, is_unsupported};
use crate::common::number::counted;

impl Skipped {
    /// A file that isn't read, with the reason that its name gives.
    pub(crate) fn by_name(path: &str) -> Skipped {
        match path.rsplit_once('.') {
            Some((_, extension)) if is_unsupported(path) => {
                let extension = extension.to_lowercase();
                let reason = format!("{UNSUPPORTED}: .{extension}, convert it to JPEG or PNG");
                Skipped::new(path, reason)
            }
            _ => Skipped::new(path, OTHER),
        }
    }

    /// A link to `target`, where nothing is.
    pub(crate) fn dangling(path: &str, target: &str) -> Skipped {
        let name = path.rsplit('/').next().unwrap_or(path);
        // A name without an extension may be that of a folder of images.
        match is_image(path) || !name.contains('.') {
            true => Skipped::new(path, format!("{DANGLING}: to {target}")),
            false => Skipped::by_name(path),
        }
    }

    /// A file or folder that isn't used for this reason, unless it is hidden. Of a hidden folder,
    /// only the folder itself is named.
    pub(crate) fn new(path: &str, reason: impl Into<String>) -> Skipped {
        match hidden_part(path) {
            Some(hidden) => Skipped { path: hidden.to_owned(), reason: HIDDEN.to_owned() },
            None => Skipped { path: path.to_owned(), reason: reason.into() },
        }
    }

    /// Whether its reason is one of these kinds.
    fn is_of(&self, kinds: &[&str]) -> bool {
        kinds.iter().any(|kind| self.reason.starts_with(kind))
    }
}

/// "; skipped 1 hidden file and 2 other files": the end of the line that says what a source holds.
pub(crate) fn sentence(skipped: &[Skipped]) -> String {
    let count = |kinds: &[&str]| skipped.iter().filter(|one| one.is_of(kinds)).count() as u64;
    let counts = [(count(&[HIDDEN]), "hidden file"), (count(&[OTHER, NOT_CHOSEN]), "other file")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, thing)| counted(count, thing)).collect();
    match counts.as_slice() {
        [] => String::new(),
        _ => format!("; skipped {}", counts.join(" and ")),
    }
}

/// A warning that there are images in formats that can't be read.
pub(crate) fn unsupported(skipped: &[Skipped]) -> Option<String> {
    let mut all = skipped.iter().filter(|one| one.is_of(&[UNSUPPORTED]));
    let first = all.next()?;
    Some(format!(
        "skipped {} in a format that can't be read, such as {}: convert them to JPEG or PNG",
        counted(1 + all.count() as u64, "image"),
        first.path
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::{read_skipped, skipped_table};
    use std::path::Path;

    #[test]
    fn each_file_has_a_reason_and_hidden_folders_are_named_once() {
        let all = vec![
            Skipped::by_name("a/x.HEIC"),
            Skipped::by_name("a/readme.md"),
            Skipped::by_name("__MACOSX/a/._1.jpg"),
            Skipped::by_name("__MACOSX/a/._2.jpg"),
            Skipped::by_name(".x.heic"),
            Skipped::dangling("a/y.jpg", "../z"),
            Skipped::dangling("a/y.txt", "../z"),
            Skipped::dangling("a/.y", "../z"),
        ];
        assert_eq!(sentence(&all), "; skipped 4 hidden files and 2 other files");
        assert!(unsupported(&all).unwrap().contains("1 image in"));
        let read = read_skipped(&skipped_table(all), Path::new("x")).unwrap();
        let shown: Vec<String> =
            read.iter().map(|one| format!("{} {}", one.path, one.reason)).collect();
        assert_eq!(
            shown,
            [
                ".x.heic hidden",
                "__MACOSX/ hidden",
                "a/.y hidden",
                "a/readme.md not an image",
                "a/x.HEIC unsupported format: .heic, convert it to JPEG or PNG",
                "a/y.jpg dangling link: to ../z",
                "a/y.txt not an image",
            ]
        );
        assert_eq!((sentence(&[]).as_str(), unsupported(&[])), ("", None));
    }
}
