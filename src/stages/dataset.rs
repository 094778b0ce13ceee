//! The keys of `[dataset]`, declared once for the kinds that read them, and their rules across keys. Knows what labels
//! and splits are written as, not how they are made.

use crate::config::{DefaultValue, KeyDecl, Type, Values};
use crate::data::{labels, split};
use crate::engine::Complaints;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const LABELS: &[KeyDecl] = &[
    KeyDecl::new(
        "from",
        Type::Choice(&["folder", "file_name"]),
        DefaultValue::Json("\"folder\""),
        "Where a image's class is written: the folder it lies in, or its file name.",
    ),
    KeyDecl::new(
        "pattern",
        Type::Text,
        DefaultValue::Absent,
        "For `from = \"file_name\"`: a regular expression with a group `(?<class>…)`, matched with the name without its extension.",
    ),
];

const PART: Type = Type::Number { min: 0.0, max: 1.0 };

const SPLIT: &[KeyDecl] = &[
    KeyDecl::new(
        "train",
        PART,
        DefaultValue::Absent,
        "Part to learn from. 0.8 where no part is given.",
    ),
    KeyDecl::new(
        "validation",
        PART,
        DefaultValue::Absent,
        "Part to look at while learning, to choose. 0.1 where no part is given, else 0.",
    ),
    KeyDecl::new(
        "test",
        PART,
        DefaultValue::Absent,
        "Part to score once, at the end. 0.1 where no part is given, else 0.",
    ),
    KeyDecl::new(
        "method",
        Type::Choice(&["hash", "exact"]),
        DefaultValue::Json("\"hash\""),
        "`hash`: each image by its content, so that it stays where it is when others come; `exact`: exact parts of each class.",
    ),
    KeyDecl::new(
        "seed",
        Type::Integer { min: 0, max: i64::MAX },
        DefaultValue::Json("0"),
        "Another seed makes another split. It isn't the pipeline's, so that runs with different seeds are scored on the same images.",
    ),
];

const LABELLING: [KeyDecl; 3] = [
    KeyDecl::new(
        "labels",
        Type::Table(LABELS),
        DefaultValue::Json("{}"),
        "Where labels come from.",
    ),
    KeyDecl::new(
        "class_names",
        Type::Map(&Type::Text),
        DefaultValue::Json("{}"),
        "What classes are called, where they are written as something else: `{ 0 = \"shirt\" }`. Two of one name become one class.",
    ),
    KeyDecl::new(
        "unlabelled",
        Type::List(&Type::Text),
        DefaultValue::Json("[]"),
        "Folders whose images have no labels: they are predicted, never learned from or scored.",
    ),
];

/// The keys that say what images are called.
pub static NAMING: [KeyDecl; 3] = LABELLING;

/// All keys of `[dataset]`.
pub static ALL: [KeyDecl; 4] = [
    LABELLING[0],
    LABELLING[1],
    LABELLING[2],
    KeyDecl::new(
        "split",
        Type::Table(SPLIT),
        DefaultValue::Json("{}"),
        "Which part of the labelled images is used for what. The parts sum to 1.",
    ),
];

/// `[dataset]` as [`NAMING`] declares it.
#[derive(Deserialize)]
pub struct Naming {
    /// Where labels come from.
    pub labels: labels::Rule,
    /// What classes are called.
    pub class_names: BTreeMap<String, String>,
    /// Folders without labels.
    pub unlabelled: Vec<String>,
}

/// `[dataset]` as [`ALL`] declares it, resolved.
#[derive(Deserialize)]
pub struct Dataset {
    /// What images are called.
    #[serde(flatten)]
    pub naming: Naming,
    /// Which part they play.
    pub split: split::Rule,
}

/// Checks what [`NAMING`] declares across keys.
pub fn check_naming(values: &Values, diagnostics: &mut Complaints) {
    let Some(labels) = values.get("dataset").and_then(|dataset| dataset.get("labels")) else {
        return;
    };
    let pattern = labels.get("pattern").and_then(Value::as_str);
    match (labels.get("from").and_then(Value::as_str), pattern) {
        (Some("file_name"), None) => diagnostics.complain(
            "dataset.labels",
            "labels from file names need a pattern",
            "`pattern` is missing",
            Some("such as pattern = '^(?<index>\\d+)_(?<class>\\d+)$'".into()),
        ),
        (Some("folder"), Some(_)) => diagnostics.complain(
            "dataset.labels.pattern",
            "a pattern is for labels from file names",
            "labels come from folders here",
            Some("write from = \"file_name\", or leave the pattern out".into()),
        ),
        (_, Some(pattern)) => {
            if let Err(what) = labels::compile(pattern) {
                let help = "such as '^(?<index>\\d+)_(?<class>\\d+)$'; in single quotes, backslashes stay as they are";
                diagnostics.complain(
                    "dataset.labels.pattern",
                    what,
                    "expected a pattern with (?<class>…)",
                    Some(help.into()),
                );
            }
        }
        _ => {}
    }
}

/// Fills in the parts of the split and checks them.
pub fn resolve_split(values: &mut Values, diagnostics: &mut Complaints) {
    let Some(parts) = values.get_mut("dataset").and_then(|dataset| dataset.get_mut("split")) else {
        return;
    };
    let Some(parts) = parts.as_object_mut() else { return };
    let names = ["train", "validation", "test"];
    let usual =
        if names.iter().any(|name| parts.contains_key(*name)) { [0.0; 3] } else { [0.8, 0.1, 0.1] };
    for (name, part) in names.into_iter().zip(usual) {
        parts.entry(name).or_insert(json!(part));
    }
    let rule =
        split::Rule::deserialize(Value::Object(parts.clone())).map_err(|error| error.to_string());
    if let Err(what) = rule.and_then(|rule| split::check(&rule)) {
        let help = "such as split = { train = 0.8, validation = 0.1, test = 0.1 }; a part that isn't given is 0";
        diagnostics.complain(
            "dataset.split",
            what,
            "expected parts that sum to 1",
            Some(help.into()),
        );
    }
}
