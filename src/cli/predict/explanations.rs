//! The overlays of `pipe predict --explain`: each image under the heat map of its class.

use super::super::failure::Failure;
use super::super::shared::shown;
use crate::common::visible::is_hidden;
use crate::metrics::top_k;
use crate::model::{Classified, ImageScores, Model};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest part of an overlay's file name that is taken from its image's, in characters.
const LONGEST_NAME: usize = 60;

/// The folder of the overlays.
pub(super) struct Explanations {
    folder: PathBuf,
}

impl Explanations {
    /// Creates the folder.
    ///
    /// # Errors
    /// When it can't be created, or the model can't be explained.
    pub(super) fn new(folder: &Path, model: &Model) -> Result<Explanations, Failure> {
        model.check_explainable().map_err(|error| Failure::from(error).into_invalid())?;
        fs::create_dir_all(folder).map_err(|error| {
            let message = format!("failed to create the folder `{}`: {error}", shown(folder));
            Failure::invalid(message).help("name another folder with `--explain`")
        })?;
        Ok(Explanations { folder: folder.to_owned() })
    }

    pub(super) fn folder(&self) -> String {
        shown(&self.folder)
    }

    /// Writes the overlays of some images, of which `before` come first in the input. Returns the
    /// path of each; none for an image that couldn't be read.
    ///
    /// # Errors
    /// When the network can't run, or an overlay can't be written.
    pub(super) fn write(
        &mut self,
        model: &Model,
        images: &[Classified],
        before: u64,
    ) -> Result<Vec<Option<String>>, Failure> {
        let best =
            |scores: &ImageScores| top_k(&scores.probabilities, 1).first().map_or(0, |top| top.0);
        let readable = || images.iter().filter_map(|image| image.scores.as_ref().ok());
        let classes: Vec<usize> = readable().map(best).collect();
        let squares: Vec<&[u8]> = readable().map(|scores| scores.square.as_slice()).collect();
        let mut maps = model.explain(&squares, &classes)?.into_iter();
        let mut files = Vec::with_capacity(images.len());
        for (number, image) in (before + 1..).zip(images) {
            let Ok(scores) = &image.scores else {
                files.push(None);
                continue;
            };
            let overlay =
                maps.next().and_then(|map| map.overlay(&scores.square, model.preprocessing()));
            let path = self.folder.join(file_name(number, &image.name));
            let failed = |reason: String| {
                Failure::failed(format!("failed to write `{}`: {reason}", shown(&path)))
            };
            let overlay = overlay.ok_or_else(|| failed("it has no heat map".to_owned()))?;
            overlay.save(&path).map_err(|error| failed(error.to_string()))?;
            files.push(Some(path.display().to_string()));
        }
        Ok(files)
    }
}

/// The file name of an overlay: the position of its image in the input, which no two share, and the
/// image's name.
fn file_name(number: u64, image: &str) -> String {
    let name = Path::new(image).file_stem().unwrap_or_default().to_string_lossy();
    let plain = |letter: char| match is_hidden(letter) || "/\\:*?\"<>|".contains(letter) {
        true => '_',
        false => letter,
    };
    let name: String = name.chars().take(LONGEST_NAME).map(plain).collect();
    format!("{number:06}-{name}.png")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_overlays_are_safe_and_different() {
        assert_eq!(file_name(1, "a/b.c.jpg"), "000001-b.c.png");
        assert_eq!(file_name(2, "a/\x1b[2J\u{202e}?.jpg"), "000002-_[2J__.png");
        assert_eq!(file_name(1_234_567, "-"), "1234567--.png");
        assert!(file_name(3, &"ü".repeat(300)).len() < 200);
    }
}
