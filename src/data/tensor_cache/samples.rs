//! The table of samples: path, image, record, class and split of each.

use crate::data::{DataError, table};
use crate::store::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

const KIND: &str = "samples 1";

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    Train,
    /// For model selection during training.
    Validation,
    /// Scored once, for the selected model.
    Test,
    /// Without a label: predicted, never scored.
    Unlabelled,
}

impl Split {
    pub const LABELLED: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
            Split::Unlabelled => "unlabelled",
        }
    }

    fn named(name: &str) -> Option<Split> {
        [Split::Train, Split::Validation, Split::Test, Split::Unlabelled]
            .into_iter()
            .find(|one| one.name() == name)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// An image and its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Relative path in the set of images.
    pub path: String,
    /// Digest of the image file.
    pub image_digest: Digest,
    /// Index of its record, which identical images share.
    pub record: u32,
    /// Index of its class; none for an unlabelled image.
    pub class: Option<u32>,
    pub split: Split,
    /// Names of its decoding notes, such as "oriented gray"; mostly empty.
    pub note: String,
}

pub(super) fn write(
    path: &Path,
    samples: impl ExactSizeIterator<Item = Sample>,
) -> Result<(), DataError> {
    let rows = samples.map(|sample| {
        [
            sample.path,
            sample.image_digest.to_string(),
            sample.record.to_string(),
            sample.class.map_or_else(|| "-".to_owned(), |class| class.to_string()),
            sample.split.to_string(),
            sample.note,
        ]
    });
    table::write_file(path, KIND, rows)
}

pub(super) fn read(path: &Path) -> Result<Vec<Sample>, DataError> {
    let mut samples = Vec::new();
    table::read_file(path, KIND, |[path, image_digest, record, class, split, note]| {
        let class = if class == "-" { None } else { Some(class.parse().ok()?) };
        let split = Split::named(&split)
            .filter(|&split| class.is_some() == (split != Split::Unlabelled))?;
        samples.push(Sample {
            path: path.into_owned(),
            image_digest: image_digest.parse().ok()?,
            record: record.parse().ok()?,
            class,
            split,
            note: note.into_owned(),
        });
        Some(())
    })?;
    Ok(samples)
}
