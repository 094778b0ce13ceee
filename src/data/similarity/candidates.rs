//! Candidates for near duplicates: pairs of hashes that differ in few bits, found by multi-index
//! hashing (Norouzi, Punjani and Fleet, 2012). Of 8 bands of 8 bits, one is equal if all together
//! differ in at most 7; so each image looks into 8 buckets, at those of about its brightness,
//! instead of comparing itself with all others. (4 bands of 16 bits, in which one may differ, need
//! 68 buckets; to find the place in each took most of the time.) One band is in memory at a time,
//! and each pair is compared once.

use super::sketch::{Sketch, planes};
use crate::data::DataError;
use pulp::Arch;
use rayon::prelude::*;
use std::ops::Range;

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
/// Images of a bucket, or of all, that one thread looks at in a row.
const PART: usize = 4096;
/// Candidates that are collected before those that aren't kept are left out.
const MANY: usize = 1 << 16;

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

/// A candidate of an image, in the order in which they are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    image: u32,
    distance: u32,
    other: u32,
}

/// The images sorted by their value in a band, then as [`Hashed`] is.
struct Band {
    number: usize,
    /// Where the bucket of each value begins, and where the last one ends.
    starts: Vec<usize>,
    members: Vec<Hashed>,
}

fn value(hash: u64, band: usize) -> usize {
    (hash >> (BAND_BITS as usize * band)) as usize & ((1 << BAND_BITS) - 1)
}

impl Band {
    /// `hashed` is sorted.
    fn new(hashed: &[Hashed], number: usize) -> Band {
        let mut starts = vec![0; (1 << BAND_BITS) + 1];
        for one in hashed {
            starts[value(one.hash, number) + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let (mut members, mut next) = (hashed.to_vec(), starts.clone());
        for one in hashed {
            let place = &mut next[value(one.hash, number)];
            members[*place] = *one;
            *place += 1;
        }
        Band { number, starts, members }
    }

    /// Images of a bucket, and those behind them in it that they may have to be compared with.
    fn parts(&self) -> Vec<(Range<usize>, usize)> {
        let part = |bucket: &[usize]| {
            let end = bucket[1];
            let starts = (bucket[0]..end).step_by(PART);
            starts.map(move |start| (start..(start + PART).min(end), end)).collect::<Vec<_>>()
        };
        self.starts.windows(2).flat_map(part).collect()
    }
}

/// The candidate pairs, smaller position first, sorted. Positions are below `count`.
///
/// # Errors
/// Those of `sketch`.
pub(super) fn find(
    count: usize,
    sketch: &(impl Fn(usize) -> Result<Option<Sketch>, DataError> + Sync),
    compares: &(impl Fn(usize, usize) -> bool + Sync),
) -> Result<Vec<(usize, usize)>, DataError> {
    let hashed = hashed(count, sketch)?;
    let mut found: Vec<Candidate> = Vec::new();
    for number in 0..BANDS {
        let band = Band::new(&hashed, number);
        let near = |(one, end): (Range<usize>, usize)| {
            Arch::new().dispatch(
                #[inline(always)]
                || near(&band, one, end, sketch, compares),
            )
        };
        let near: Result<Vec<Vec<Candidate>>, DataError> =
            band.parts().into_par_iter().map(near).collect();
        found.extend(near?.into_iter().flatten());
        keep_closest(&mut found);
    }
    let pair = |one: &Candidate| {
        let (image, other) = (one.image as usize, one.other as usize);
        (image.min(other), image.max(other))
    };
    let mut pairs: Vec<(usize, usize)> = found.iter().map(pair).collect();
    pairs.par_sort_unstable();
    pairs.dedup();
    Ok(pairs)
}

/// The hashes of all images that have one, sorted.
fn hashed(
    count: usize,
    sketch: &(impl Fn(usize) -> Result<Option<Sketch>, DataError> + Sync),
) -> Result<Vec<Hashed>, DataError> {
    let planes = planes();
    let hash = |at: usize| {
        let Some(sketch) = sketch(at)? else { return Ok(None) };
        let hash = Arch::new().dispatch(
            #[inline(always)]
            || sketch.hash(&planes),
        );
        let brightness = sketch.brightness();
        Ok(hash.map(|hash| Hashed { brightness, hash, at: at as u32 }))
    };
    let hashed: Result<Vec<Option<Hashed>>, DataError> =
        (0..count).into_par_iter().map(hash).collect();
    let mut hashed: Vec<Hashed> = hashed?.into_iter().flatten().collect();
    hashed.par_sort_unstable();
    Ok(hashed)
}

/// The candidates among a part of a bucket that ends at `end`, each in the lists of both images.
#[inline(always)]
fn near(
    band: &Band,
    part: Range<usize>,
    end: usize,
    sketch: &(impl Fn(usize) -> Result<Option<Sketch>, DataError> + Sync),
    compares: &(impl Fn(usize, usize) -> bool + Sync),
) -> Result<Vec<Candidate>, DataError> {
    let (mut found, mut most) = (Vec::new(), MANY);
    for at in part {
        let one = band.members[at];
        let others = &band.members[at + 1..end.min(at + 1 + MAX_IN_BUCKET)];
        // Read when there is something to compare it with.
        let mut own = None;
        for other in others {
            if other.brightness > one.brightness + MAX_DISTANCE {
                break;
            }
            let different = one.hash ^ other.hash;
            if different.count_ones() > MAX_BITS
                || !is_first(different, band.number)
                || !compares(one.at as usize, other.at as usize)
            {
                continue;
            }
            if own.is_none() {
                own = sketch(one.at as usize)?;
            }
            let distance = match (&own, sketch(other.at as usize)?) {
                (Some(own), Some(other)) => own.distance(&other),
                _ => None,
            };
            if let Some(distance) = distance.filter(|distance| *distance <= MAX_DISTANCE) {
                found.push(Candidate { image: one.at, distance, other: other.at });
                found.push(Candidate { image: other.at, distance, other: one.at });
            }
        }
        if found.len() > most {
            keep_closest(&mut found);
            most = found.len() + MANY;
        }
    }
    keep_closest(&mut found);
    Ok(found)
}

/// Keeps the closest candidates of each image.
fn keep_closest(found: &mut Vec<Candidate>) {
    found.par_sort_unstable();
    let (mut image, mut count) = (None, 0);
    found.retain(|one| {
        if image != Some(one.image) {
            (image, count) = (Some(one.image), 0);
        }
        count += 1;
        count <= MAX_PER_IMAGE
    });
}

/// Whether a band is the first through which two hashes find each other, so that they do once: none
/// of the lower bytes of what differs is 0.
#[inline(always)]
fn is_first(different: u64, band: usize) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = u64::from_le_bytes([128; 8]);
    let lower = different | u64::MAX << (BAND_BITS as usize * band);
    lower.wrapping_sub(ONES) & !lower & HIGH == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_band_is_the_first_if_no_lower_one_is_equal(bytes in any::<[u8; 8]>(), zero in 0usize..9, band in 0usize..8) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.get_mut(zero) {
                *byte = 0;
            }
            let different = u64::from_le_bytes(bytes);
            let expected = (0..band).all(|earlier| value(different, earlier) != 0);
            prop_assert_eq!(is_first(different, band), expected);
        }
    }
}
