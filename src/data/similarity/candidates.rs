//! Candidates for near duplicates: pairs of hashes that differ in few bits, found by multi-index
//! hashing (Norouzi, Punjani and Fleet, 2012). Of 8 bands of 8 bits, one is equal if all together
//! differ in at most 7; so each image looks into 8 buckets, at those of about its brightness,
//! instead of comparing itself with all others. (4 bands of 16 bits, in which one may differ, need
//! 68 buckets; to find the place in each took most of the time.)

use super::sketch::{Sketch, planes};
use rayon::prelude::*;

/// Largest number of different bits.
const MAX_BITS: u32 = 7;
const BANDS: usize = 8;
const BAND_BITS: u32 = 8;
/// Largest mean difference of the levels of two sketches.
const MAX_LEVELS: u32 = 6;
/// The same as a sum over all levels. The sums of both sketches differ by no more than that, which
/// rules out most of a bucket without looking at it.
const MAX_DISTANCE: u32 = MAX_LEVELS * size_of::<Sketch>() as u32;
/// Images of a bucket that one image is compared with, on either side of it in the order of their
/// brightness: thousands of frames of one scene would otherwise all be compared with each other.
const MAX_IN_BUCKET: usize = 512;
/// Candidates that an image keeps, the closest ones. A pair is kept if either of both keeps it.
const MAX_PER_IMAGE: usize = 8;

/// An image in the order of all buckets: by brightness, so that those of similar brightness are
/// neighbors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hashed {
    /// Sum of the levels of its sketch.
    brightness: u32,
    hash: u64,
    /// Position in the list.
    at: u32,
}

/// The images that have the same value in a band, for each value.
struct Band {
    /// Where the bucket of each value begins, and where the last one ends.
    starts: Vec<usize>,
    /// Sorted by value, then as [`Hashed`] is.
    members: Vec<Hashed>,
}

fn value(hash: u64, band: usize) -> usize {
    (hash >> (BAND_BITS as usize * band)) as usize & ((1 << BAND_BITS) - 1)
}

impl Band {
    /// `hashed` is sorted.
    fn new(hashed: &[Hashed], band: usize) -> Band {
        let mut members = hashed.to_vec();
        members.sort_by_key(|one| value(one.hash, band));
        let mut starts = vec![0; (1 << BAND_BITS) + 1];
        for one in &members {
            starts[value(one.hash, band) + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        Band { starts, members }
    }

    /// The members of a bucket that are about as bright as one image.
    fn around(&self, value: usize, one: Hashed) -> &[Hashed] {
        let bucket = &self.members[self.starts[value]..self.starts[value + 1]];
        let middle = bucket.partition_point(|other| *other < one);
        let (before, after) = bucket.split_at(middle);
        let before = &before[before.len().saturating_sub(MAX_IN_BUCKET)..];
        let after = &after[..after.len().min(MAX_IN_BUCKET + 1)];
        let is_darker = |other: &Hashed| other.brightness + MAX_DISTANCE < one.brightness;
        let is_close = |other: &Hashed| other.brightness <= one.brightness + MAX_DISTANCE;
        let start = middle - before.len() + before.partition_point(is_darker);
        &bucket[start..middle + after.partition_point(is_close)]
    }
}

/// The candidate pairs, smaller position first, sorted.
pub(super) fn find(
    sketches: &[Option<Sketch>],
    compares: &(impl Fn(usize, usize) -> bool + Sync),
) -> Vec<(usize, usize)> {
    let planes = planes();
    let hash = |(at, sketch): (usize, &Option<Sketch>)| {
        let sketch = sketch.as_ref()?;
        let at = u32::try_from(at).ok()?;
        Some(Hashed { brightness: sketch.brightness(), hash: sketch.hash(&planes)?, at })
    };
    let mut hashed: Vec<Hashed> = sketches.par_iter().enumerate().filter_map(hash).collect();
    hashed.par_sort_unstable();
    let bands: Vec<Band> = (0..BANDS).into_par_iter().map(|at| Band::new(&hashed, at)).collect();
    let close = |one: usize, other: usize| {
        let distance = sketches[one]?.distance(&sketches[other]?)?;
        (distance <= MAX_DISTANCE).then_some((distance, other))
    };
    let near = |one: &Hashed| {
        let mut near: Vec<(u32, usize)> = Vec::new();
        for (index, band) in bands.iter().enumerate() {
            let others = band.around(value(one.hash, index), *one).iter();
            let few = others.filter(|other| {
                let different = one.hash ^ other.hash;
                different.count_ones() <= MAX_BITS
                    && is_first(different, index)
                    && other.at != one.at
                    && compares(one.at as usize, other.at as usize)
            });
            near.extend(few.filter_map(|other| close(one.at as usize, other.at as usize)));
        }
        near.sort_unstable();
        near.truncate(MAX_PER_IMAGE);
        let at = one.at as usize;
        let pair = |(_, to): (u32, usize)| (at.min(to), at.max(to));
        near.into_iter().map(pair).collect::<Vec<_>>()
    };
    let mut pairs: Vec<(usize, usize)> = hashed.par_iter().flat_map_iter(near).collect();
    pairs.par_sort_unstable();
    pairs.dedup();
    pairs
}

/// Whether a band is the first through which two hashes find each other, so that they do once.
fn is_first(different: u64, band: usize) -> bool {
    (0..band).all(|earlier| value(different, earlier) != 0)
}
