//! Units of a split: images that have to be on the same side.

use super::Labelled;
use crate::store::Digest;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

/// Images that have to be on the same side.
pub(super) struct Unit {
    /// Where they are in the order of [`Units`].
    pub(super) members: Range<u32>,
    /// The class that most of them have, the first of several.
    pub(super) class: u32,
    /// In [0, 1), from content and seed.
    pub(super) position: f64,
    /// Decides between equal positions.
    pub(super) id: Digest,
}

/// All units. There may be a million: their members are in one list.
pub(super) struct Units {
    /// Positions in the list of images, by unit.
    order: Vec<u32>,
    pub(super) units: Vec<Unit>,
}

impl Units {
    pub(super) fn members(&self, unit: &Unit) -> &[u32] {
        &self.order[unit.members.start as usize..unit.members.end as usize]
    }
}

/// Joins images with equal files, equal pixels or the same group.
pub(super) fn units(images: &[Labelled], classes: usize, seed: u64) -> Units {
    let mut joined = Joined::new(images.len());
    joined.by(images.iter().map(|image| Some(&image.digest)));
    joined.by(images.iter().map(|image| image.pixels));
    joined.by(images.iter().map(|image| image.group));
    let roots: Vec<u32> = (0..images.len() as u32).map(|at| joined.root(at)).collect();
    let mut order: Vec<u32> = (0..images.len() as u32).collect();
    order.sort_unstable_by_key(|&at| (roots[at as usize], at));
    let mut units = Vec::with_capacity(images.len());
    let mut start = 0;
    for members in order.chunk_by(|&a, &b| roots[a as usize] == roots[b as usize]) {
        let end = start + members.len() as u32;
        units.push(unit(images, members, start..end, classes, seed));
        start = end;
    }
    Units { order, units }
}

fn unit(
    images: &[Labelled],
    positions: &[u32],
    members: Range<u32>,
    classes: usize,
    seed: u64,
) -> Unit {
    let of = |&at: &u32| &images[at as usize];
    let group = positions.iter().filter_map(|at| of(at).group).min();
    let file = positions.iter().map(|at| of(at).digest).min();
    let id = match (group, file) {
        (Some(group), _) => Digest::of(format!("group {group}").as_bytes()),
        (None, Some(file)) => file,
        (None, None) => unreachable!("a unit has at least one image"),
    };
    let class = match positions {
        [only] => of(only).class,
        _ => most_frequent(positions.iter().map(|at| of(at).class), classes),
    };
    Unit { members, class, position: position(&id, seed), id }
}

/// The class that occurs most, the first of several.
fn most_frequent(all: impl Iterator<Item = u32>, classes: usize) -> u32 {
    let mut counts = vec![0usize; classes];
    for class in all {
        if let Some(count) = counts.get_mut(class as usize) {
            *count += 1;
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    counts.iter().position(|&count| count == most).unwrap_or(0) as u32
}

/// Sets of positions, each named by its smallest member.
struct Joined(Vec<u32>);

impl Joined {
    fn new(count: usize) -> Joined {
        Joined((0..count as u32).collect())
    }

    fn root(&mut self, mut at: u32) -> u32 {
        while self.0[at as usize] != at {
            self.0[at as usize] = self.0[self.0[at as usize] as usize];
            at = self.0[at as usize];
        }
        at
    }

    /// Joins positions with equal values.
    fn by<T: Hash + Eq>(&mut self, values: impl Iterator<Item = Option<T>>) {
        let mut first: HashMap<T, u32> = HashMap::new();
        for (at, value) in (0..).zip(values) {
            let Some(value) = value else { continue };
            let earlier = *first.entry(value).or_insert(at);
            let (a, b) = (self.root(earlier), self.root(at));
            self.0[a.max(b) as usize] = a.min(b);
        }
    }
}

/// A number in [0, 1) derived from seed and content.
pub(super) fn position(source: &Digest, seed: u64) -> f64 {
    let mut bytes = seed.to_le_bytes().to_vec();
    bytes.extend_from_slice(source.as_bytes());
    let digest = Digest::of(&bytes);
    let word =
        digest.as_bytes().iter().take(8).fold(0u64, |word, &byte| word << 8 | u64::from(byte));
    (word >> 11) as f64 / (1u64 << 53) as f64
}
