//! Statistics of a set of images: classes, sizes, formats, unreadable files, duplicates, crops, colors
//! and unusual images. Images are looked at in parallel and aggregated in the order of their paths,
//! so the same images give the same bytes.

mod duplicates;
mod findings;
mod gallery;
mod histogram;
mod look;
mod remembered;
mod unusual;

pub use findings::{
    ClassCount, Cropped, Duplicates, Exploration, FormatCount, NearDuplicate, NearDuplicates,
    NotUsed, Rejected, RejectedExample, Unusual,
};
pub use gallery::{Gallery, gallery};
pub use histogram::Bin;
pub use remembered::Remembered;

use super::decode::NOTES;
use super::images::{Image, ImageSet};
use super::labels::Labels;
use super::{DataError, Fit, Geometry};
use crate::config::Choice;
use crate::events::{CancellationToken, Task};
use crate::store::Digest;
use duplicates::Distinct;
use findings::MAX_EXAMPLES;
use histogram::bins;
use look::{Look, look_at};
use std::collections::BTreeMap;

/// The share of an image that is much to lose.
const MUCH_LOST: f64 = 0.25;

/// The result of an exploration.
pub struct Explored {
    pub findings: Exploration,
    /// Images that can't be decoded: index and reason.
    pub undecodable: Vec<(usize, String)>,
    /// The number of distinct files that were looked at, not remembered.
    pub looked_at: u64,
}

/// Computes the statistics of a set of images. `geometry` is that of the squares that are made of
/// them, if it is known; otherwise they are assumed to be cropped. Looks that are `remembered` are
/// not taken again.
///
/// # Errors
/// If a file can't be read or differs from the listing. An image that can't be decoded is counted as
/// rejected.
pub fn explore(
    images: &ImageSet,
    labels: &Labels,
    geometry: Option<&Geometry>,
    remembered: Option<&Remembered>,
    task: &Task,
    cancel: &CancellationToken,
) -> Result<Explored, DataError> {
    let list = images.list();
    let mut groups: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
    for (index, image) in list.iter().enumerate() {
        groups.entry(image.digest).or_default().push(index);
    }
    let members: Vec<Vec<usize>> = groups.into_values().collect();
    let files: Vec<&Image> = members.iter().map(|members| &list[members[0]]).collect();
    let (looks, looked_at) = look_at(images, &files, remembered, task, cancel)?;
    let distinct = Distinct { images, labels, files, members };
    // The look of each image in the order of the paths.
    let mut by_image: Vec<Option<&Result<Look, String>>> = vec![None; list.len()];
    for (look, members) in looks.iter().zip(&distinct.members) {
        members.iter().for_each(|&at| by_image[at] = Some(look));
    }
    let by_image: Vec<&Result<Look, String>> = by_image.into_iter().flatten().collect();
    let mut found = aggregate(list, &by_image);
    count_classes(&mut found, labels);
    found.cropped = cropped(&by_image, geometry);
    found.unusual = unusual(list, &by_image, labels);
    (found.duplicates, found.near_duplicates) = distinct.duplicates(&looks)?;
    let undecodable = by_image.iter().enumerate();
    let undecodable =
        undecodable.filter_map(|(index, look)| Some((index, look.as_ref().err()?.clone())));
    Ok(Explored { undecodable: undecodable.collect(), findings: found, looked_at })
}

