//! Which image is used, its class and its split. Decided before images are decoded, and again when
//! it is known which can be, and which have equal pixels.

use super::Only;
use crate::common::csv_text::not_a_formula;
use crate::common::number::counted;
use crate::common::words::{and_list, shortened_list};
use crate::data::decode::Notes;
use crate::data::images::{Image, ImageSet};
use crate::data::labels::Labels;
use crate::data::rejected::{Rejected, UNDECODABLE};
use crate::data::tensor_cache::Written;
use crate::data::{DataError, Sample, Split, split};
use crate::engine::{Context, OrFail, StageError};
use crate::events::EventSink;
use crate::stages::dataset::{Dataset, ReadTables};
use crate::store::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// Name of the list of equal images with different labels.
const CONFLICTS: &str = "conflicts.csv";
/// Largest number of names in a warning.
const SHOWN: usize = 5;

/// An image and what is known of it before it is decoded.
pub(super) struct Item {
    pub(super) image: Image,
    pub(super) class: Option<u32>,
    /// The split that the data set's author says.
    given: Option<Split>,
    group: Option<String>,
}

/// The images in the order of their paths.
pub(super) struct Assignment {
    pub(super) classes: Vec<String>,
    pub(super) items: Vec<Item>,
    only: Option<Only>,
}

