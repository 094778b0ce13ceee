//! The kind `explore`: statistics of a set of images before any processing.

use super::dataset::{self, Dataset, GivenDataset, LabelKeys, Tables};
use super::needs::{self, Contents};
use crate::common::number::{counted, thousands};
use crate::config::NoKeys;
use crate::data::explore::{self, Exploration, Explored, Remembered};
use crate::data::rejected::{self, Rejected, UNDECODABLE};
use crate::data::{images, tensor_cache};
use crate::engine::{Context, FactChange, Input, Kind, OrFail, Parts, Pin, Resolver, StageError};
use crate::events::{CancellationToken, FileChanges};
use crate::store::Store;
use serde::{Deserialize, Serialize};

/// The kind `explore`.
pub(super) struct Explore;

/// Name of the report file.
const FINDINGS: &str = "explore.json";
/// Name of the file with small images of the findings.
const THUMBNAILS: &str = "thumbnails.json";
/// The share of images that are many.
const MANY: f64 = 0.1;
/// Ratio of the largest to the smallest class from which a warning is given.
const UNEQUAL: f64 = 5.0;

static INPUTS: [Input; 2] = [
    Input {
        role: "images",
        kinds: &["fetch", "command"],
        required: true,
        parts: Parts::None,
        reads: &[images::LISTING, images::SKIPPED, "images/"],
        self_checked: &["images/"],
        doc: "The images.",
    },
    Input {
        role: "data",
        kinds: &["preprocess"],
        required: false,
        parts: Parts::None,
        reads: &[tensor_cache::INPUT],
        self_checked: &[],
        doc: "The same images preprocessed, for their `fit` and size: what is cut off is said of these, instead of the default.",
    },
];

/// Version of the code: raised whenever the same inputs give other bytes or other keys.
///
/// - 2: the number of images in `explore.json` is called `images`.
/// - 3: version 2 of the decoder: damaged images of which more than a tenth is missing are
///   unreadable; more kinds of files are decoded; more notes.
///   `rejected.csv`; files that aren't used and warnings in `explore.json`; the class of a nested
///   folder is its outermost.
/// - 4: duplicates by equal pixels; near duplicates, crops and unusual images; `thumbnails.json`;
///   colors of at most 1,000 images.
/// - 5: candidates for near duplicates by other bands of their hashes; colors of the images of the
///   first digests.
const VERSION: u32 = 5;

/// The resolved values of an `explore` stage.
#[derive(Serialize, Deserialize)]
pub(super) struct ExploreOptions {
    #[serde(default, skip_serializing_if = "Tables::is_empty")]
    tables: Tables,
    dataset: LabelKeys,
}

impl Kind for Explore {
    type Keys = NoKeys;
    type Dataset = Dataset;
    type Resolved = ExploreOptions;

    fn name(&self) -> &'static str {
        "explore"
    }

    fn about(&self) -> &'static str {
        "Summarizes images: class counts and imbalance, sizes, formats, unreadable files, duplicates, near duplicates, what a square cuts off, unusual images, mean colors."
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn inputs(&self) -> &'static [Input] {
        &INPUTS
    }

    fn resolve(
        &self,
        _keys: NoKeys,
        dataset: GivenDataset,
        resolver: &mut Resolver,
    ) -> Option<ExploreOptions> {
        needs::check(Contents::Images, "images", resolver);
        let (dataset, tables) = dataset::resolve(dataset, resolver);
        let tables = Tables { split: None, ..tables };
        resolver.is_clean().then_some(ExploreOptions { tables, dataset: dataset.into() })
    }

    fn pin(
        &self,
        options: &ExploreOptions,
        store: &Store,
        _cancel: &CancellationToken,
    ) -> Result<Pin, StageError> {
        options.tables.pin(store.memo())
    }

    fn changes(&self, options: &ExploreOptions, change: &FactChange) -> Option<FileChanges> {
        options.tables.changes(&options.dataset.labels, change)
    }

    fn run(&self, options: &ExploreOptions, context: &Context) -> Result<(), StageError> {
        let input = context.input("images")?;
        let images = images::open(&input.path, input.folder.as_deref())?;
        let keys = &options.dataset;
        let table = keys.table(&options.tables, &input.path)?;
        let labels = keys.label(&images, table.as_ref())?;
        let task = context.events.task("look", Some(images.list().len() as u64), "images");
        let geometry = match context.optional_input("data") {
            Some(data) => Some(tensor_cache::input_info(&data.path)?.preprocessing.geometry()),
            None => None,
        };
        let geometry = geometry.as_ref();
        let set = input.folder.as_ref().map(|folder| folder.display().to_string());
        let remembered = Remembered::of(&context.memo, &set.unwrap_or_default());
        let Explored { findings: mut found, undecodable, looked_at } = explore::explore(
            &images,
            &labels,
            geometry,
            Some(&remembered),
            &task,
            &context.cancel,
        )?;
        drop(task);
        context.events.count("examined", looked_at);
        let mut not_used = keys.not_used(&images, &labels, &options.tables, None);
        found.add_not_used(&not_used, labels.warnings.clone());
        not_used.extend(undecodable.into_iter().map(|(image, reason)| {
            let class = labels.by_image.get(image).copied().flatten();
            let class = class.and_then(|class| labels.classes.get(class as usize));
            Rejected {
                path: images.list()[image].path.clone(),
                class: class.cloned().unwrap_or_default(),
                reason: format!("{UNDECODABLE}: {reason}"),
            }
        }));
        not_used.sort();
        rejected::write(&context.slot, &not_used)?;
        write(context, FINDINGS, &found)?;
        write(context, THUMBNAILS, &explore::gallery(&images, &found)?)?;
        report(context, &found);
        Ok(())
    }
}

