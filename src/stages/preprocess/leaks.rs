//! Leaks: training and validation images that equal one of a split that is scored, or are near
//! duplicates of one. They are listed, and left out if the pipeline file says so. Each is compared
//! directly with the other; a resemblance of resemblances doesn't count.

use super::SHOWN;
use super::assign::Assignment;
use super::equal::{Equal, Member};
use crate::common::csv_text::not_a_formula;
use crate::common::number::counted;
use crate::common::words::shortened_list;
use crate::data::Split;
use crate::data::rejected::{LEAK, Rejected};
use crate::data::similarity::{self, Thumbnail};
use crate::data::tensor_cache::{RECORDS, Records, Written};
use crate::engine::{Context, OrFail, StageError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Name of the list.
pub(super) const LEAKS: &str = "leaks.csv";

/// Two images that are copies in different splits, by their positions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Leak {
    /// The one that training sees earlier: of the train split, or of validation against test.
    copy: usize,
    /// The one that is scored.
    scored: usize,
    /// 1 for equal pixels, less for a near duplicate.
    similarity: f64,
}

/// The groups of images with equal pixels. Their members are in one list.
struct Groups {
    groups: Vec<Group>,
    /// Splits and positions, sorted within a group.
    members: Vec<(Split, u32)>,
}

struct Group {
    record: u32,
    members: Range<u32>,
    /// A bit for each split of its members.
    splits: u8,
}

impl Groups {
    fn new(equal: &Equal, splits: &[Split]) -> Groups {
        let mut all = Groups { groups: Vec::new(), members: Vec::new() };
        for members in equal.groups() {
            let (start, record) = (all.members.len(), members[0].record);
            let member = |one: &Member| (splits[one.position()], one.position() as u32);
            all.members.extend(members.iter().map(member));
            let added = &mut all.members[start..];
            added.sort_unstable();
            let splits = added.iter().fold(0, |bits, (split, _)| bits | 1 << *split as u8);
            let members = start as u32..all.members.len() as u32;
            all.groups.push(Group { record, members, splits });
        }
        all
    }

    /// The positions in each split.
    fn by_split(&self, group: &Group) -> impl Iterator<Item = (Split, &[(Split, u32)])> {
        let members = &self.members[group.members.start as usize..group.members.end as usize];
        members.chunk_by(|a, b| a.0 == b.0).map(|members| (members[0].0, members))
    }

    /// The leaks from the images of one group to those of another in a later split: each image with
    /// the first one on the other side.
    fn between(&self, copies: &Group, scored: &Group, similarity: f64) -> Vec<Leak> {
        let mut leaks = Vec::new();
        let leak = |copy: u32, scored: u32| Leak {
            copy: copy as usize,
            scored: scored as usize,
            similarity,
        };
        for (split, copies) in self.by_split(copies) {
            for (_, scored) in self.by_split(scored).filter(|(later, _)| *later > split) {
                leaks.extend(copies.iter().map(|&(_, copy)| leak(copy, scored[0].1)));
                leaks.extend(scored.iter().skip(1).map(|&(_, scored)| leak(copies[0].1, scored)));
            }
        }
        leaks
    }
}

/// The leaks between splits: equal images with different labels first, then the most similar ones.
pub(super) fn find(
    context: &Context,
    assignment: &Assignment,
    splits: &[Split],
    made: &Written,
    equal: &Equal,
) -> Result<Vec<Leak>, StageError> {
    let all = Groups::new(equal, splits);
    let groups = &all.groups;
    let used = groups.iter().fold(0, |bits, group| bits | group.splits);
    let Some(sketches) = made.sketches.as_ref().filter(|_| used.count_ones() > 1) else {
        return Ok(Vec::new());
    };
    let records = Records::open(&context.slot.join(RECORDS))?;
    let size = records.size() as u32;
    let sketch = |at: usize| sketches.of_record(groups[at].record).map(Some);
    let thumbnail = |at: usize| Thumbnail::of_square(&records.record(groups[at].record)?, size);
    let are_apart = |a: usize, b: usize| {
        let [a, b] = [groups[a].splits, groups[b].splits];
        a != b || !a.is_power_of_two()
    };
    let pairs = similarity::pairs(groups.len(), sketch, are_apart, thumbnail)?;
    let mut leaks: Vec<Leak> =
        groups.iter().flat_map(|group| all.between(group, group, 1.0)).collect();
    for pair in pairs {
        let (one, other) = (&groups[pair.first], &groups[pair.second]);
        // Only equal pixels have a similarity of 1.
        let similarity = pair.similarity.min(0.9999);
        leaks.extend(all.between(one, other, similarity));
        leaks.extend(all.between(other, one, similarity));
    }
    let order = |leak: &Leak| {
        let [copy, scored] = [leak.copy, leak.scored].map(|at| assignment.class_number(at));
        (!(copy != scored && leak.similarity == 1.0), -leak.similarity)
    };
    leaks.sort_by(|a, b| {
        let ((one, near), (other, far)) = (order(a), order(b));
        let positions = (a.copy, a.scored).cmp(&(b.copy, b.scored));
        one.cmp(&other).then(near.total_cmp(&far)).then(positions)
    });
    Ok(leaks)
}

