//! Compares the data of two runs by the names of images: those added and removed, with another
//! content, another label or in another split.

use super::super::{Results, StageRecord};
use crate::data::Sample;
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

type Table = (Vec<Sample>, Vec<String>);

fn compare(
    stage: &str,
    (first, first_classes): &Table,
    (second, second_classes): &Table,
) -> DataDiff {
    let mut diff = DataDiff { stage: stage.to_owned(), ..DataDiff::default() };
    let mut before: BTreeMap<&str, &Sample> =
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
        if earlier.image_digest != now.image_digest {
            diff.replaced.push(now.path.clone());
        }
        diff.relabelled.extend(moved(label(earlier, first_classes), label(now, second_classes)));
        diff.moved.extend(moved(earlier.split.name(), now.split.name()));
    }
    diff.removed.extend(before.into_keys().map(str::to_owned));
    diff
}

fn label<'a>(sample: &Sample, classes: &'a [String]) -> &'a str {
    sample.class.and_then(|class| classes.get(class as usize)).map_or("unlabelled", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Split;
    use crate::store::Digest;

    fn sample(path: &str, content: &str, class: u32, split: Split) -> Sample {
        Sample {
            path: path.to_owned(),
            image_digest: Digest::of(content.as_bytes()),
            record: 0,
            class: Some(class),
            split,
            note: String::new(),
        }
    }

    #[test]
    fn images_are_compared_by_name() {
        let first = vec![
            sample("gone", "1", 0, Split::Train),
            sample("label", "2", 0, Split::Train),
            sample("other", "3", 0, Split::Train),
            sample("split", "4", 0, Split::Test),
        ];
        let second = vec![
            sample("label", "2", 0, Split::Train),
            sample("new", "5", 0, Split::Train),
            sample("other", "6", 1, Split::Train),
            sample("split", "4", 1, Split::Train),
        ];
        // The same class has another index.
        let classes = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        let diff = compare("p", &(first, classes(["a", "b"])), &(second, classes(["b", "a"])));
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
