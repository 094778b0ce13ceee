//! The choice of the items that `gc` removes. With a limit, the least valuable go first and nothing
//! goes that needn't: unused for the most days, then the least time to make a byte again, then the
//! largest. Depends on no file.

use crate::store::maintenance::DiskFile;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Whether an item may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Of no use: always removed.
    Leftover,
    /// Removed.
    Old,
    /// Removed only to keep a limit.
    Young,
    /// Never removed.
    Kept,
}

/// An item as its removal is decided.
#[derive(Clone, Debug)]
pub(super) struct Weighed<'a> {
    pub standing: Standing,
    /// Whole days since its last use.
    pub days: u64,
    /// To make it again.
    pub seconds: f64,
    /// Once for every link.
    pub files: &'a [DiskFile],
}

impl Weighed<'_> {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn seconds_per_byte(&self) -> f64 {
        self.seconds / self.bytes().max(1) as f64
    }
}

/// The files of a store with the number of their links that are left. A file takes space until its
/// last link is gone.
#[derive(Clone, Debug)]
pub(super) struct Links {
    left: HashMap<DiskFile, u32>,
    bytes: u64,
}

impl Links {
    /// `files` has each file once for every link.
    pub(super) fn of(files: impl IntoIterator<Item = DiskFile>) -> Links {
        let mut links = Links { left: HashMap::new(), bytes: 0 };
        for file in files {
            links.add(&[file]);
        }
        links
    }

    /// The bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Removes links, and returns the bytes that this frees.
    pub(super) fn release(&mut self, files: &[DiskFile]) -> u64 {
        let before = self.bytes;
        for file in files {
            // A file may have changed since all were listed.
            if let Some(left @ 1..) = self.left.get_mut(file) {
                *left -= 1;
                self.bytes -= if *left == 0 { file.bytes } else { 0 };
            }
        }
        before - self.bytes
    }

    /// Adds links, and returns the bytes that they take.
    fn add(&mut self, files: &[DiskFile]) -> u64 {
        let before = self.bytes;
        for file in files {
            let left = self.left.entry(*file).or_default();
            *left += 1;
            self.bytes += if *left == 1 { file.bytes } else { 0 };
        }
        self.bytes - before
    }

    /// Whether removing all `candidates` frees some of the space of `files`.
    fn frees(&self, files: &[DiskFile], candidates: &HashMap<DiskFile, u32>) -> bool {
        files.iter().any(|file| file.bytes > 0 && self.left.get(file) == candidates.get(file))
    }
}

/// The positions of the items to remove, the least valuable first: leftovers, and all old ones;
/// with a limit in bytes only as many, of old and young ones, as the limit requires.
pub(super) fn choose(items: &[Weighed], mut links: Links, limit: Option<u64>) -> Vec<usize> {
    let with = |wanted: &[Standing]| -> Vec<usize> {
        (0..items.len()).filter(|&at| wanted.contains(&items[at].standing)).collect()
    };
    let mut chosen = with(&[Standing::Leftover]);
    for &at in &chosen {
        links.release(items[at].files);
    }
    let mut candidates = match limit {
        Some(_) => with(&[Standing::Old, Standing::Young]),
        None => with(&[Standing::Old]),
    };
    candidates.sort_by(|&one, &other| {
        let [one, other] = [one, other].map(|at| &items[at]);
        (Reverse(one.days).cmp(&Reverse(other.days)))
            .then(one.seconds_per_byte().total_cmp(&other.seconds_per_byte()))
            .then(Reverse(one.bytes()).cmp(&Reverse(other.bytes())))
    });
    match limit {
        Some(limit) => chosen.extend(necessary(items, candidates, links, limit)),
        None => chosen.extend(candidates),
    }
    chosen
}

