//! The messages of a `preprocess` stage: images that can't be used, images about which
//! something is unusual, and the sizes of the splits.

use super::SHOWN;
use super::assign::Assignment;
use super::leaks::LEAKS;
use crate::common::number::{counted, thousands};
use crate::data::decode::{Note, Notes};
use crate::data::rejected::{self, Rejected, UNDECODABLE};
use crate::data::tensor_cache::Written;
use crate::data::{Geometry, Split};
use crate::engine::{Context, StageError};

/// The share of an image that is much to lose.
const MUCH_LOST: f64 = 0.25;
/// The share of images that are many.
const MANY: f64 = 0.1;

/// Fails if too many of the `images` can't be used, and warns of those that can't be decoded.
pub(super) fn check_rejected(
    context: &Context,
    images: usize,
    not_used: &mut [Rejected],
    most: f64,
) -> Result<(), StageError> {
    not_used.sort();
    let counted_ones: Vec<&Rejected> = not_used.iter().filter(|one| one.is_counted()).collect();
    let (undecodable, elsewhere): (Vec<&Rejected>, Vec<&Rejected>) =
        counted_ones.iter().partition(|one| one.kind() == UNDECODABLE);
    let all = images + elsewhere.len();
    let count = counted_ones.len();
    if count as f64 > most * all as f64 {
        let shown = counted_ones.iter().take(SHOWN);
        let shown: Vec<String> =
            shown.map(|one| format!("  {}: {}", one.path, one.reason)).collect();
        let message =
            format!("{count} of {all} images can't be used, for example:\n{}", shown.join("\n"));
        let help =
            format!("remove them, or allow more than {} % with `max_rejected`", most * 100.0);
        return Err(StageError::failed(message).with_help(help));
    }
    if let [first, ..] = undecodable.as_slice() {
        let (count, all) = (thousands(undecodable.len() as u64), counted(images as u64, "image"));
        context
            .events
            .warn(format!("skipped {count} of {all}, such as {}: {}", first.path, first.reason));
    }
    Ok(())
}

/// Reports the result. `leaking` images are used although they are copies of others.
pub(super) fn report(
    context: &Context,
    splits: &[Split],
    made: &Written,
    not_used: &[Rejected],
    leaking: u64,
) {
    let count = |split| thousands(splits.iter().filter(|one| **one == split).count() as u64);
    let [train, validation, test, unlabelled] =
        [Split::Train, Split::Validation, Split::Test, Split::Unlabelled].map(count);
    let rest = if unlabelled == "0" { String::new() } else { format!(", {unlabelled} unlabelled") };
    let unused = match rejected::summary(not_used) {
        empty if empty.is_empty() => empty,
        unused => format!("; {unused}, see rejected.csv"),
    };
    let copied = copied(made);
    let leaks = match leaking {
        0 => String::new(),
        1 => format!("; a copy in another split, see {LEAKS}"),
        count => format!("; {} copies in other splits, see {LEAKS}", thousands(count)),
    };
    context.events.info(format!(
        "{train} to train, {validation} to validate, {test} to test{rest}{copied}{leaks}{unused}"
    ));
}

/// How many images were decoded, where others were copied from an earlier tensor cache.
fn copied(made: &Written) -> String {
    match made.reused {
        0 => String::new(),
        copied => format!(
            "; {} decoded, {} from an earlier tensor cache",
            counted(made.decoded(), "image"),
            thousands(copied)
        ),
    }
}

/// Warns where the stored squares show less than three quarters of many images.
pub(super) fn warn_of_crops(context: &Context, geometry: &Geometry, made: &Written) {
    let lost = made.entries.iter().map(|entry| geometry.lost(entry.width, entry.height));
    let many = lost.filter(|lost| *lost > MUCH_LOST).count();
    if many as f64 > MANY * made.entries.len() as f64 {
        context.events.warn(format!(
            "`fit = \"crop\"` cuts off more than a quarter of {} of {}: `fit = \"pad\"` or `\"stretch\"` shows all of an image",
            thousands(many as u64),
            counted(made.entries.len() as u64, "image")
        ));
    }
}

/// Names images that are used although something about them is unusual.
pub(super) fn warn_of_notes(context: &Context, assignment: &Assignment, made: &Written) {
    let notes = |at: usize| Notes(made.entries[assignment.record(at) as usize].notes);
    type Rule = (fn(Notes) -> bool, &'static str, &'static str);
    let rules: [Rule; 4] = [
        (|notes| notes.has(Note::Damaged), "damaged; what can be decoded is used", ""),
        (
            |notes| notes.has(Note::Lenient) && !notes.has(Note::Damaged),
            "against the rules of its format and may be damaged",
            "",
        ),
        (
            |notes| notes.has(Note::Blank),
            "transparent and has only one color on the background",
            "; `background = \"none\"` shows the colors without transparency",
        ),
        (
            |notes| notes.has(Note::Narrow),
            "of 16 bits per channel but uses only a small part of their range, so that little is to be seen of it",
            "; rescale its values to 0..65535",
        ),
    ];
    for (applies, what, help) in rules {
        let named: Vec<usize> = (0..assignment.len()).filter(|&at| applies(notes(at))).collect();
        if named.is_empty() {
            continue;
        }
        let shown = named.iter().take(SHOWN).map(|&at| {
            let percent = notes(at).missing_percent();
            match percent {
                0 => assignment.path(at).to_owned(),
                _ => format!("{} ({percent} % missing)", assignment.path(at)),
            }
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        let more = match named.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {} more", thousands(more as u64)),
        };
        let count = counted(named.len() as u64, "image");
        context.events.warn(format!("{count}: {what}: {shown}{more}{help}"));
    }
}
