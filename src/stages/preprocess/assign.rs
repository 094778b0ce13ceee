//! Which image is used, its class and its split. Decided before images are decoded, and again when
//! it is known which can be, and which have equal pixels.

use super::Only;
use super::equal::Equal;
use crate::common::csv_text::not_a_formula;
use crate::common::number::counted;
use crate::common::words::{and_list, shortened_list};
use crate::data::decode::Notes;
use crate::data::images::{Image, ImageSet};
use crate::data::labels::Labels;
use crate::data::rejected::{Rejected, UNDECODABLE};
use crate::data::tensor_cache::{Entry, Written};
use crate::data::{DataError, Sample, Split, split};
use crate::engine::{Context, OrFail, StageError};
use crate::events::EventSink;
use crate::stages::dataset::{Dataset, ReadTables};
use crate::store::Digest;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Name of the list of equal images with different labels.
const CONFLICTS: &str = "conflicts.csv";
/// Largest number of names in a warning.
const SHOWN: usize = 5;

/// An image, beside its path and digest: there may be a million.
struct Item {
    class: Option<u32>,
    /// The split that the data set's author says.
    given: Option<Split>,
    /// Its position in the list of groups.
    group: Option<u32>,
    /// Known once it is decoded.
    record: Option<u32>,
}

/// The images in the order of their paths.
pub(super) struct Assignment {
    pub(super) set: ImageSet,
    pub(super) classes: Vec<String>,
    /// One for each image of the set.
    items: Vec<Item>,
    groups: Vec<String>,
    only: Option<Only>,
}

impl Assignment {
    pub(super) fn new(
        set: ImageSet,
        labels: &Labels,
        dataset: &Dataset,
        tables: &ReadTables,
        only: Option<Only>,
    ) -> Result<Assignment, StageError> {
        let (given, groups) = match only {
            Some(_) => (vec![None; set.list().len()], vec![None; set.list().len()]),
            None => (dataset.given_splits(&set, labels, tables)?, dataset.groups(&set, tables)?),
        };
        let (group_of, groups) = numbered(groups);
        let rows = labels.by_image.iter().zip(given).zip(group_of);
        let items = rows
            .map(|((class, given), group)| Item { class: *class, given, group, record: None })
            .collect();
        let assignment = Assignment { set, classes: labels.classes.clone(), items, groups, only };
        let lacks = |item: &Item| item.class.is_some() && item.given.is_none();
        if only.is_none()
            && dataset.split.is_given()
            && let Some(at) = assignment.items.iter().position(lacks)
        {
            let message = format!("nothing says the split of {}", assignment.path(at));
            let help = "add it to the table, or list its folder in [dataset] unlabelled";
            return Err(StageError::failed(message).with_help(help));
        }
        Ok(assignment)
    }

    /// A warning where folders of an author's split are there and the pipeline file doesn't say
    /// what they are.
    pub(super) fn ignored_split(&self, labels: &Labels, dataset: &Dataset) -> Option<String> {
        if dataset.split.from.is_some() || self.only.is_some() {
            return None;
        }
        let labelled = (0..self.items.len()).filter(|&at| self.is_labelled(at));
        let found: BTreeSet<_> =
            labelled.filter_map(|at| labels.layout.split(self.path(at))).collect();
        (found.len() > 1).then(|| {
            let folders = and_list(labels.layout.splits.iter().map(String::as_str));
            format!(
                "the folders {folders} look like a split by the author of this data set, but their images are split anew: \
                 write split = {{ from = \"folder\" }} to keep it, or from = \"fractions\" if that is meant"
            )
        })
    }

    /// Leaves out what a quick try doesn't use.
    pub(super) fn choose(&mut self, dataset: &Dataset, not_used: &mut Vec<Rejected>) {
        if !dataset.is_quick_try() {
            return;
        }
        let of = |(image, item): (&Image, &Item)| (image.digest, item.class, item.given);
        let images: Vec<_> = self.set.list().iter().zip(&self.items).map(of).collect();
        let chosen = split::chosen(&images, dataset.limit_per_class, dataset.fraction);
        let left_out = (0..chosen.len()).filter(|&at| !chosen[at]);
        not_used
            .extend(left_out.map(|at| self.rejected(at, "left out for a quick try".to_owned())));
        self.keep(&chosen);
    }

