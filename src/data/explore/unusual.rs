//! The most unusual images: those whose brightness, colors or detail are farthest from the median
//! of their class, measured by the spread of the class (median absolute deviation), so that the
//! unusual ones don't hide each other.

use super::findings::Unusual;
use crate::data::similarity::{SIDE, Thumbnail};
use std::collections::BTreeMap;

/// Parts along a side.
const PARTS: usize = 4;
const AREA: usize = PARTS * PARTS;
/// Side of a part, in pixels.
const CELL: usize = SIDE / PARTS;
/// The groups of values in a descriptor, with their lengths.
const GROUPS: [(&str, usize); 3] = [("brightness", AREA), ("color", 2 * AREA), ("detail", AREA)];
pub(super) const LENGTH: usize = 4 * AREA;
/// Smallest class that is compared within itself.
const MIN_CLASS: usize = 8;
/// Score from which an image is unusual.
const MIN_SCORE: f64 = 3.5;
/// Largest number of images.
const MAX_IMAGES: usize = 24;
/// The smallest deviation that counts, in levels: less isn't seen.
const MIN_SPREAD: f64 = 4.0;
/// From a median absolute deviation to the standard deviation of a normal distribution.
const NORMAL: f64 = 1.4826;

/// Brightness, blue and red against brightness, and contrast between neighboring pixels, in each of
/// 4 x 4 parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Descriptor(pub(super) [u8; LENGTH]);

impl Descriptor {
    pub(super) fn of(thumbnail: &Thumbnail) -> Descriptor {
        let mut lumas = [0u32; SIDE * SIDE];
        for (luma, color) in lumas.iter_mut().zip(thumbnail.pixels().chunks_exact(3)) {
            let [red, green, blue] = [0, 1, 2].map(|channel| u32::from(color[channel]));
            *luma = (red * 77 + green * 150 + blue * 29) >> 8;
        }
        let mut sums = [0u32; LENGTH];
        let rows = thumbnail.pixels().chunks_exact(SIDE * 3).zip(lumas.chunks_exact(SIDE));
        for (y, (colors, row)) in rows.enumerate() {
            let below = &lumas[(y + 1).min(SIDE - 1) * SIDE..][..SIDE];
            let cells = colors.chunks_exact(CELL * 3).zip(below.chunks_exact(CELL));
            for (x, (colors, below)) in cells.enumerate() {
                let start = x * CELL;
                let mut cell = [0; 4];
                for (at, (color, below)) in colors.chunks_exact(3).zip(below).enumerate() {
                    let bright = row[start + at];
                    let right = row[(start + at + 1).min(SIDE - 1)];
                    cell[0] += bright;
                    cell[1] += (255 + u32::from(color[2]) - bright) / 2;
                    cell[2] += (255 + u32::from(color[0]) - bright) / 2;
                    cell[3] += (right.abs_diff(bright) + below.abs_diff(bright)).min(255);
                }
                for (value, sum) in cell.into_iter().enumerate() {
                    sums[value * AREA + y / CELL * PARTS + x] += sum;
                }
            }
        }
        Descriptor(sums.map(|sum| (sum / (CELL * CELL) as u32) as u8))
    }
}

/// An image that is looked at.
pub(super) struct Candidate<'a> {
    pub(super) path: &'a str,
    pub(super) class: Option<u32>,
    pub(super) descriptor: &'a Descriptor,
}

