//! Statistics of a set of images: classes, sizes, formats, unreadable files, duplicates, mean
//! colors. Images are decoded in parallel and aggregated in the order of their paths, so the same
//! images give the same bytes.

use super::DataError;
use super::decode::{self, DecodeOptions, NOTES, Notes};
use super::images::{Image, ImageSet};
use super::labels::Labels;
use super::rejected;
use super::resize::Pixels;
use crate::events::{CancellationToken, Task};
use crate::store::Digest;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Largest number of examples that are listed.
const MAX_EXAMPLES: usize = 100;
/// Approximate number of bins of a histogram.
const BINS: f64 = 20.0;

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
    /// Number of images per note ("gray", "oriented", "lenient", …): see [`NOTES`].
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

/// A bin of a histogram: values from `low` (inclusive) to `high` (exclusive).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Bin {
    pub low: f64,
    pub high: f64,
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

/// Byte-identical images.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Duplicates {
    /// Number of images that are identical to an earlier one.
    pub count: u64,
    /// Number of these with a different label.
    pub contradictory: u64,
    /// The first groups of identical images, by path.
    pub examples: Vec<Vec<String>>,
    /// The first groups with different labels: path and class.
    #[serde(default)]
    pub conflicts: Vec<Vec<[String; 2]>>,
}

/// Statistics of one image.
struct ImageStatistics {
    width: u32,
    height: u32,
    format: &'static str,
    notes: Notes,
    mean: [f64; 3],
    mean_square: [f64; 3],
}

/// Computes the statistics of a set of images.
///
/// # Errors If a file can't be read or differs from the listing. An image that can't be decoded is
/// counted as rejected, and returned with its index and the reason.
pub fn explore(
    images: &ImageSet,
    labels: &Labels,
    task: &Task,
    cancel: &CancellationToken,
) -> Result<(Exploration, Undecodable), DataError> {
    let groups = groups(images.list());
    let first: Vec<(&Digest, &Image)> = groups
        .iter()
        .filter_map(|(digest, members)| Some((digest, images.list().get(*members.first()?)?)))
        .collect();
    let analyze = |(digest, image): &(&Digest, &Image)| {
        if cancel.is_cancelled() {
            return Err(DataError::Cancelled);
        }
        let statistics = match decode::decode(&images.read(image)?, DecodeOptions::default()) {
            Ok(full) => Ok(statistics(&full)),
            Err(DataError::Unreadable(reason)) => Err(reason),
            Err(other) => return Err(other),
        };
        task.advance(1);
        Ok((**digest, statistics))
    };
    let analyzed: Result<BTreeMap<Digest, Result<ImageStatistics, String>>, DataError> =
        first.par_iter().map(analyze).collect();
    let analyzed = analyzed?;
    let mut exploration = aggregate(images.list(), &analyzed);
    count_classes(&mut exploration, labels);
    exploration.duplicates = duplicates(images.list(), labels, &groups);
    let reason = |image: &Image| analyzed.get(&image.digest)?.as_ref().err().cloned();
    let undecodable = images.list().iter().enumerate();
    let undecodable = undecodable.filter_map(|(index, image)| Some((index, reason(image)?)));
    Ok((exploration, undecodable.collect()))
}

/// Images that can't be decoded: index and reason.
pub type Undecodable = Vec<(usize, String)>;

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

/// Indices of identical images, by their digest.
fn groups(list: &[Image]) -> BTreeMap<Digest, Vec<usize>> {
    let mut groups: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
    for (index, image) in list.iter().enumerate() {
        groups.entry(image.digest).or_default().push(index);
    }
    groups
}

fn statistics(full: &decode::FullImage) -> ImageStatistics {
    let Pixels { bytes, width, height, channels } = &full.pixels;
    // Integer sums are exact.
    let (mut sums, mut squares) = ([0u64; 3], [0u64; 3]);
    for pixel in bytes.chunks_exact(*channels) {
        for (channel, &value) in pixel.iter().enumerate().take(3) {
            sums[channel] += u64::from(value);
            squares[channel] += u64::from(value) * u64::from(value);
        }
    }
    if *channels == 1 {
        (sums, squares) = ([sums[0]; 3], [squares[0]; 3]);
    }
    let count = f64::from(*width) * f64::from(*height);
    let (mean, square) = (
        sums.map(|sum| sum as f64 / count / 255.0),
        squares.map(|sum| sum as f64 / count / 65_025.0),
    );
    let (format, notes) = (full.format, full.notes);
    ImageStatistics { width: *width, height: *height, format, notes, mean, mean_square: square }
}

