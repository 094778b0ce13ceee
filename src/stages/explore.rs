//! The kind `explore`: statistics of a set of images before any processing.

use super::dataset::{self, Dataset, GivenDataset, Labelling};
use super::fetch::{self, Contents};
use crate::common::number::{counted, thousands};
use crate::config::NoKeys;
use crate::data::{explore, images, labels};
use crate::engine::{Context, Input, Kind, OrFail, Resolver, StageError};
use serde::{Deserialize, Serialize};

/// The kind `explore`.
pub(super) struct Explore;

/// Name of the report file.
const FINDINGS: &str = "explore.json";
/// Ratio of the largest to the smallest class from which a warning is given.
const UNEQUAL: f64 = 5.0;

static INPUTS: [Input; 1] = [Input {
    role: "images",
    kinds: &["fetch"],
    required: true,
    reads: &[images::LISTING, "images/"],
    doc: "The images.",
}];

/// Version of the code: raised whenever the same inputs give other bytes or other keys.
///
/// - 2: the number of images in `explore.json` is called `images`.
/// - 3: version 2 of the decoder: damaged images of which more than a tenth is missing are
///   unreadable; more kinds of files are decoded; more notes.
const VERSION: u32 = 3;

/// The resolved values of an `explore` stage.
#[derive(Serialize, Deserialize)]
pub(super) struct ExploreOptions {
    dataset: Labelling,
}

impl Kind for Explore {
    type Keys = NoKeys;
    type Dataset = Dataset;
    type Resolved = ExploreOptions;

    fn name(&self) -> &'static str {
        "explore"
    }

    fn about(&self) -> &'static str {
        "Summarizes images: class counts and imbalance, sizes, formats, unreadable files, duplicates, mean colors."
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
        fetch::check_contents(Contents::Images, "images", resolver);
        let dataset = dataset::resolve(dataset, resolver).into();
        resolver.is_clean().then_some(ExploreOptions { dataset })
    }

    fn run(&self, options: &ExploreOptions, context: &Context) -> Result<(), StageError> {
        let labelling = &options.dataset;
        let images = context.input("images")?;
        let images = images::open(&images.path, images.folder.as_deref())?;
        let labels = labels::label(
            images.list(),
            &labelling.labels,
            &labelling.unlabelled,
            &labelling.class_names,
        )?;
        let task = context.events.task("look", Some(images.list().len() as u64), "images");
        let found = explore::explore(&images, &labels, &task, &context.cancel)?;
        drop(task);
        let mut text = serde_json::to_vec_pretty(&found)
            .map_err(std::io::Error::other)
            .or_fail("writing explore.json")?;
        text.push(b'\n');
        std::fs::write(context.slot.join(FINDINGS), text).or_fail("writing explore.json")?;
        report(context, &found);
        Ok(())
    }
}

/// Reports what is noteworthy.
fn report(context: &Context, found: &explore::Exploration) {
    if let Some(imbalance) = found.imbalance.filter(|imbalance| *imbalance >= UNEQUAL) {
        context.events.warn(format!(
            "the largest class has {imbalance:.1} times as many images as the smallest: compare the recall of classes, not only accuracy"
        ));
    }
    if found.duplicates.count > 0 {
        let contradictory = match found.duplicates.contradictory {
            0 => String::new(),
            count => format!(", {} of them with a different label", thousands(count)),
        };
        context.events.info(format!(
            "{} duplicate another{contradictory}",
            counted(found.duplicates.count, "image")
        ));
    }
    let rejected = match found.rejected.count {
        0 => String::new(),
        count => format!(", {} can't be read", thousands(count)),
    };
    let classes = counted(found.classes.len() as u64, "class");
    context.events.info(format!("{} of {classes}{rejected}", counted(found.images, "image")));
}