/// Those of the sorted candidates that must go for the store to fit the limit, or all that free
/// something if that doesn't suffice.
fn necessary(
    items: &[Weighed],
    candidates: Vec<usize>,
    mut links: Links,
    limit: u64,
) -> Vec<usize> {
    let mut of_candidates: HashMap<DiskFile, u32> = HashMap::new();
    for file in candidates.iter().flat_map(|&at| items[at].files) {
        *of_candidates.entry(*file).or_default() += 1;
    }
    let all = links.clone();
    let mut chosen = Vec::new();
    for at in candidates {
        if links.bytes() <= limit {
            break;
        }
        if all.frees(items[at].files, &of_candidates) {
            links.release(items[at].files);
            chosen.push(at);
        }
    }
    // A larger one that went later may have made room for it.
    let mut removed: Vec<usize> = Vec::new();
    for at in chosen.into_iter().rev() {
        links.add(items[at].files);
        if links.bytes() > limit {
            links.release(items[at].files);
            removed.push(at);
        }
    }
    removed.reverse();
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Standing, days, seconds, and the numbers of files: few, so that items share some.
    type Drawn = (u8, u64, u8, Vec<u64>);

    fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
        let files = proptest::collection::vec(0..12u64, 0..4);
        proptest::collection::vec((0..4u8, 0..4u64, 0..3u8, files), 0..12)
    }

    fn files(drawn: &[Drawn]) -> Vec<Vec<DiskFile>> {
        let file = |&inode: &u64| DiskFile { device: 1, inode, bytes: inode * inode };
        drawn.iter().map(|(.., files)| files.iter().map(file).collect()).collect()
    }

    fn weighed<'a>(drawn: &[Drawn], files: &'a [Vec<DiskFile>]) -> Vec<Weighed<'a>> {
        let standing = [Standing::Leftover, Standing::Old, Standing::Young, Standing::Kept];
        let pairs = drawn.iter().zip(files);
        pairs
            .map(|((kind, days, seconds, _), files)| Weighed {
                standing: standing[usize::from(*kind)],
                days: *days,
                seconds: f64::from(*seconds),
                files,
            })
            .collect()
    }

    fn left(items: &[Weighed], chosen: &[usize]) -> Links {
        let kept = (0..items.len()).filter(|at| !chosen.contains(at));
        Links::of(kept.flat_map(|at| items[at].files.iter().copied()))
    }

    proptest! {
        #[test]
        fn a_limit_is_kept_and_nothing_goes_in_vain(drawn in drawn(), limit in 0..600u64) {
            let files = files(&drawn);
            let items = weighed(&drawn, &files);
            let chosen = choose(&items, left(&items, &[]), Some(limit));
            let after = left(&items, &chosen).bytes();
            for (at, item) in items.iter().enumerate() {
                match item.standing {
                    Standing::Kept => prop_assert!(!chosen.contains(&at)),
                    Standing::Leftover => prop_assert!(chosen.contains(&at)),
                    Standing::Old | Standing::Young => {}
                }
            }
            let candidates = |at: &usize| matches!(items[*at].standing, Standing::Old | Standing::Young);
            if after > limit {
                let all: Vec<usize> =
                    (0..items.len()).filter(|&at| items[at].standing != Standing::Kept).collect();
                prop_assert_eq!(after, left(&items, &all).bytes(), "more could go");
            } else {
                for &back in chosen.iter().filter(|at| candidates(at)) {
                    let without: Vec<usize> =
                        chosen.iter().copied().filter(|&at| at != back).collect();
                    prop_assert!(left(&items, &without).bytes() > limit, "{back} needn't go");
                }
            }
            // A second one removes nothing.
            let rest: Vec<Weighed> = (0..items.len())
                .filter(|at| !chosen.contains(at))
                .map(|at| items[at].clone())
                .collect();
            prop_assert_eq!(choose(&rest, left(&rest, &[]), Some(limit)), Vec::<usize>::new());
        }

        #[test]
        fn without_a_limit_all_old_ones_go_in_order(drawn in drawn()) {
            let files = files(&drawn);
            let items = weighed(&drawn, &files);
            let chosen = choose(&items, left(&items, &[]), None);
            for (at, item) in items.iter().enumerate() {
                let goes = matches!(item.standing, Standing::Leftover | Standing::Old);
                prop_assert_eq!(chosen.contains(&at), goes);
            }
            let old = chosen.iter().filter(|&&at| items[at].standing == Standing::Old);
            let old: Vec<&Weighed> = old.map(|&at| &items[at]).collect();
            for pair in old.windows(2) {
                let value = |item: &Weighed| (Reverse(item.days), item.seconds_per_byte());
                prop_assert!(value(pair[0]) <= value(pair[1]));
            }
        }
    }

    #[test]
    fn the_least_valuable_goes_first() {
        let file = |inode| [DiskFile { device: 1, inode, bytes: 100 }];
        let [recent, costly, cheap, old] = [1, 2, 3, 4].map(file);
        let item = |days, seconds, files| Weighed { standing: Standing::Old, days, seconds, files };
        let items = [
            item(1, 1.0, &recent[..]),
            item(2, 9.0, &costly),
            item(2, 3.0, &cheap),
            item(5, 99.0, &old),
        ];
        for (limit, expected) in [
            (400, vec![]),
            (399, vec![3]),
            (250, vec![3, 2]),
            (100, vec![3, 2, 1]),
            (0, vec![3, 2, 1, 0]),
        ] {
            assert_eq!(choose(&items, left(&items, &[]), Some(limit)), expected, "{limit}");
        }
    }
}
