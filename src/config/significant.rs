//! The values that enter a fingerprint: those that affect outputs and differ from their defaults.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::defaults::{default_of, normal, normal_table};
use super::{Affects, KeyDecl, Type, Values};

/// The values that affect outputs and differ from their defaults, by dotted key: "head.dropout" ->
/// 0.5. Different values never give the same result: a table whose default is absent or something
/// else leaves `{}` at its own key, a missing key with a default leaves `null`, and undeclared keys
/// and everything inside lists and maps are included.
pub fn significant(values: &Values, declared: &[KeyDecl]) -> BTreeMap<String, Json> {
    let mut out = BTreeMap::new();
    compare_tables("", values, None, declared, &mut out);
    out
}

/// Compares a table with its default or, if it has none, with the defaults of its keys.
fn compare_tables(
    prefix: &str,
    values: &Values,
    default: Option<&Values>,
    declared: &[KeyDecl],
    out: &mut BTreeMap<String, Json>,
) {
    for key in declared.iter().filter(|key| key.affects == Affects::Output) {
        let default = match default {
            Some(table) => table.get(key.name).cloned(),
            None => default_of(key),
        };
        let path = format!("{prefix}{}", key.name);
        match (values.get(key.name), default) {
            (Some(value), default) => compare(path, value, default, &key.of, out),
            (None, Some(_)) => drop(out.insert(path, Json::Null)),
            (None, None) => {}
        }
    }
    for (name, value) in values {
        if !declared.iter().any(|key| key.name == name) {
            out.insert(format!("{prefix}{name}"), value.clone());
        }
    }
}

fn compare(
    path: String,
    value: &Json,
    default: Option<Json>,
    of: &Type,
    out: &mut BTreeMap<String, Json>,
) {
    let value = normal(value, of).unwrap_or_else(|| value.clone());
    if default.as_ref() == Some(&value) {
        return;
    }
    let inner =
        of.tables().into_iter().find(|declared| normal(&value, &Type::Table(declared)).is_some());
    let (Json::Object(entries), Some(declared)) = (&value, inner) else {
        out.insert(path, value);
        return;
    };
    let default = match default {
        Some(Json::Object(default)) if normal_table(&default, declared).is_some() => Some(default),
        _ => {
            out.insert(path.clone(), Json::Object(Values::new()));
            None
        }
    };
    compare_tables(&format!("{path}."), entries, default.as_ref(), declared, out);
}
