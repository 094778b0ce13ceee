//! The keys of `[dataset]`, declared once for the kinds that read them, and rules across them.

use crate::config::{GivenTable, Key, KeyType, keys};
use crate::data::labels::{self, LabelFrom};
use crate::data::split;
use crate::engine::Resolver;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

keys! {
    /// `[dataset]`.
    pub struct Dataset / GivenDataset {
        /// Where labels come from.
        labels: labels::Rule = {};
        /// Names of the classes, if they are written as something else: `{ 0 = "shirt" }`. Two
        /// classes of the same name become one.
        class_names: BTreeMap<String, String> = {};
        /// Folders whose images have no labels: they are predicted, never trained on or scored.
        unlabelled: Vec<String> = [];
        /// How the labelled images are split. The fractions sum to 1.
        split: split::Rule = {};
    }
}

/// The part of [`Dataset`] that says what the class of an image is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Labelling {
    /// Where labels come from.
    pub labels: labels::Rule,
    /// Names of the classes.
    pub class_names: BTreeMap<String, String>,
    /// Folders without labels.
    pub unlabelled: Vec<String>,
}

impl From<Dataset> for Labelling {
    fn from(dataset: Dataset) -> Labelling {
        let Dataset { labels, class_names, unlabelled, .. } = dataset;
        Labelling { labels, class_names, unlabelled }
    }
}

/// Checks rules across keys and computes the fractions of the split.
pub fn resolve(mut given: GivenDataset, resolver: &mut Resolver) -> Dataset {
    check_labels(&given.labels, resolver);
    compute_split(&mut given.split, resolver);
    Dataset::resolved(given)
}

fn check_labels(labels: &labels::GivenRule, resolver: &mut Resolver) {
    match (*labels.from, &labels.pattern) {
        (LabelFrom::FileName, None) => resolver.report(
            labels
                .error("labels from file names need a pattern")
                .label("`pattern` is missing")
                .help("such as pattern = '^(?<index>\\d+)_(?<class>\\d+)$'".to_owned()),
        ),
        (LabelFrom::Folder, Some(pattern)) => resolver.report(
            pattern
                .error("a pattern is for labels from file names")
                .label("labels come from folders here")
                .help("write from = \"file_name\", or leave the pattern out".to_owned()),
        ),
        (LabelFrom::FileName, Some(pattern)) => {
            if let Err(message) = labels::compile(pattern) {
                let help = "such as '^(?<index>\\d+)_(?<class>\\d+)$'; in single quotes, backslashes are literal";
                resolver.report(
                    pattern
                        .error(message)
                        .label("expected a pattern with (?<class>…)")
                        .help(help.to_owned()),
                );
            }
        }
        (LabelFrom::Folder, None) => {}
    }
}

fn compute_split(split: &mut split::GivenRule, resolver: &mut Resolver) {
    let fractions = [&mut split.train, &mut split.validation, &mut split.test];
    let is_given = fractions.iter().any(|fraction| fraction.is_some());
    let defaults = if is_given { [0.0; 3] } else { [0.8, 0.1, 0.1] };
    for (fraction, default) in fractions.into_iter().zip(defaults) {
        fraction.get_or_insert(Key::computed(default));
    }
    if let Err(message) = split::check(&split::Rule::resolved(split.clone())) {
        let help = "such as split = { train = 0.8, validation = 0.1, test = 0.1 }; a fraction that isn't given is 0";
        resolver.report(
            split.error(message).label("expected fractions that sum to 1").help(help.to_owned()),
        );
    }
}