    /// Leaves out the images at which `kept` is false.
    pub(super) fn keep(&mut self, kept: &[bool]) {
        self.set.retain(kept);
        let mut kept = kept.iter();
        self.items.retain(|_| kept.next().is_some_and(|kept| *kept));
    }

    /// Finds the record of each image, and leaves out those that can't be decoded.
    pub(super) fn decoded(
        &mut self,
        made: &Written,
        not_used: &mut Vec<Rejected>,
    ) -> Result<(), StageError> {
        let reasons: BTreeMap<&Digest, &str> =
            made.rejected.iter().map(|(digest, reason)| (digest, reason.as_str())).collect();
        for (item, image) in self.items.iter_mut().zip(self.set.list()) {
            let find = |entry: &Entry| entry.image_digest.cmp(&image.digest);
            item.record = made.entries.binary_search_by(find).ok().map(|at| at as u32);
        }
        let is_kept: Vec<bool> = self.items.iter().map(|item| item.record.is_some()).collect();
        for at in (0..is_kept.len()).filter(|&at| !is_kept[at]) {
            let reason = reasons
                .get(&self.set.list()[at].digest)
                .ok_or_else(|| StageError::failed(format!("{} has no record", self.path(at))))?;
            not_used.push(self.rejected(at, format!("{UNDECODABLE}: {reason}")));
        }
        self.keep(&is_kept);
        Ok(())
    }

    /// Removes classes of which no image can be decoded, and names them in a warning.
    pub(super) fn drop_empty_classes(&mut self, events: &EventSink) {
        let used: BTreeSet<u32> = self.items.iter().filter_map(|item| item.class).collect();
        if used.len() == self.classes.len() {
            return;
        }
        let position = |class: u32| used.range(..class).count() as u32;
        self.items.iter_mut().for_each(|item| item.class = item.class.map(position));
        let (kept, dropped): (Vec<_>, Vec<_>) = self
            .classes
            .drain(..)
            .enumerate()
            .partition(|(class, _)| used.contains(&(*class as u32)));
        self.classes = kept.into_iter().map(|(_, name)| name).collect();
        let dropped = shortened_list(dropped.iter().map(|(_, name)| name.as_str()), SHOWN);
        events.warn(format!("no image of {dropped} can be decoded, so this isn't a class"));
    }

    /// The split of each image. Images with equal records are kept together where these are known.
    pub(super) fn splits(
        &self,
        rule: &split::Rule,
        made: Option<&Written>,
    ) -> Result<Vec<Split>, DataError> {
        let pixels = |item: &Item| Some(&made?.entries[item.record? as usize].record_digest);
        let labelled: Vec<split::Labelled> = self
            .items
            .iter()
            .zip(self.set.list())
            .filter_map(|(item, image)| {
                Some(split::Labelled {
                    digest: image.digest,
                    pixels: pixels(item),
                    class: item.class?,
                    given: item.given,
                    group: item.group.map(|group| self.groups[group as usize].as_str()),
                })
            })
            .collect();
        let splits = match self.only {
            Some(_) => vec![Split::Test; labelled.len()],
            None => split::split(&labelled, &self.classes, rule)?,
        };
        let mut splits = splits.into_iter();
        let one = |item: &Item| item.class.and_then(|_| splits.next()).unwrap_or(Split::Unlabelled);
        Ok(self.items.iter().map(one).collect())
    }

    /// The number of images.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The path of an image, by its position.
    pub(super) fn path(&self, at: usize) -> &str {
        &self.set.list()[at].path
    }

    /// The number of its class.
    pub(super) fn class_number(&self, at: usize) -> Option<u32> {
        self.items[at].class
    }

    pub(super) fn is_labelled(&self, at: usize) -> bool {
        self.items[at].class.is_some()
    }