/// Writes [`LEAKS`].
pub(super) fn write(
    context: &Context,
    assignment: &Assignment,
    splits: &[Split],
    leaks: &[Leak],
) -> Result<(), StageError> {
    let path = context.slot.join(LEAKS);
    let written = || -> Result<(), csv::Error> {
        let mut csv = csv::Writer::from_path(&path)?;
        csv.write_record([
            "path",
            "split",
            "class",
            "other_path",
            "other_split",
            "other_class",
            "similarity",
        ])?;
        for leak in leaks {
            for at in [leak.copy, leak.scored] {
                csv.write_field(not_a_formula(assignment.path(at)).as_bytes())?;
                csv.write_field(splits[at].name())?;
                csv.write_field(not_a_formula(assignment.class(at)).as_bytes())?;
            }
            csv.write_field(similarity_text(leak.similarity))?;
            csv.write_record(None::<&[u8]>)?;
        }
        Ok(csv.flush()?)
    };
    written().map_err(std::io::Error::from).or_fail(format_args!("writing {LEAKS}"))
}

fn similarity_text(similarity: f64) -> String {
    if similarity == 1.0 { "1".to_owned() } else { format!("{similarity:.4}") }
}

/// The number of images that leak.
pub(super) fn count(leaks: &[Leak]) -> u64 {
    leaks.iter().map(|leak| leak.copy).collect::<BTreeSet<usize>>().len() as u64
}

/// Warns of leaks that stay.
pub(super) fn warn(context: &Context, assignment: &Assignment, splits: &[Split], leaks: &[Leak]) {
    let Some(first) = leaks.first() else { return };
    let named =
        [first.copy, first.scored].map(|at| format!("{} ({})", assignment.path(at), splits[at]));
    let (is_one, images) = (count(leaks) == 1, counted(count(leaks), "image"));
    let (verb, such) = if is_one { ("is a copy", "") } else { ("are copies", "such as ") };
    context.events.warn(format!(
        "{images} {verb} of one in another split, {such}{}, so scores are too good: see {LEAKS}; `on_leak = \"drop\"` leaves them out",
        named.join(" and ")
    ));
}

/// Leaves out the images that leak: those of train and validation against test, then those of train
/// against what is left of validation.
///
/// # Errors
/// If a split, or the training images of a class, would all be left out.
pub(super) fn drop(
    assignment: &mut Assignment,
    splits: &mut Vec<Split>,
    leaks: &[Leak],
    not_used: &mut Vec<Rejected>,
) -> Result<(), StageError> {
    let mut dropped: BTreeMap<usize, usize> = BTreeMap::new();
    for scored in [Split::Test, Split::Validation] {
        for leak in leaks.iter().filter(|leak| splits[leak.scored] == scored) {
            if !dropped.contains_key(&leak.scored) {
                dropped.entry(leak.copy).or_insert(leak.scored);
            }
        }
    }
    check_left(assignment, splits, &dropped)?;
    not_used.extend(dropped.iter().map(|(&at, &scored)| {
        let reason = format!("{LEAK}: {} ({})", assignment.path(scored), splits[scored]);
        assignment.rejected(at, reason)
    }));
    not_used.sort();
    let kept: Vec<bool> = (0..splits.len()).map(|at| !dropped.contains_key(&at)).collect();
    assignment.keep(&kept);
    let mut kept = kept.into_iter();
    splits.retain(|_| kept.next().unwrap_or(true));
    Ok(())
}

fn check_left(
    assignment: &Assignment,
    splits: &[Split],
    dropped: &BTreeMap<usize, usize>,
) -> Result<(), StageError> {
    let refused = |what: String| {
        let message = format!("`on_leak = \"drop\"` would leave {what}");
        let help = format!(
            "see the copies with `on_leak = \"report\"` in {LEAKS}, and split anew or add images"
        );
        Err(StageError::failed(message).with_help(help))
    };
    let left = |at: &usize| !dropped.contains_key(at);
    let of = |split: Split| (0..splits.len()).filter(move |&at| splits[at] == split);
    for split in [Split::Train, Split::Validation] {
        if of(split).count() > 0 && of(split).filter(left).count() == 0 {
            return refused(format!("nothing of the split `{split}`"));
        }
    }
    let classes = |at: &mut dyn Iterator<Item = usize>| -> BTreeSet<&str> {
        at.map(|at| assignment.class(at)).collect()
    };
    let before = classes(&mut of(Split::Train));
    let after = classes(&mut of(Split::Train).filter(left));
    let lost: Vec<&str> = before.difference(&after).copied().collect();
    if lost.is_empty() {
        return Ok(());
    }
    refused(format!("no training image of {}", shortened_list(lost, SHOWN)))
}
