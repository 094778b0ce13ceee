//! The use of an archive's entries: by their names, and by the archive that they are in.

use super::format::is_named_like_archive;
use crate::common::image_files::{is_hidden, is_image, is_label_file};

/// An archive in an archive is unpacked, one in that isn't: data sets have no need for it, and
/// bombs are made so.
const DEPTH: usize = 1;

/// An archive that is being unpacked: the one that was named, or one in it.
#[derive(Default)]
pub(super) struct Level {
    /// The path of the archive in the outer one; empty for the outer one.
    pub archive: String,
    /// The folder that its entries go to.
    pub folder: String,
    pub depth: usize,
}

impl Level {
    /// The archive's name in messages about it, where the outer one is named already.
    pub(super) fn name(&self) -> &str {
        if self.depth == 0 { "it" } else { &self.archive }
    }

    /// The path of an entry in messages.
    pub(super) fn shown(&self, entry: &str) -> String {
        if self.depth == 0 { entry.to_owned() } else { format!("{}/{entry}", self.archive) }
    }

    /// Where an entry goes to.
    pub(super) fn path(&self, entry: &str) -> String {
        if self.folder.is_empty() { entry.to_owned() } else { format!("{}/{entry}", self.folder) }
    }
}

/// The treatment of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Image,
    Labels,
    /// An archive in the archive.
    Archive,
    Hidden,
    None,
}

impl Use {
    /// Of the entry at a path relative to the archive, by its name.
    pub(super) fn of(path: &str, level: &Level) -> Use {
        let name = path.rsplit('/').next().unwrap_or(path);
        match () {
            () if is_hidden(path) => Use::Hidden,
            () if is_image(path) => Use::Image,
            () if is_label_file(path) => Use::Labels,
            () if is_named_like_archive(name) && level.depth < DEPTH => Use::Archive,
            () => Use::None,
        }
    }

    /// Whether the content is needed.
    pub(super) fn is_read(self) -> bool {
        matches!(self, Use::Image | Use::Labels | Use::Archive)
    }
}
