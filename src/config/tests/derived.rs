//! Everything else that is derived from declared keys: fingerprints, the schema, the reference, help for
//! slips of the pen.

use serde_json::{Value as Json, json};

use super::declared::{ABOVE_ZERO, CROP, HEAD, TRAIN, values};
use crate::common::nearest;
use crate::config::{
    DefaultValue, KeyDecl, KindSchema, RoleSchema, Table, Type, Values, check, reference, schema,
    significant,
};

/// The significant values of these keys, as one JSON object.
fn significant_of(keys: &str) -> Json {
    serde_json::to_value(significant(&values(&format!("backbone = 'b'\n{keys}")), TRAIN)).unwrap()
}

#[test]
fn significant_values() {
    assert_eq!(significant_of(""), json!({ "backbone": "b" }));
    let at_default =
        "epochs = 20\nlearning_rate = 0.001\nhead = { dropout = 0 }\nweights = {}\nworkers = 7";
    assert_eq!(significant_of(at_default), json!({ "backbone": "b" }));
    assert_eq!(
        significant_of("head.dropout = 0.5"),
        json!({ "backbone": "b", "head.dropout": 0.5 })
    );
    assert_eq!(significant_of("head = 'original'"), json!({ "backbone": "b", "head": "original" }));
    assert_eq!(significant_of("head.note = ''"), json!({ "backbone": "b", "head.note": "" }));
    assert_eq!(significant_of("crop = {}"), json!({ "backbone": "b", "crop": {} }));
    assert_eq!(significant_of("crop.tries = 3"), json!({ "backbone": "b", "crop": {} }));
    assert_eq!(
        significant_of("crop.scale = 1"),
        json!({ "backbone": "b", "crop": {}, "crop.scale": 1.0 })
    );
    assert_eq!(
        significant_of("weights.a = 1"),
        json!({ "backbone": "b", "weights": { "a": 1.0 } })
    );
}

#[test]
fn values_that_a_kind_changed() {
    let mut changed = values("backbone = 'b'");
    changed.insert("learning_rate".into(), json!(1));
    changed.insert("extra".into(), json!([1]));
    changed.remove("epochs");
    let expected = json!({ "backbone": "b", "learning_rate": 1.0, "extra": [1], "epochs": null });
    assert_eq!(serde_json::to_value(significant(&changed, TRAIN)).unwrap(), expected);
    changed.insert("learning_rate".into(), json!(0.001));
    assert_eq!(significant(&changed, TRAIN).get("learning_rate"), None);
}