/// Aggregates in the order of the paths.
fn aggregate(
    list: &[Image],
    analyzed: &BTreeMap<Digest, Result<ImageStatistics, String>>,
) -> Exploration {
    let mut rejected = Rejected::default();
    let (mut formats, mut notes) = (BTreeMap::<&str, u64>::new(), BTreeMap::new());
    let (mut sides, mut ratios) = (Vec::new(), Vec::new());
    let (mut mean, mut square) = ([0.0; 3], [0.0; 3]);
    for image in list {
        match analyzed.get(&image.digest) {
            Some(Ok(one)) => {
                *formats.entry(one.format).or_default() += 1;
                for (_, word) in NOTES.iter().filter(|(note, _)| one.notes.has(*note)) {
                    *notes.entry((*word).to_owned()).or_default() += 1;
                }
                sides.push(f64::from(one.width.min(one.height)));
                ratios.push(f64::from(one.width) / f64::from(one.height));
                for channel in 0..3 {
                    mean[channel] += one.mean[channel];
                    square[channel] += one.mean_square[channel];
                }
            }
            Some(Err(reason)) => {
                rejected.count += 1;
                if rejected.examples.len() < MAX_EXAMPLES {
                    rejected
                        .examples
                        .push(RejectedExample { path: image.path.clone(), reason: reason.clone() });
                }
            }
            None => {}
        }
    }
    let count = sides.len().max(1) as f64;
    let mean = mean.map(|sum| sum / count);
    let std = std::array::from_fn(|channel| {
        (square[channel] / count - mean[channel] * mean[channel]).max(0.0).sqrt()
    });
    let mut formats: Vec<FormatCount> = formats
        .into_iter()
        .map(|(format, count)| FormatCount { format: format.to_owned(), count })
        .collect();
    formats.sort_by_key(|one| std::cmp::Reverse(one.count));
    Exploration {
        images: list.len() as u64,
        bytes: list.iter().map(|image| image.length).sum(),
        classes: Vec::new(),
        unlabelled: 0,
        imbalance: None,
        shorter_side: bins(&sides, 1.0),
        aspect_ratio: bins(&ratios, 0.01),
        formats,
        notes,
        rejected,
        not_used: Vec::new(),
        warnings: Vec::new(),
        duplicates: Duplicates::default(),
        mean,
        std,
    }
}

fn count_classes(exploration: &mut Exploration, labels: &Labels) {
    let mut counts = vec![0u64; labels.classes.len()];
    for class in &labels.by_image {
        match class.and_then(|class| counts.get_mut(class as usize)) {
            Some(count) => *count += 1,
            None => exploration.unlabelled += 1,
        }
    }
    if let (Some(&most), Some(&least)) = (counts.iter().max(), counts.iter().min()) {
        exploration.imbalance = Some(most as f64 / least.max(1) as f64);
    }
    let named = labels.classes.iter().cloned().zip(counts);
    exploration.classes = named.map(|(class, count)| ClassCount { class, count }).collect();
}

fn duplicates(
    list: &[Image],
    labels: &Labels,
    groups: &BTreeMap<Digest, Vec<usize>>,
) -> Duplicates {
    let mut duplicates = Duplicates::default();
    for members in groups.values().filter(|members| members.len() > 1) {
        duplicates.count += members.len() as u64 - 1;
        let class = |index: &usize| labels.by_image.get(*index).copied().flatten();
        let first = members.iter().find_map(class);
        let others: BTreeSet<usize> = members
            .iter()
            .filter(|index| class(index).is_some_and(|class| Some(class) != first))
            .copied()
            .collect();
        duplicates.contradictory += others.len() as u64;
        if !others.is_empty() {
            let named = |&at: &usize| {
                let name = labels.classes.get(class(&at)? as usize)?;
                Some([list.get(at)?.path.clone(), name.clone()])
            };
            duplicates.conflicts.push(members.iter().filter_map(named).collect());
        }
        duplicates
            .examples
            .push(members.iter().filter_map(|&at| Some(list.get(at)?.path.clone())).collect());
    }
    duplicates.examples.sort();
    duplicates.examples.truncate(MAX_EXAMPLES);
    duplicates.conflicts.sort();
    duplicates.conflicts.truncate(MAX_EXAMPLES);
    duplicates
}

