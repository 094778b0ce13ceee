//! Leaks: training and validation images that equal one of a split that is scored, or are near
//! duplicates of one. They are listed, and left out if the pipeline file says so. Each is compared
//! directly with the other; a resemblance of resemblances doesn't count.

use super::SHOWN;
use super::assign::{Assignment, record_of};
use crate::common::csv_text::not_a_formula;
use crate::common::number::counted;
use crate::common::words::shortened_list;
use crate::data::Split;
use crate::data::rejected::{LEAK, Rejected};
use crate::data::similarity::{self, Sketch, Sketches, Thumbnail};
use crate::data::tensor_cache::{RECORDS, Records, Written};
use crate::engine::{Context, OrFail, StageError};
use crate::store::Digest;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

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

/// The images with equal pixels.
struct Group {
    record: u32,
    /// Digest of the file that the record was made from.
    image: Digest,
    /// Splits and positions, sorted.
    members: Vec<(Split, usize)>,
}

impl Group {
    /// The positions in each split.
    fn by_split(&self) -> impl Iterator<Item = (Split, &[(Split, usize)])> {
        self.members.chunk_by(|a, b| a.0 == b.0).map(|members| (members[0].0, members))
    }
}

/// The leaks between splits: equal images with different labels first, then the most similar ones.
pub(super) fn find(
    context: &Context,
    assignment: &Assignment,
    splits: &[Split],
    made: &Written,
    sketches: &Sketches,
) -> Result<Vec<Leak>, StageError> {
    let groups = groups(assignment, splits, made);
    let used: BTreeSet<Split> =
        groups.iter().flat_map(|one| one.by_split().map(|(split, _)| split)).collect();
    if used.len() < 2 {
        return Ok(Vec::new());
    }
    let records = Records::open(&context.slot.join(RECORDS))?;
    let size = records.size() as u32;
    let sketch = |group: &Group| -> Result<Option<Sketch>, StageError> {
        if sketches.get(&group.image).is_none() {
            sketches.add(group.image, &records.record(group.record)?, size);
        }
        Ok(sketches.get(&group.image))
    };
    let sketched: Result<Vec<Option<Sketch>>, StageError> = groups.par_iter().map(sketch).collect();
    let thumbnail = |at: usize| Thumbnail::of_square(&records.record(groups[at].record)?, size);
    // A bit for each split: this is asked for millions of pairs.
    let bits =
        |group: &Group| group.by_split().fold(0u8, |bits, (split, _)| bits | 1 << split as u8);
    let used: Vec<u8> = groups.iter().map(bits).collect();
    let are_apart = |a: usize, b: usize| used[a] != used[b] || !used[a].is_power_of_two();
    let pairs = similarity::pairs(&sketched?, are_apart, thumbnail)?;
    let mut leaks: Vec<Leak> = groups.iter().flat_map(|group| between(group, group, 1.0)).collect();
    for pair in pairs {
        let (one, other) = (&groups[pair.first], &groups[pair.second]);
        // Only equal pixels have a similarity of 1.
        let similarity = pair.similarity.min(0.9999);
        leaks.extend(between(one, other, similarity));
        leaks.extend(between(other, one, similarity));
    }
    let order = |leak: &Leak| {
        let differ = assignment.items[leak.copy].class != assignment.items[leak.scored].class;
        (!(differ && leak.similarity == 1.0), -leak.similarity)
    };
    leaks.sort_by(|a, b| {
        let ((one, near), (other, far)) = (order(a), order(b));
        let positions = (a.copy, a.scored).cmp(&(b.copy, b.scored));
        one.cmp(&other).then(near.total_cmp(&far)).then(positions)
    });
    Ok(leaks)
}

fn groups(assignment: &Assignment, splits: &[Split], made: &Written) -> Vec<Group> {
    let mut groups: BTreeMap<Digest, Group> = BTreeMap::new();
    for (at, (item, &split)) in assignment.items.iter().zip(splits).enumerate() {
        let Some(record) = record_of(made, &item.image).filter(|_| split != Split::Unlabelled)
        else {
            continue;
        };
        let entry = &made.entries[record];
        let group = groups.entry(entry.record_digest).or_insert_with(|| Group {
            record: record as u32,
            image: entry.image_digest,
            members: Vec::new(),
        });
        group.members.push((split, at));
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.iter_mut().for_each(|group| group.members.sort_unstable());
    groups
}

/// The leaks from the images of one group to those of another in a later split: each image with the
/// first one on the other side.
fn between(copies: &Group, scored: &Group, similarity: f64) -> Vec<Leak> {
    let mut leaks = Vec::new();
    for (split, copies) in copies.by_split() {
        for (_, scored) in scored.by_split().filter(|(later, _)| *later > split) {
            let leak = |copy: usize, scored: usize| Leak { copy, scored, similarity };
            leaks.extend(copies.iter().map(|&(_, copy)| leak(copy, scored[0].1)));
            leaks.extend(scored.iter().skip(1).map(|&(_, scored)| leak(copies[0].1, scored)));
        }
    }
    leaks
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
                csv.write_field(not_a_formula(&assignment.class(at)).as_bytes())?;
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
        assignment.items[at].rejected(&assignment.classes, reason)
    }));
    not_used.sort();
    let mut position = 0..splits.len();
    assignment.items.retain(|_| position.next().is_none_or(|at| !dropped.contains_key(&at)));
    let mut position = 0..splits.len();
    splits.retain(|_| position.next().is_none_or(|at| !dropped.contains_key(&at)));
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
    let classes = |at: &mut dyn Iterator<Item = usize>| -> BTreeSet<String> {
        at.map(|at| assignment.class(at)).collect()
    };
    let before = classes(&mut of(Split::Train));
    let after = classes(&mut of(Split::Train).filter(left));
    let lost: Vec<&str> = before.difference(&after).map(String::as_str).collect();
    if lost.is_empty() {
        return Ok(());
    }
    refused(format!("no training image of {}", shortened_list(lost, SHOWN)))
}