#[test]
fn a_default_for_a_table_that_is_not_that_of_its_keys() {
    const OUTER: &[KeyDecl] = &[KeyDecl::new(
        "head",
        Type::Table(HEAD),
        DefaultValue::Json(r#"{"dropout": 0.5, "note": "x"}"#),
        "The head.",
    )];
    let of = |head: Json| {
        let values = Values::from_iter([("head".to_owned(), head)]);
        serde_json::to_value(significant(&values, OUTER)).unwrap()
    };
    assert_eq!(of(json!({ "hidden": [], "dropout": 0.5, "note": "x" })), json!({}));
    assert_eq!(
        of(json!({ "hidden": [], "dropout": 0.0 })),
        json!({ "head.dropout": 0.0, "head.note": null })
    );
    assert_eq!(significant(&check("", &Table::default(), OUTER, &mut Vec::new()), OUTER).len(), 0);
}

#[test]
fn nearest_names() {
    let names = ["epochs", "learning_rate", "batch_size", "head", "freeze"];
    let near = |wanted: &str| nearest(wanted, names);
    assert_eq!(near("epoch"), Some("epochs"));
    assert_eq!(near("Epochs"), Some("epochs"));
    assert_eq!(near("learning-rate"), Some("learning_rate"));
    assert_eq!(near("learningrate"), Some("learning_rate"));
    assert_eq!(near("learning"), Some("learning_rate"));
    assert_eq!(near("batchsize"), Some("batch_size"));
    assert_eq!(near("haed"), Some("head"));
    assert_eq!(near("heads"), Some("head"));
    assert_eq!(near("xyz"), None);
    assert_eq!(near("h"), None);
    assert_eq!(near(""), None);
    assert_eq!(nearest("a", ["b"]), None);
    assert_eq!(nearest("ab", ["ac", "ad"]), Some("ac"));
    assert_eq!(nearest("resnet", ["resnet18", "resnet50"]), Some("resnet18"));
    assert_eq!(nearest("preprocessing_of_images", ["preprocess", "fetch"]), Some("preprocess"));
}

#[test]
fn the_reference() {
    assert_eq!(
        reference(TRAIN),
        r#"| key | value | default | |
| --- | --- | --- | --- |
| `backbone` | text | required | The network. |
| `epochs` | a whole number from 1 to 1000 | `20` | Passes over the data. |
| `learning_rate` | a number above 0 | `0.001` | Step size. |
| `nesterov` | true or false | `false` | Look ahead. |
| `optimizer` | "sgd" or "adamw" | `"adamw"` | The optimizer. |
| `head` | "original" or a table | a table | The head. |
| `head.hidden` | a list, each item a whole number from 1 to 4096 | `[]` | Hidden layers. |
| `head.dropout` | a number from 0 to 1 | `0.0` | Share of features that are dropped. |
| `head.note` | text | none | A note. |
| `crop` | a table | none | Random crops. |
| `crop.scale` | a number from 0 to 1 | `0.5` | The least area. |
| `crop.tries` | a whole number, at least 1 | `10` | How often. |
| `weights` | a table, each value a number from 0 to 1 | `{}` | Class weights. |
| `mean` | a number from 0 to 1 or a list, each item a number from 0 to 1 | none | One \| or three. |
| `folder` | a path | none | A folder. |
| `source` | a source, SCHEME:REST | none | Where from. |
| `workers` | a whole number from 0 to 64 | `2` | Threads. |
"#
    );
}

#[test]
fn the_schema() {
    let kind = |name, parameters, dataset| {
        let roles = vec![RoleSchema { name: "data", doc: "The data." }];
        KindSchema {
            name,
            about: "What it does.",
            keys: parameters,
            dataset,
            roles,
            any_role: None,
        }
    };
    const COMMON: &[KeyDecl] =
        &[KeyDecl::new("timeout", ABOVE_ZERO, DefaultValue::Absent, "Seconds.").execution()];
    let schema = schema(&[kind("train", TRAIN, HEAD), kind("fetch", CROP, HEAD)], COMMON);
    let at = |pointer: &str| {
        schema.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {schema:#}"))
    };
    assert_eq!(
        at("/properties").as_object().unwrap().keys().collect::<Vec<_>>(),
        ["dataset", "extends", "matrix", "pipeline", "stages", "vars"]
    );
    assert_eq!(at("/properties/dataset/properties/dropout/default"), &json!(0.0));
    assert_eq!(
        at("/properties/stages/properties/fetch/else/$ref"),
        &json!("#/definitions/stage-fetch")
    );
    assert_eq!(at("/definitions/by-kind/allOf/1/then/$ref"), &json!("#/definitions/stage-fetch"));
    assert_eq!(
        at("/definitions/stage-train/properties/epochs"),
        &json!({
            "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 1000 }, { "$ref": "#/definitions/variable" }],
            "default": 20,
            "description": "Passes over the data.",
        })
    );
    assert_eq!(at("/definitions/stage-train/properties/timeout/description"), &json!("Seconds."));
    assert_eq!(
        at("/definitions/stage-train/properties/needs/properties/data/description"),
        &json!("The data.")
    );
    assert_eq!(
        at("/definitions/stage-train/properties/head/anyOf/1/properties/note/type"),
        &json!("string")
    );
    for reference in references(&schema) {
        at(reference.strip_prefix('#').unwrap());
    }
}

/// All `$ref`s.
fn references(schema: &Json) -> Vec<&str> {
    match schema {
        Json::Object(entries) => {
            let here = entries.get("$ref").and_then(Json::as_str);
            here.into_iter().chain(entries.values().flat_map(references)).collect()
        }
        Json::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}