impl Assignment {
    pub(super) fn new(
        set: &ImageSet,
        labels: &Labels,
        dataset: &Dataset,
        tables: &ReadTables,
        only: Option<Only>,
    ) -> Result<Assignment, StageError> {
        let (given, groups) = match only {
            Some(_) => (vec![None; set.list().len()], vec![None; set.list().len()]),
            None => (dataset.given_splits(set, labels, tables)?, dataset.groups(set, tables)?),
        };
        let rows = set.list().iter().zip(&labels.by_image).zip(given).zip(groups);
        let items = rows.map(|(((image, class), given), group)| Item {
            image: image.clone(),
            class: *class,
            given,
            group,
        });
        let assignment =
            Assignment { classes: labels.classes.clone(), items: items.collect(), only };
        let lacks = |item: &&Item| item.class.is_some() && item.given.is_none();
        if only.is_none()
            && dataset.split.is_given()
            && let Some(item) = assignment.items.iter().find(lacks)
        {
            let message = format!("nothing says the split of {}", item.image.path);
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
        let labelled = self.items.iter().filter(|item| item.class.is_some());
        let found: BTreeSet<_> =
            labelled.filter_map(|item| labels.layout.split(&item.image.path)).collect();
        (found.len() > 1).then(|| {
            let folders = and_list(labels.layout.splits.iter().map(String::as_str));
            format!(
                "the folders {folders} look like a split by the author of this data set, but their images are split anew: \
                 write split = {{ from = \"folder\" }} to keep it, or from = \"fractions\" if that is meant"
            )
        })
    }

    /// Leaves out what a quick try doesn't use. Returns which images are used.
    pub(super) fn choose(&mut self, dataset: &Dataset, not_used: &mut Vec<Rejected>) -> Vec<bool> {
        if !dataset.is_quick_try() {
            return vec![true; self.items.len()];
        }
        let of = |item: &Item| (item.image.digest, item.class, item.given);
        let images: Vec<_> = self.items.iter().map(of).collect();
        let chosen = split::chosen(&images, dataset.limit_per_class, dataset.fraction);
        let mut kept = chosen.iter();
        let classes = &self.classes;
        self.items.retain(|item| {
            let is_kept = kept.next().copied().unwrap_or(true);
            if !is_kept {
                not_used.push(item.rejected(classes, "left out for a quick try".to_owned()));
            }
            is_kept
        });
        chosen
    }

    /// Leaves out images that can't be decoded.
    pub(super) fn reject(&mut self, made: &Written, not_used: &mut Vec<Rejected>) {
        let reasons: BTreeMap<&Digest, &str> =
            made.rejected.iter().map(|(digest, reason)| (digest, reason.as_str())).collect();
        let classes = &self.classes;
        self.items.retain(|item| match reasons.get(&item.image.digest) {
            Some(reason) => {
                not_used.push(item.rejected(classes, format!("{UNDECODABLE}: {reason}")));
                false
            }
            None => true,
        });
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
        let pixels = |image: &Image| made.and_then(|made| record_digest(made, image));
        let labelled: Vec<split::Labelled> = self
            .items
            .iter()
            .filter_map(|item| {
                Some(split::Labelled {
                    digest: item.image.digest,
                    pixels: pixels(&item.image),
                    class: item.class?,
                    given: item.given,
                    group: item.group.clone(),
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

    /// The path of an image, by its position.
    pub(super) fn path(&self, at: usize) -> &str {
        &self.items[at].image.path
    }

    /// The name of its class; empty without one.
    pub(super) fn class(&self, at: usize) -> String {
        self.items[at].rejected(&self.classes, String::new()).class
    }

    /// The rows of `samples.tsv`.
    pub(super) fn samples(
        &self,
        splits: &[Split],
        made: &Written,
    ) -> Result<Vec<Sample>, StageError> {
        let sample = |(item, split): (&Item, &Split)| {
            let image = &item.image;
            let record = record_of(made, image)
                .ok_or_else(|| StageError::failed(format!("{} has no record", image.path)))?;
            Ok(Sample {
                path: image.path.clone(),
                image_digest: image.digest,
                record: record as u32,
                class: item.class,
                split: *split,
                note: Notes(made.entries[record].notes).words(),
            })
        };
        self.items.iter().zip(splits).map(sample).collect()
    }
}

impl Item {
    pub(super) fn rejected(&self, classes: &[String], reason: String) -> Rejected {
        let class = self.class.and_then(|class| classes.get(class as usize));
        Rejected {
            path: self.image.path.clone(),
            class: class.cloned().unwrap_or_default(),
            reason,
        }
    }
}

pub(super) fn record_of(made: &Written, image: &Image) -> Option<usize> {
    made.entries.binary_search_by(|entry| entry.image_digest.cmp(&image.digest)).ok()
}

fn record_digest(made: &Written, image: &Image) -> Option<Digest> {
    Some(made.entries.get(record_of(made, image)?)?.record_digest)
}

/// Writes [`CONFLICTS`], and warns of equal images with different labels.
pub(super) fn conflicts(
    context: &Context,
    assignment: &Assignment,
    splits: &[Split],
    made: &Written,
) -> Result<(), StageError> {
    let mut equal: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
    for (at, item) in assignment.items.iter().enumerate().filter(|(_, item)| item.class.is_some()) {
        if let Some(digest) = record_digest(made, &item.image) {
            equal.entry(digest).or_default().push(at);
        }
    }
    equal.retain(|_, members| members.len() > 1);
    let differ = |members: &[usize]| {
        members.iter().map(|&at| assignment.items[at].class).collect::<BTreeSet<_>>().len() > 1
    };
    let (path, class) = (|at: usize| assignment.path(at), |at: usize| assignment.class(at));
    let mut contrary: Vec<&Vec<usize>> = equal.values().filter(|members| differ(members)).collect();
    contrary.sort();
    write_conflicts(context, &contrary, |at| {
        [path(at).to_owned(), class(at), splits[at].to_string()]
    })?;
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

fn write_conflicts(
    context: &Context,
    groups: &[&Vec<usize>],
    row: impl Fn(usize) -> [String; 3],
) -> Result<(), StageError> {
    let path = context.slot.join(CONFLICTS);
    let written = || -> Result<(), csv::Error> {
        let mut csv = csv::Writer::from_path(&path)?;
        csv.write_record(["image", "path", "class", "split"])?;
        for (number, members) in groups.iter().enumerate() {
            for &at in *members {
                let [path, class, split] = row(at);
                let number = (number + 1).to_string();
                let fields =
                    [number.into(), not_a_formula(&path), not_a_formula(&class), split.into()];
                csv.write_record(fields.iter().map(|field| field.as_bytes()))?;
            }
        }
        Ok(csv.flush()?)
    };
    written().map_err(std::io::Error::from).or_fail(format_args!("writing {CONFLICTS}"))
}
