//! JSON Schema (draft 7) of pipeline files, for completion and checks in editors.
//!
//! No key is required in it, since a file may extend another. Where a value isn't text, text with a
//! variable is allowed too.

use serde_json::{Map, Value as Json, json};

use super::defaults::default_of;
use super::pipeline::General;
use super::{KeyDecl, Keys, Type};

/// A stage kind as the schema describes it.
#[derive(Clone, Debug)]
pub struct KindSchema<'a> {
    pub name: &'a str,
    pub about: &'a str,
    pub keys: &'a [KeyDecl],
    /// The keys of `[dataset]` that it reads.
    pub dataset: &'a [KeyDecl],
    /// The roles that its `needs` may have.
    pub roles: Vec<RoleSchema<'a>>,
    /// The doc of roles of any other name, if it takes such.
    pub any_role: Option<&'a str>,
}

/// A role of `needs`.
#[derive(Clone, Debug)]
pub struct RoleSchema<'a> {
    pub name: &'a str,
    pub doc: &'a str,
}

/// The schema of a pipeline file; `common` are the keys that every stage has.
pub fn schema(kinds: &[KindSchema], common: &[KeyDecl]) -> Json {
    let mut dataset: Vec<KeyDecl> = Vec::new();
    for key in kinds.iter().flat_map(|kind| kind.dataset) {
        if !dataset.iter().any(|known| known.name == key.name) {
            dataset.push(*key);
        }
    }
    let matrix = json!({ "type": "object", "description": "A sweep: one run for each combination. Not built yet." });
    let vars = json!({
        "type": "object",
        "description": "Variables, used as ${name} in any text.",
        "additionalProperties": { "type": ["string", "number", "boolean"] },
    });
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Pipeline file of pipe",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "extends": { "type": "string", "description": "A file whose tables these are laid on, relative to this one." },
            "pipeline": table_schema(General::KEYS),
            "vars": vars,
            "dataset": table_schema(&dataset),
            "stages": stages_schema(kinds),
            "matrix": matrix,
        },
        "definitions": definitions(kinds, common),
    })
}

/// The kind of a stage is its `kind`, else its name.
fn stages_schema(kinds: &[KindSchema]) -> Json {
    let named = kinds.iter().map(|kind| {
        let by_name = json!({
            "if": { "required": ["kind"] },
            "then": { "$ref": "#/definitions/by-kind" },
            "else": { "$ref": reference_to(kind) },
        });
        (kind.name.to_owned(), by_name)
    });
    json!({
        "type": "object",
        "properties": named.collect::<Map<_, _>>(),
        "additionalProperties": { "$ref": "#/definitions/by-kind" },
    })
}

fn definitions(kinds: &[KindSchema], common: &[KeyDecl]) -> Map<String, Json> {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    let choices = kinds.iter().map(|kind| {
        json!({
            "if": { "required": ["kind"], "properties": { "kind": { "const": kind.name } } },
            "then": { "$ref": reference_to(kind) },
        })
    });
    let by_kind = json!({
        "type": "object",
        "properties": { "kind": or_variable(json!({ "enum": names })) },
        "allOf": choices.collect::<Vec<_>>(),
    });
    let variable = json!({ "type": "string", "pattern": "\\$\\{[A-Za-z0-9_-]+\\}" });
    let mut all: Map<String, Json> =
        [("by-kind".to_owned(), by_kind), ("variable".to_owned(), variable)].into_iter().collect();
    all.extend(
        kinds.iter().map(|kind| (format!("stage-{}", kind.name), stage_schema(kind, common))),
    );
    all
}

fn reference_to(kind: &KindSchema) -> String {
    format!("#/definitions/stage-{}", kind.name)
}

fn stage_schema(kind: &KindSchema, common: &[KeyDecl]) -> Json {
    let roles = kind
        .roles
        .iter()
        .map(|role| (role.name.to_owned(), json!({ "type": "string", "description": role.doc })));
    let any_role =
        kind.any_role.map_or(json!(false), |doc| json!({ "type": "string", "description": doc }));
    let needs = json!({
        "type": "object",
        "description": "Role -> the stage that fills it.",
        "properties": roles.collect::<Map<_, _>>(),
        "additionalProperties": any_role,
    });
    let mut properties = properties_of(kind.keys);
    properties.extend(properties_of(common));
    properties.insert(
        "kind".to_owned(),
        json!({ "type": "string", "description": "By default the stage's name." }),
    );
    properties.insert("needs".to_owned(), needs);
    json!({
        "type": "object",
        "description": kind.about,
        "properties": properties,
        "additionalProperties": false,
    })
}

fn table_schema(declared: &[KeyDecl]) -> Json {
    json!({ "type": "object", "properties": properties_of(declared), "additionalProperties": false })
}

fn properties_of(declared: &[KeyDecl]) -> Map<String, Json> {
    declared.iter().map(|key| (key.name.to_owned(), key_schema(key))).collect()
}

fn key_schema(key: &KeyDecl) -> Json {
    let mut schema = json!({ "description": key.doc });
    if let Some(default) = default_of(key) {
        schema["default"] = default;
    }
    if let (Json::Object(schema), Json::Object(of)) = (&mut schema, type_schema(&key.of)) {
        schema.extend(of);
    }
    schema
}

fn type_schema(of: &Type) -> Json {
    match of {
        Type::Bool => or_variable(json!({ "type": "boolean" })),
        Type::Integer { min, max } => {
            let min = (*min != i64::MIN).then(|| json!(min));
            let max = (*max != i64::MAX).then(|| json!(max));
            or_variable(number_schema("integer", min, max))
        }
        Type::Number { min, max } => {
            let bound = |value: &f64| {
                (value.is_finite() && *value != f64::MIN_POSITIVE).then(|| json!(value))
            };
            let mut schema = number_schema("number", bound(min), bound(max));
            if *min == f64::MIN_POSITIVE {
                schema["exclusiveMinimum"] = json!(0);
            }
            or_variable(schema)
        }
        Type::Text | Type::Size | Type::Path | Type::Source => json!({ "type": "string" }),
        Type::Choice(names) => or_variable(json!({ "enum": names })),
        Type::List(of) => json!({ "type": "array", "items": type_schema(of) }),
        Type::Array(of, length) => json!({
            "type": "array", "items": type_schema(of), "minItems": length, "maxItems": length,
        }),
        Type::Map(of) => json!({ "type": "object", "additionalProperties": type_schema(of) }),
        Type::Table(declared) => table_schema(declared),
        Type::Either(types) => {
            json!({ "anyOf": types.iter().map(type_schema).collect::<Vec<_>>() })
        }
    }
}

fn number_schema(name: &str, min: Option<Json>, max: Option<Json>) -> Json {
    let mut schema = Map::from_iter([("type".to_owned(), json!(name))]);
    schema.extend(min.map(|min| ("minimum".to_owned(), min)));
    schema.extend(max.map(|max| ("maximum".to_owned(), max)));
    Json::Object(schema)
}

fn or_variable(schema: Json) -> Json {
    json!({ "anyOf": [schema, { "$ref": "#/definitions/variable" }] })
}
