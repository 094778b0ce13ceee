//! What the record of a run says of its model: data, weights, licences, metrics.

use crate::engine::SourceLock;
use crate::model::{ClassCount, DataSource, EXPORT_FORMAT, Exported, Model, Scores};
use crate::runs::{Record, Results, StageRecord};
use crate::stages;
use crate::store::Store;
use std::collections::BTreeMap;
use std::path::Path;

/// The label of images without one.
const UNLABELLED: &str = "unlabelled";

/// A train stage of a run.
pub(super) struct Facts<'a> {
    record: &'a Record,
    results: Results<'a>,
    stage: &'a StageRecord,
    lock: SourceLock,
}

impl<'a> Facts<'a> {
    pub(super) fn of(store: &'a Store, record: &'a Record, stage: &'a StageRecord) -> Facts<'a> {
        let results = Results::of(record).with_store(store);
        let lock = results.pins().and_then(|text| SourceLock::parse(&text).ok());
        Facts { record, results, stage, lock: lock.unwrap_or_default() }
    }

    /// The description of an export, without its files and their checks.
    pub(super) fn exported(&self, model: &Model) -> Exported {
        let info = model.info();
        let fed = |stage: &StageRecord, role: &str| {
            stage.needs.get(role).and_then(|name| self.record.stage(name))
        };
        let data = fed(self.stage, "data");
        let images = data.and_then(|data| self.results.samples(&data.stage));
        Exported {
            format: EXPORT_FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: String::new(),
            pipeline: self.record.pipeline.clone(),
            run: self.record.id.to_string(),
            stage: self.stage.stage.clone(),
            artifact: self.stage.digest.clone().unwrap_or_default(),
            backbone: info.backbone.clone(),
            head: info.head.clone(),
            parameters: model.network().graph().parameter_count(),
            classes: info.classes.clone(),
            preprocessing: info.preprocessing.clone(),
            onnx_input: None,
            not_for_timm: None,
            weights: fed(self.stage, "weights").and_then(|stage| self.source(stage)),
            data: data.and_then(|data| self.source(fed(data, "images")?)),
            images: counts(
                &info.classes,
                images.iter().flatten().map(|row| (row.label.as_str(), row.split.as_str())),
            ),
            files: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// The source of a stage that fetches; another one is named.
    fn source(&self, stage: &StageRecord) -> Option<DataSource> {
        let Some(source) = stage.parameters.get("source").and_then(|source| source.as_str()) else {
            let source = format!("stage {} of run {}", stage.stage, self.record.id);
            return Some(DataSource { source, version: None, licence: None });
        };
        let names = stages::locked_names(source);
        let pin = names.iter().find_map(|name| self.lock.get(name));
        let version = pin.map(|pin| match (&pin.commit, pin.version, &pin.sha256) {
            (None, None, Some(sha256)) => format!("SHA-256 {sha256}"),
            _ => pin.to_string(),
        });
        Some(DataSource {
            source: names.first().cloned().unwrap_or_else(|| public(source)),
            version,
            licence: pin.and_then(|pin| pin.licence.clone()),
        })
    }
}

/// A source without the folders of this machine: `path:photos`.
fn public(source: &str) -> String {
    match source.strip_prefix("path:") {
        Some(path) => match Path::new(path).file_name() {
            Some(name) => format!("path:{}", name.to_string_lossy()),
            None => "a local folder".to_owned(),
        },
        None => source.to_owned(),
    }
}

/// The number of images of each class by split, given as (label, split) of each, in the order of
/// `classes`; other labels last.
fn counts<'a>(
    classes: &[String],
    images: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<ClassCount> {
    let mut found: BTreeMap<&str, ClassCount> = BTreeMap::new();
    for (label, split) in images {
        let count = found.entry(label).or_insert_with(|| ClassCount {
            class: label.to_owned(),
            train: 0,
            validation: 0,
            test: 0,
            unlabelled: 0,
        });
        match split {
            "train" => count.train += 1,
            "validation" => count.validation += 1,
            "test" => count.test += 1,
            _ => count.unlabelled += 1,
        }
    }
    let mut ordered: Vec<ClassCount> =
        classes.iter().filter_map(|class| found.remove(class.as_str())).collect();
    let unlabelled = found.remove(UNLABELLED);
    ordered.extend(found.into_values().chain(unlabelled));
    ordered
}

/// The evaluations of a train stage's model.
pub(super) fn scores(store: &Store, record: &Record, stage: &StageRecord) -> Vec<Scores> {
    let evaluations = Results::of(record).with_store(store).evaluations().into_iter();
    evaluations
        .filter(|(by, _)| by.needs.get("model") == Some(&stage.stage))
        .map(|(by, evaluation)| Scores { stage: by.stage.clone(), evaluation })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_this_machine_are_not_named() {
        assert_eq!(public("path:/home/me/photos"), "path:photos");
        assert_eq!(public("path:.."), "a local folder");
        assert_eq!(public("synthetic:garments"), "synthetic:garments");
    }

    #[test]
    fn classes_are_counted_in_their_order() {
        let classes = ["dog", "cat"].map(str::to_owned);
        let images = [
            ("cat", "test"),
            ("unlabelled", "unlabelled"),
            ("dog", "train"),
            ("cat", "test"),
            ("ape", "validation"),
        ];
        let counted = counts(&classes, images.into_iter());
        let rows = counted
            .iter()
            .map(|one| (one.class.as_str(), [one.train, one.validation, one.test, one.unlabelled]));
        let expected = [
            ("dog", [1, 0, 0, 0]),
            ("cat", [0, 0, 2, 0]),
            ("ape", [0, 1, 0, 0]),
            ("unlabelled", [0, 0, 0, 1]),
        ];
        assert_eq!(rows.collect::<Vec<_>>(), expected);
    }
}
