//! Images with equal pixels: they have equal records, whatever their files.

use super::assign::Assignment;
use crate::data::tensor_cache::Written;
use crate::store::Digest;
use rayon::prelude::*;

/// The labelled images, those with equal pixels next to each other.
pub(super) struct Equal<'a> {
    made: &'a Written,
    members: Vec<Member>,
}

/// A labelled image.
pub(super) struct Member {
    /// The first bytes of its record's digest.
    start: u64,
    pub(super) record: u32,
    at: u32,
}

impl Member {
    /// Its position in the assignment.
    pub(super) fn position(&self) -> usize {
        self.at as usize
    }
}

impl<'a> Equal<'a> {
    pub(super) fn new(assignment: &Assignment, made: &'a Written) -> Equal<'a> {
        let labelled = (0..assignment.len()).filter(|&at| assignment.is_labelled(at));
        let member = |at: usize| {
            let record = assignment.record(at);
            let digest = made.entries[record as usize].record_digest;
            let start =
                digest.as_bytes().first_chunk().map_or(0, |start| u64::from_be_bytes(*start));
            Member { start, record, at: at as u32 }
        };
        let mut equal = Equal { made, members: labelled.map(member).collect() };
        let digest = |one: &Member| made.entries[one.record as usize].record_digest;
        equal.members.par_sort_unstable_by(|a, b| {
            let whole = || digest(a).cmp(&digest(b));
            a.start.cmp(&b.start).then_with(whole).then(a.at.cmp(&b.at))
        });
        equal
    }

    /// Those with equal pixels, in the order of their positions; the groups in the order of their
    /// records' digests.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[Member]> {
        self.members.chunk_by(|a, b| a.start == b.start && self.digest(a) == self.digest(b))
    }

    fn digest(&self, one: &Member) -> &Digest {
        &self.made.entries[one.record as usize].record_digest
    }
}
