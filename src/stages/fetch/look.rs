//! Facts about sources for commands: a short name, the names in `pipe.lock`, and where the images of
//! a fetched artifact are.

use crate::data::archive::without_ending;
use crate::data::images::{FOLDER, LISTING};
use crate::data::source::{self, Source};
use std::path::{Path, PathBuf};

/// The name of a data set on the web, if a source is one: that of the data set or of the file.
pub fn remote_name(text: &str) -> Option<String> {
    let last = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    match source::parse(text).ok()? {
        Source::Kaggle { name, .. } => Some(name),
        Source::Hub(hub) => Some(last(&hub.id)),
        Source::Web(url) => {
            let file = last(url.split(['?', '#']).next().unwrap_or_default());
            Some(without_ending(&file).unwrap_or("images").to_owned())
        }
        _ => None,
    }
}

/// The names of a source in `pipe.lock`, without secrets; none if it isn't remote.
pub fn locked_names(text: &str) -> Vec<String> {
    source::parse(text).map_or_else(|_| Vec::new(), |source| super::locking::names(&source))
}

/// A file name without the ending of an archive, if it has one.
pub fn archive_name(file_name: &str) -> Option<&str> {
    without_ending(file_name)
}

/// The folder of the images in a fetched artifact. None if it holds weights.
pub fn fetched_images(artifact: &Path) -> Option<PathBuf> {
    artifact.join(LISTING).is_file().then(|| artifact.join(FOLDER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_sets_have_short_names() {
        for (text, name) in [
            ("kaggle:o/n/3", Some("n")),
            ("hf:o/n@main", Some("n")),
            ("https://huggingface.co/datasets/o/n", Some("n")),
            ("https://a.b/c/set.tar.gz?raw=1", Some("set")),
            ("https://a.b/", Some("images")),
            ("https://a.b/.zip", Some("images")),
            ("path:a", None),
            ("a.zip", None),
        ] {
            assert_eq!(remote_name(text).as_deref(), name, "{text}");
        }
    }
}
