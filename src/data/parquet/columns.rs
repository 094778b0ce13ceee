//! Which columns of a Parquet file hold the images, their classes and everything else, as the
//! library `datasets` describes them in the file's metadata; else by their names and types.

use super::metadata::{Leaf, Metadata, Physical};
use crate::data::labels::is_class_column;
use serde_json::Value;
use std::collections::BTreeMap;

/// The text in the metadata that describes the columns.
const FEATURES: &str = "huggingface";
/// Names of columns with images, the most telling first.
const IMAGES: [&str; 6] = ["image", "img", "picture", "photo", "jpg", "png"];

/// The names of a column's classes, by the column's name.
pub(crate) type ClassNames = BTreeMap<String, Vec<String>>;

/// The columns that are read, by their positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// The bytes of the images.
    pub image: usize,
    /// The paths that the images had.
    pub path: Option<usize>,
    pub class: Option<usize>,
    /// Other columns with a value per row.
    pub others: Vec<usize>,
    pub names: ClassNames,
}

impl Columns {
    /// The columns of a file. `known` are the names of classes that are known from elsewhere.
    ///
    /// # Errors
    /// If no column holds images: a sentence to follow the file's name.
    pub(super) fn of(metadata: &Metadata, known: &ClassNames) -> Result<Columns, String> {
        let Metadata { leaves, texts, .. } = metadata;
        let features = texts.get(FEATURES).and_then(|text| features(text)).unwrap_or_default();
        let image = image(leaves, &features).ok_or_else(|| {
            let names: Vec<String> = leaves.iter().map(name).take(20).collect();
            format!("no column holds images; its columns are {}", names.join(", "))
        })?;
        let (top, inner) = (leaves[image].path.first(), leaves[image].path.len() > 1);
        let beside = |leaf: &Leaf| inner && leaf.path.first() == top;
        let is_path =
            |leaf: &&Leaf| beside(leaf) && leaf.path.last().is_some_and(|one| one == "path");
        let path = leaves.iter().position(|leaf| is_path(&leaf) && is_value(leaf));
        let mut names = known.clone();
        names.extend(features.iter().filter_map(|(name, one)| Some((name.clone(), classes(one)?))));
        let others: Vec<usize> = (0..leaves.len())
            .filter(|at| *at != image && !beside(&leaves[*at]) && is_value(&leaves[*at]))
            .collect();
        let class = class(leaves, &others, &names);
        Ok(Columns { image, path, class, others, names })
    }

    /// Whether rows have something else than an image and its class.
    pub(super) fn has_others(&self) -> bool {
        self.others.iter().any(|at| Some(*at) != self.class)
    }
}

/// The name of a column with those of the structures around it.
pub(super) fn name(leaf: &Leaf) -> String {
    leaf.path.join(".")
}

/// The descriptions of the columns.
fn features(text: &str) -> Option<BTreeMap<String, Value>> {
    let mut json: Value = serde_json::from_str(text).ok()?;
    serde_json::from_value(json.pointer_mut("/info/features")?.take()).ok()
}

/// The names of the classes of a column of classes.
fn classes(feature: &Value) -> Option<Vec<String>> {
    feature.get("_type").filter(|kind| *kind == "ClassLabel")?;
    serde_json::from_value(feature.get("names")?.clone()).ok()
}

/// A column of bytes: that which is described as an image, has a usual name, or is a structure as
/// `datasets` writes it.
fn image(leaves: &[Leaf], features: &BTreeMap<String, Value>) -> Option<usize> {
    let is_bytes = |leaf: &&Leaf| {
        let of_structure = leaf.path.len() == 2 && leaf.path[1] == "bytes";
        let is_binary = leaf.physical == Physical::Bytes && !leaf.is_text && !leaf.is_list;
        is_binary && (of_structure || leaf.path.len() == 1)
    };
    let is_described = |leaf: &Leaf| {
        let feature = leaf.path.first().and_then(|name| features.get(name));
        feature.and_then(|feature| feature.get("_type")).is_some_and(|kind| kind == "Image")
    };
    let rank = |leaf: &Leaf| {
        let named = IMAGES.iter().position(|name| leaf.path[0].eq_ignore_ascii_case(name));
        (!is_described(leaf), named.unwrap_or(IMAGES.len()))
    };
    let candidates = leaves.iter().enumerate().filter(|(_, leaf)| is_bytes(leaf));
    let candidates = candidates.filter(|(_, leaf)| {
        leaf.path.len() == 2 || is_described(leaf) || rank(leaf).1 < IMAGES.len()
    });
    candidates.min_by_key(|(at, leaf)| (rank(leaf), *at)).map(|(at, _)| at)
}

/// Whether a row has one value that can be written as text.
fn is_value(leaf: &Leaf) -> bool {
    !leaf.is_list
        && match leaf.physical {
            Physical::Bytes => leaf.is_text,
            Physical::Int96 | Physical::Fixed(_) => false,
            Physical::Boolean
            | Physical::Int32
            | Physical::Int64
            | Physical::Float
            | Physical::Double => true,
        }
}

/// The column of the class: `label`, else the first one with names of classes, else one with a usual
/// name.
fn class(leaves: &[Leaf], others: &[usize], names: &ClassNames) -> Option<usize> {
    let column = |at: &usize| name(&leaves[*at]);
    let has_names = |at: &&usize| names.contains_key(&column(at));
    let plain = others.iter().find(|at| column(at) == "label" && has_names(at));
    let usual = || others.iter().find(|at| is_class_column(&column(at)));
    plain.or_else(|| others.iter().find(has_names)).or_else(usual).copied()
}
