//! Compares the data of two runs by the names of images: those added and removed, with another
//! content, another label or in another split.

use super::super::{Results, SampleRow, StageRecord};
use serde::Serialize;
use std::collections::BTreeMap;

/// The samples of one preprocessing stage in both runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DataDiff {
    /// The stage in the second run.
    pub stage: String,
    /// Images of the second run alone, by path.
    pub added: Vec<String>,
    /// Images of the first run alone.
    pub removed: Vec<String>,
    /// Images of the same path and another content.
    pub replaced: Vec<String>,
    pub relabelled: Vec<Moved>,
    pub moved: Vec<Moved>,
}

/// An image with another label or split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    pub path: String,
    /// The label or split in each run; no label is "unlabelled".
    pub first: String,
    pub second: String,
}

impl DataDiff {
    /// Whether both have the same images with the same labels and splits.
    pub fn is_empty(&self) -> bool {
        let DataDiff { added, removed, replaced, relabelled, moved, .. } = self;
        added.is_empty()
            && removed.is_empty()
            && replaced.is_empty()
            && relabelled.is_empty()
            && moved.is_empty()
    }
}

pub(super) fn diff(first: &Results, second: &Results) -> Vec<DataDiff> {
    let stages = second.record().stages.iter().filter_map(|b| {
        let a = counterpart(first, b)?;
        if a.digest == b.digest {
            return None;
        }
        let (a, b_samples) = (first.samples(&a.stage)?, second.samples(&b.stage)?);
        let found = compare(&b.stage, &a, &b_samples);
        (!found.is_empty()).then_some(found)
    });
    stages.collect()
}

/// The stage of the same name and kind in the other run.
fn counterpart<'a>(other: &Results<'a>, stage: &StageRecord) -> Option<&'a StageRecord> {
    other.record().stage(&stage.stage).filter(|found| found.kind == stage.kind)
}

fn compare(stage: &str, first: &[SampleRow], second: &[SampleRow]) -> DataDiff {
    let mut diff = DataDiff { stage: stage.to_owned(), ..DataDiff::default() };
    let mut before: BTreeMap<&str, &SampleRow> =
        first.iter().map(|sample| (sample.path.as_str(), sample)).collect();
    for now in second {
        let Some(earlier) = before.remove(now.path.as_str()) else {
            diff.added.push(now.path.clone());
            continue;
        };
        let moved = |first: &str, second: &str| {
            (first != second).then(|| Moved {
                path: now.path.clone(),
                first: first.to_owned(),
                second: second.to_owned(),
            })
        };
        if earlier.content != now.content {
            diff.replaced.push(now.path.clone());
        }
        diff.relabelled.extend(moved(&earlier.label, &now.label));
        diff.moved.extend(moved(&earlier.split, &now.split));
    }
    diff.removed.extend(before.into_keys().map(str::to_owned));
    diff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(path: &str, content: &str, label: &str, split: &str) -> SampleRow {
        SampleRow {
            path: path.to_owned(),
            content: content.to_owned(),
            label: label.to_owned(),
            split: split.to_owned(),
        }
    }

    #[test]
    fn images_are_compared_by_name() {
        let first = [
            sample("gone", "1", "a", "train"),
            sample("label", "2", "a", "train"),
            sample("other", "3", "a", "train"),
            sample("split", "4", "a", "test"),
        ];
        let second = [
            sample("label", "2", "b", "train"),
            sample("new", "5", "a", "train"),
            sample("other", "6", "a", "train"),
            sample("split", "4", "a", "train"),
        ];
        let diff = compare("p", &first, &second);
        let moved = |path: &str, first: &str, second: &str| Moved {
            path: path.to_owned(),
            first: first.to_owned(),
            second: second.to_owned(),
        };
        assert_eq!((diff.added, diff.removed), (vec!["new".to_owned()], vec!["gone".to_owned()]));
        assert_eq!(diff.replaced, ["other"]);
        assert_eq!(diff.relabelled, [moved("label", "a", "b")]);
        assert_eq!(diff.moved, [moved("split", "test", "train")]);
    }
}