/// The most unusual images, the most unusual first.
pub(super) fn find(candidates: &[Candidate], classes: &[String]) -> Vec<Unusual> {
    let mut by_class: BTreeMap<Option<u32>, Vec<usize>> = BTreeMap::new();
    for (at, one) in candidates.iter().enumerate() {
        by_class.entry(one.class).or_default().push(at);
    }
    let all: Vec<usize> = (0..candidates.len()).collect();
    let mut found: Vec<(f64, usize, &str, bool)> = Vec::new();
    for members in by_class.values() {
        let within = members.len() >= MIN_CLASS;
        let others = if within { members } else { &all };
        if others.len() < MIN_CLASS {
            continue;
        }
        let scores = scores(candidates, others, members);
        let unusual = scores.into_iter().zip(members).filter(|((score, _), _)| *score > MIN_SCORE);
        found.extend(unusual.map(|((score, by), &at)| (score, at, by, within)));
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.truncate(MAX_IMAGES);
    let named = |(score, at, by, within): (f64, usize, &str, bool)| {
        let one = &candidates[at];
        let class = one.class.filter(|_| within).and_then(|class| classes.get(class as usize));
        Unusual {
            path: one.path.to_owned(),
            class: class.cloned(),
            score: (score * 10.0).round() / 10.0,
            by: by.to_owned(),
        }
    };
    found.into_iter().map(named).collect()
}

/// The score of each member and what differs most, compared with `others`.
fn scores(
    candidates: &[Candidate],
    others: &[usize],
    members: &[usize],
) -> Vec<(f64, &'static str)> {
    let spreads: Vec<(f64, f64)> = (0..LENGTH)
        .map(|value| {
            let of = |&at: &usize| f64::from(candidates[at].descriptor.0[value]);
            spread(others.iter().map(of).collect(), MIN_SPREAD)
        })
        .collect();
    let distance = |&at: &usize| distance(candidates[at].descriptor, &spreads);
    let (middle, deviation) = spread(others.iter().map(|at| distance(at).0).collect(), 0.1);
    members
        .iter()
        .map(|at| {
            let (distance, by) = distance(at);
            ((distance - middle) / deviation, by)
        })
        .collect()
}

/// The root of the mean squared deviation, and the group in which it is largest.
fn distance(descriptor: &Descriptor, spreads: &[(f64, f64)]) -> (f64, &'static str) {
    let squares = descriptor
        .0
        .iter()
        .zip(spreads)
        .map(|(&value, (middle, deviation))| ((f64::from(value) - middle) / deviation).powi(2));
    let squares: Vec<f64> = squares.collect();
    let (mut start, mut total, mut largest) = (0, 0.0, (-1.0, ""));
    for (name, length) in GROUPS {
        let sum = squares[start..start + length].iter().fold(0.0, |sum, one| sum + one);
        (start, total) = (start + length, total + sum);
        if sum / length as f64 > largest.0 {
            largest = (sum / length as f64, name);
        }
    }
    ((total / LENGTH as f64).sqrt(), largest.1)
}

/// Median, and median absolute deviation as a standard deviation, at least `least`.
fn spread(mut values: Vec<f64>, least: f64) -> (f64, f64) {
    let median = |values: &mut Vec<f64>| {
        let middle = values.len() / 2;
        *values.select_nth_unstable_by(middle, f64::total_cmp).1
    };
    let middle = median(&mut values);
    values.iter_mut().for_each(|value| *value = (*value - middle).abs());
    (middle, (median(&mut values) * NORMAL).max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(level: u8, detail: bool) -> Descriptor {
        let pixels = (0..SIDE * SIDE * 3)
            .map(|at| if detail && (at / 3) % 2 == 0 { 255 - level } else { level });
        Descriptor::of(&Thumbnail::from_pixels(pixels.collect()).unwrap())
    }

    #[test]
    fn the_odd_one_of_a_class_is_found_and_what_differs() {
        let usual: Vec<Descriptor> = (0..20).map(|at| plain(100 + at % 5, false)).collect();
        let (bright, striped) = (plain(250, false), plain(100, true));
        let mut all: Vec<Candidate> = usual
            .iter()
            .map(|descriptor| Candidate { path: "usual", class: Some(0), descriptor })
            .collect();
        let classes = ["a".to_owned(), "b".to_owned()];
        assert_eq!(find(&all, &classes), []);
        all.push(Candidate { path: "bright", class: Some(0), descriptor: &bright });
        all.push(Candidate { path: "striped", class: Some(1), descriptor: &striped });
        let found = find(&all, &classes);
        let named: Vec<_> = found
            .iter()
            .map(|one| (one.path.as_str(), one.class.as_deref(), one.by.as_str()))
            .collect();
        // A class of one image is compared with all.
        assert!(named.contains(&("bright", Some("a"), "brightness")), "{named:?}");
        assert!(named.contains(&("striped", None, "detail")), "{named:?}");
        assert_eq!(named.len(), 2);
    }
}