/// A histogram whose bin width is 1, 2 or 5 times a power of ten, and at least `min_width`. The
/// lowest and the highest percent of the values are in the outermost bins, so that outliers don't
/// flatten the rest.
fn bins(values: &[f64], min_width: f64) -> Vec<Bin> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        sorted.get((share * sorted.len().saturating_sub(1) as f64).round() as usize).copied()
    };
    let (Some(low), Some(high)) = (at(0.01), at(0.99)) else { return Vec::new() };
    let rough = ((high - low) / BINS).max(min_width);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(power * 10.0);
    let first = (low / step + 1e-9).floor();
    let count = ((high / step + 1e-9).floor() - first) as usize + 1;
    // Rounded to decimals: 0.3, not 0.30000000000000004.
    let edge = |index: usize| ((first + index as f64) * step * 1e6).round() / 1e6;
    let mut bins: Vec<Bin> =
        (0..count).map(|at| Bin { low: edge(at), high: edge(at + 1), count: 0 }).collect();
    for value in &sorted {
        let index = ((value / step + 1e-9).floor() - first).max(0.0) as usize;
        if let Some(bin) = bins.get_mut(index.min(count - 1)) {
            bin.count += 1;
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::decode::samples;
    use crate::data::images::{FOLDER, LISTING, listing, open};
    use crate::events::EventSink;
    use crate::store::digest_bytes;
    use proptest::prelude::*;

    fn explored(files: &[(&str, Vec<u8>, Option<u32>)], classes: &[&str]) -> Exploration {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
        let mut list = Vec::new();
        for (path, bytes, _) in files {
            std::fs::write(folder.path().join(FOLDER).join(path), bytes).unwrap();
            let (length, digest) = (bytes.len() as u64, digest_bytes(bytes));
            list.push(Image { path: (*path).into(), length, digest });
        }
        std::fs::write(folder.path().join(LISTING), listing(list)).unwrap();
        let labels = Labels {
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            by_image: files.iter().map(|(_, _, class)| *class).collect(),
            ..Labels::none(&open(folder.path(), None).unwrap())
        };
        let task = EventSink::silent().task("look", None, "images");
        explore(&open(folder.path(), None).unwrap(), &labels, &task, &CancellationToken::new())
            .unwrap()
            .0
    }

    #[test]
    fn statistics_of_a_small_set_are_exact() {
        let red = samples::png(40, 20, [255, 0, 0]);
        let found = explored(
            &[
                ("a.png", red.clone(), Some(0)),
                ("b.jpg", red.clone(), Some(1)),
                ("c.png", samples::png(30, 60, [0, 255, 0]), Some(1)),
                ("d.png", b"not an image".to_vec(), Some(1)),
                ("e.jpg", samples::jpeg(20, 20), None),
            ],
            &["hat", "shoe"],
        );
        assert_eq!((found.images, found.unlabelled, found.imbalance), (5, 1, Some(3.0)));
        assert_eq!(found.classes[1], ClassCount { class: "shoe".into(), count: 3 });
        assert_eq!(found.formats[0], FormatCount { format: "png".into(), count: 3 });
        assert_eq!(found.rejected.examples[0].path, "d.png");
        let twice = vec![vec!["a.png".to_owned(), "b.jpg".to_owned()]];
        let named = [["a.png", "hat"], ["b.jpg", "shoe"]].map(|one| one.map(str::to_owned));
        let conflicts = vec![named.to_vec()];
        assert_eq!(
            found.duplicates,
            Duplicates { count: 1, contradictory: 1, examples: twice, conflicts }
        );
        assert_eq!(found.shorter_side.iter().map(|bin| bin.count).sum::<u64>(), 4);
        let plain = explored(
            &[("a.png", red, Some(0)), ("c.png", samples::png(9, 9, [0, 0, 255]), Some(1))],
            &["a", "b"],
        );
        assert_eq!((plain.mean, plain.std), ([0.5, 0.0, 0.5], [0.5, 0.0, 0.5]));
    }

    proptest! {
        #[test]
        fn every_value_is_in_a_bin(values in proptest::collection::vec(0.001f64..5000.0, 0..200), fine in any::<bool>()) {
            let bins = bins(&values, if fine { 0.01 } else { 1.0 });
            prop_assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), values.len() as u64);
            prop_assert!(bins.len() <= 30);
            prop_assert!(bins.windows(2).all(|pair| pair[0].high == pair[1].low && pair[0].low < pair[0].high));
        }
    }
}