fn write(context: &Context, name: &str, content: &impl Serialize) -> Result<(), StageError> {
    let mut text = serde_json::to_vec_pretty(content)
        .map_err(std::io::Error::other)
        .or_fail(format_args!("writing {name}"))?;
    text.push(b'\n');
    std::fs::write(context.slot.join(name), text).or_fail(format_args!("writing {name}"))
}

/// Reports what is noteworthy.
fn report(context: &Context, found: &Exploration) {
    warnings(found).into_iter().for_each(|warning| context.events.warn(warning));
    notes(found).into_iter().for_each(|note| context.events.info(note));
    let rejected = match found.rejected.count {
        0 => String::new(),
        count => format!(", {} can't be read", thousands(count)),
    };
    let others: u64 = found.not_used.iter().map(|one| one.count).sum();
    let others = match others {
        0 => String::new(),
        count => format!("; {} not used, see rejected.csv", counted(count, "other file")),
    };
    let classes = counted(found.classes.len() as u64, "class");
    context
        .events
        .info(format!("{} of {classes}{rejected}{others}", counted(found.images, "image")));
}

/// Findings that make scores wrong or need a decision.
fn warnings(found: &Exploration) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(first) = found.duplicates.conflicts.first() {
        let named: Vec<String> =
            first.iter().take(2).map(|[path, class]| format!("{path} ({class})")).collect();
        warnings.push(format!(
            "{} with the pixels of another but a different label, such as {}",
            counted(found.duplicates.contradictory, "image"),
            named.join(" and ")
        ));
    }
    let near = &found.near_duplicates;
    if let Some(first) = near.examples.first().filter(|_| near.across_splits > 0) {
        let across = near.examples.iter().find(|one| one.across_splits).unwrap_or(first);
        warnings.push(format!(
            "{} of near duplicates across the author's split, such as {}: scores are too good",
            counted(near.across_splits, "pair"),
            across.paths.join(" and ")
        ));
    }
    let crop = &found.cropped;
    if crop.over_a_quarter as f64 > MANY * (found.images - found.rejected.count) as f64 {
        let verb = if crop.is_chosen { "cuts" } else { "of `preprocess`, the default, cuts" };
        warnings.push(format!(
            "`fit = \"crop\"` {verb} off more than a quarter of {}: `fit = \"pad\"` or `\"stretch\"` shows all of an image",
            counted(crop.over_a_quarter, "image")
        ));
    }
    if let Some(imbalance) = found.imbalance.filter(|imbalance| *imbalance >= UNEQUAL) {
        warnings.push(format!(
            "the largest class has {imbalance:.1} times as many images as the smallest: compare the recall of classes, not only accuracy"
        ));
    }
    warnings
}

/// Other findings.
fn notes(found: &Exploration) -> Vec<String> {
    let mut notes = Vec::new();
    if found.duplicates.count > 0 {
        notes.push(format!(
            "{} with the pixels of another",
            counted(found.duplicates.count, "image")
        ));
    }
    let near = &found.near_duplicates;
    if near.pairs > 0 {
        let contradictory = match near.contradictory {
            0 => String::new(),
            count => format!(", {} with different labels", thousands(count)),
        };
        notes.push(format!(
            "{} of images that differ only by size or compression{contradictory}",
            counted(near.pairs, "pair")
        ));
    }
    if let Some(first) = found.unusual.first() {
        notes.push(format!(
            "{}, such as {}",
            counted(found.unusual.len() as u64, "unusual image"),
            first.path
        ));
    }
    notes
}
