//! Which values enter a fingerprint: those that affect outputs and aren't at their default.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::defaults::{default_of, normal, normal_table};
use super::{Affects, KeyDecl, Type, Values};

/// The values that affect outputs and differ from their defaults, by flattened name: "head.dropout" -> 0.5. Two sets of
/// values that mean something different never come out the same: a table where the default is none or something else
/// leaves `{}` at its own name, a key that lacks where the default has one leaves `null`, keys that nobody declared
/// count. Inside lists and maps everything counts.
pub fn significant(values: &Values, declared: &[KeyDecl]) -> BTreeMap<String, Json> {
    let mut out = BTreeMap::new();
    compare_tables("", values, None, declared, &mut out);
    out
}

/// Compares a table with the table that is its default or, without one, with the defaults of its keys.
fn compare_tables(
    prefix: &str,
    values: &Values,
    default: Option<&Values>,
    declared: &[KeyDecl],
    out: &mut BTreeMap<String, Json>,
) {
    for parameter in declared.iter().filter(|parameter| parameter.affects == Affects::Output) {
        let default = match default {
            Some(table) => table.get(parameter.name).cloned(),
            None => default_of(parameter),
        };
        let path = format!("{prefix}{}", parameter.name);
        match (values.get(parameter.name), default) {
            (Some(value), default) => compare(path, value, default, &parameter.of, out),
            (None, Some(_)) => drop(out.insert(path, Json::Null)),
            (None, None) => {}
        }
    }
    for (key, value) in values {
        if !declared.iter().any(|parameter| parameter.name == key) {
            out.insert(format!("{prefix}{key}"), value.clone());
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