    /// The name of its class; empty without one.
    pub(super) fn class(&self, at: usize) -> &str {
        let class = self.items[at].class.and_then(|class| self.classes.get(class as usize));
        class.map_or("", String::as_str)
    }

    /// Its record. Every image has one when they are decoded.
    pub(super) fn record(&self, at: usize) -> u32 {
        self.items[at].record.expect("an image without a record is left out")
    }

    pub(super) fn rejected(&self, at: usize, reason: String) -> Rejected {
        Rejected { path: self.path(at).to_owned(), class: self.class(at).to_owned(), reason }
    }

    /// The rows of `samples.tsv`.
    pub(super) fn samples(
        &self,
        splits: &[Split],
        made: &Written,
    ) -> impl ExactSizeIterator<Item = Sample> {
        let sample = move |(at, split): (usize, &Split)| {
            let (image, record) = (&self.set.list()[at], self.record(at));
            Sample {
                path: image.path.clone(),
                image_digest: image.digest,
                record,
                class: self.class_number(at),
                split: *split,
                note: Notes(made.entries[record as usize].notes).words(),
            }
        };
        splits.iter().enumerate().map(sample)
    }
}

/// The different groups, and the position of each image's in them.
fn numbered(groups: Vec<Option<String>>) -> (Vec<Option<u32>>, Vec<String>) {
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut number = |group: String| {
        let next = numbers.len() as u32;
        *numbers.entry(group).or_insert(next)
    };
    let of_images = groups.into_iter().map(|group| group.map(&mut number)).collect();
    let mut names: Vec<(u32, String)> =
        numbers.into_iter().map(|(name, number)| (number, name)).collect();
    names.sort_unstable();
    (of_images, names.into_iter().map(|(_, name)| name).collect())
}

/// Writes [`CONFLICTS`], and warns of equal images with different labels.
pub(super) fn conflicts(
    context: &Context,
    assignment: &Assignment,
    splits: &[Split],
    equal: &Equal,
) -> Result<(), StageError> {
    let class_of = |at: &usize| assignment.class_number(*at);
    let differ =
        |members: &Vec<usize>| members.iter().any(|at| class_of(at) != class_of(&members[0]));
    let several = equal.groups().filter(|members| members.len() > 1);
    let positions = several.map(|members| members.iter().map(|one| one.position()).collect());
    let mut contrary: Vec<Vec<usize>> = positions.filter(differ).collect();
    contrary.sort();
    let (path, class) = (|at: usize| assignment.path(at), |at: usize| assignment.class(at));
    write_conflicts(context, &contrary, |at| [path(at), class(at), splits[at].name()])?;
    if let Some(first) = contrary.first() {
        let count: usize = contrary.iter().map(|members| members.len()).sum();
        let named = first.iter().map(|&at| format!("{} ({})", path(at), class(at)));
        let named = named.take(SHOWN).collect::<Vec<_>>().join(", ");
        context.events.warn(format!(
            "{} equal others with a different label, such as {named}: see {CONFLICTS}",
            counted(count as u64, "image")
        ));
    }
    Ok(())
}

fn write_conflicts<'a>(
    context: &Context,
    groups: &[Vec<usize>],
    row: impl Fn(usize) -> [&'a str; 3],
) -> Result<(), StageError> {
    let path = context.slot.join(CONFLICTS);
    let written = || -> Result<(), csv::Error> {
        let mut csv = csv::Writer::from_path(&path)?;
        csv.write_record(["image", "path", "class", "split"])?;
        for (number, members) in groups.iter().enumerate() {
            for &at in members {
                let [path, class, split] = row(at);
                let number = (number + 1).to_string();
                let fields =
                    [number.into(), not_a_formula(path), not_a_formula(class), split.into()];
                csv.write_record(fields.iter().map(|field| field.as_bytes()))?;
            }
        }
        Ok(csv.flush()?)
    };
    written().map_err(std::io::Error::from).or_fail(format_args!("writing {CONFLICTS}"))
}
