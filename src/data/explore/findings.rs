//! `explore.json`: the findings about a set of images.

use super::histogram::Bin;
use crate::data::rejected;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest number of examples that are listed.
pub(super) const MAX_EXAMPLES: usize = 100;

/// `explore.json`: statistics of a set of images.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Exploration {
    /// Number of images, including unreadable ones.
    pub images: u64,
    /// Total length of the files.
    pub bytes: u64,
    pub classes: Vec<ClassCount>,
    /// Number of images without a label.
    pub unlabelled: u64,
    /// Size of the largest class divided by that of the smallest; none without labels.
    pub imbalance: Option<f64>,
    /// Histogram of the shorter sides, in pixels.
    pub shorter_side: Vec<Bin>,
    /// Histogram of width over height.
    pub aspect_ratio: Vec<Bin>,
    /// Formats detected from the content, most frequent first.
    pub formats: Vec<FormatCount>,
    /// Number of images per note ("gray", "oriented", "lenient", …): see
    /// [`NOTES`](crate::data::decode::NOTES).
    pub notes: BTreeMap<String, u64>,
    /// Unreadable images.
    pub rejected: Rejected,
    /// Other files that aren't used, by reason.
    #[serde(default)]
    pub not_used: Vec<NotUsed>,
    /// Warnings for the user: classes that differ only in case, empty folders of classes, …
    #[serde(default)]
    pub warnings: Vec<String>,
    pub duplicates: Duplicates,
    /// Images that differ only by size and compression.
    pub near_duplicates: NearDuplicates,
    /// The share of each image that a square leaves out.
    pub cropped: Cropped,
    /// The most unusual images of their classes, the most unusual one first.
    pub unusual: Vec<Unusual>,
    /// Number of images of which `mean` and `std` are computed.
    pub colors_of: u64,
    /// Mean of the RGB channels in 0..1, with equal weight per image.
    pub mean: [f64; 3],
    /// Standard deviation of the RGB channels over all pixels, with equal weight per image.
    pub std: [f64; 3],
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ClassCount {
    pub class: String,
    pub count: u64,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FormatCount {
    /// "jpeg"
    pub format: String,
    pub count: u64,
}

/// Unreadable images.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Rejected {
    pub count: u64,
    pub examples: Vec<RejectedExample>,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct RejectedExample {
    pub path: String,
    pub reason: String,
}

/// Files that aren't used for one reason.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NotUsed {
    pub reason: String,
    pub count: u64,
    /// The first paths.
    pub examples: Vec<String>,
}

/// Images with equal pixels, whatever their files.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Duplicates {
    /// Number of images that are equal to an earlier one.
    pub count: u64,
    /// Number of these with a different label.
    pub contradictory: u64,
    /// The first groups of equal images, by path.
    pub examples: Vec<Vec<String>>,
    /// The first groups with different labels: path and class.
    #[serde(default)]
    pub conflicts: Vec<Vec<[String; 2]>>,
}

/// Images that differ only by size and compression.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub struct NearDuplicates {
    /// Number of pairs.
    pub pairs: u64,
    /// Number of pairs with different labels.
    pub contradictory: u64,
    /// Number of pairs in different folders of an author's split (train, validation, test).
    pub across_splits: u64,
    /// Pairs with different labels first, then those across splits, then the most similar ones.
    pub examples: Vec<NearDuplicate>,
}

/// Two images that differ only by size and compression.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct NearDuplicate {
    pub paths: [String; 2],
    /// The class of each; none without a label.
    pub classes: [Option<String>; 2],
    /// Correlation of their thumbnails, up to 1.
    pub similarity: f64,
    /// Whether they are in different folders of an author's split.
    pub across_splits: bool,
}

/// The share that the stored square leaves out.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub struct Cropped {
    /// "crop", "pad" or "stretch".
    pub fit: String,
    /// Whether the fit is that of a `preprocess` stage; otherwise it is the default.
    pub is_chosen: bool,
    /// Median of the share of an image's area that is left out.
    pub median: f64,
    /// Number of images that lose more than a quarter.
    pub over_a_quarter: u64,
    /// Histogram of the share.
    pub lost: Vec<Bin>,
}

/// An image that differs from the others of its class.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Unusual {
    pub path: String,
    /// None where it is compared with all images.
    pub class: Option<String>,
    /// Robust z-score of its distance from the class's median.
    pub score: f64,
    /// The descriptor that differs most: "brightness", "color" or "detail".
    pub by: String,
}

impl Exploration {
    /// Adds what isn't used of a set, and warnings about it.
    pub fn add_not_used(&mut self, not_used: &[rejected::Rejected], warnings: Vec<String>) {
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for one in not_used {
            by_reason.entry(one.kind()).or_default().push(&one.path);
        }
        let reasons = by_reason.into_iter().map(|(reason, paths)| NotUsed {
            reason: reason.to_owned(),
            count: paths.len() as u64,
            examples: paths.iter().take(MAX_EXAMPLES).map(|path| (*path).to_owned()).collect(),
        });
        self.not_used = reasons.collect();
        self.warnings = warnings;
    }
}