/// Aggregates in the order of the paths.
fn aggregate(list: &[Image], looks: &[&Result<Look, String>]) -> Exploration {
    let mut rejected = Rejected::default();
    let (mut formats, mut notes) = (BTreeMap::<&str, u64>::new(), BTreeMap::new());
    let (mut sides, mut ratios) = (Vec::new(), Vec::new());
    let (mut mean, mut square, mut measured) = ([0.0; 3], [0.0; 3], 0u32);
    for (image, look) in list.iter().zip(looks) {
        match look {
            Ok(one) => {
                *formats.entry(one.format).or_default() += 1;
                for (_, word) in NOTES.iter().filter(|(note, _)| one.notes.has(*note)) {
                    *notes.entry((*word).to_owned()).or_default() += 1;
                }
                sides.push(f64::from(one.width.min(one.height)));
                ratios.push(f64::from(one.width) / f64::from(one.height));
                if let Some(colors) = &one.colors {
                    measured += 1;
                    for channel in 0..3 {
                        mean[channel] += colors.mean[channel];
                        square[channel] += colors.mean_square[channel];
                    }
                }
            }
            Err(reason) => {
                rejected.count += 1;
                if rejected.examples.len() < MAX_EXAMPLES {
                    let (path, reason) = (image.path.clone(), reason.clone());
                    rejected.examples.push(RejectedExample { path, reason });
                }
            }
        }
    }
    let count = f64::from(measured.max(1));
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
        near_duplicates: NearDuplicates::default(),
        cropped: Cropped::default(),
        unusual: Vec::new(),
        colors_of: u64::from(measured),
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

/// The shares that the squares leave out of the images.
fn cropped(looks: &[&Result<Look, String>], geometry: Option<&Geometry>) -> Cropped {
    let lost = |look: &Look| match geometry {
        Some(geometry) => geometry.lost(look.width, look.height),
        None => {
            let (short, long) = (look.width.min(look.height), look.width.max(look.height));
            1.0 - f64::from(short) / f64::from(long)
        }
    };
    let mut all: Vec<f64> = looks.iter().filter_map(|look| look.as_ref().ok().map(lost)).collect();
    all.sort_by(f64::total_cmp);
    Cropped {
        fit: geometry.map_or(Fit::Crop, |geometry| geometry.fit).word().to_owned(),
        is_chosen: geometry.is_some(),
        median: all.get(all.len() / 2).map_or(0.0, |median| (median * 1e4).round() / 1e4),
        over_a_quarter: all.iter().filter(|lost| **lost > MUCH_LOST).count() as u64,
        lost: bins(&all, 0.01),
    }
}

fn unusual(list: &[Image], looks: &[&Result<Look, String>], labels: &Labels) -> Vec<Unusual> {
    let rows = list.iter().zip(looks).zip(&labels.by_image);
    let candidates: Vec<unusual::Candidate> = rows
        .filter_map(|((image, look), class)| {
            let descriptor = &look.as_ref().ok()?.descriptor;
            Some(unusual::Candidate { path: &image.path, class: *class, descriptor })
        })
        .collect();
    unusual::find(&candidates, &labels.classes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::decode::samples;
    use crate::data::images::{FOLDER, LISTING, listing, open};
    use crate::events::EventSink;
    use crate::store::digest_bytes;
    use image::{DynamicImage, ImageFormat};

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
        explore(
            &open(folder.path(), None).unwrap(),
            &labels,
            None,
            None,
            &task,
            &CancellationToken::new(),
        )
        .unwrap()
        .findings
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
        assert_eq!(plain.colors_of, 2);
    }

    #[test]
    fn equal_pixels_are_duplicates_and_copies_of_another_size_are_near() {
        let image = |side| DynamicImage::from(samples::halves(side, side)).into_rgb8();
        let found = explored(
            &[
                ("a.png", samples::file(&image(300).into(), ImageFormat::Png), Some(0)),
                ("b.bmp", samples::file(&image(300).into(), ImageFormat::Bmp), Some(1)),
                ("c.jpg", samples::jpeg(450, 450), Some(1)),
                ("d.png", samples::png(90, 30, [9; 3]), Some(1)),
            ],
            &["hat", "shoe"],
        );
        let equal = &found.duplicates;
        assert_eq!((equal.count, equal.contradictory, equal.conflicts.len()), (1, 1, 1));
        let near = &found.near_duplicates;
        // Both equal files and the larger copy.
        let paths: Vec<_> = near.examples.iter().map(|one| one.paths.join(" ")).collect();
        assert_eq!(paths, ["a.png c.jpg", "b.bmp c.jpg"]);
        assert_eq!((near.pairs, near.contradictory, near.across_splits), (2, 1, 0));
        assert_eq!((found.cropped.over_a_quarter, found.cropped.is_chosen), (1, false));
        assert_eq!(found.unusual, []);
    }
}
