//! Defaults of keys, and the normal form in which JSON values are compared.

use serde_json::Value as Json;

use super::{DefaultValue, KeyDecl, Type, Values};

/// The default of a key in normal form.
pub(super) fn default_of(key: &KeyDecl) -> Option<Json> {
    match key.default {
        DefaultValue::Required | DefaultValue::Absent | DefaultValue::Computed => None,
        DefaultValue::Json(text) => normal(&serde_json::from_str(text).ok()?, &key.of),
    }
}

/// The values of a table in which nothing is given. Required keys are left out.
pub fn defaults(declared: &[KeyDecl]) -> Values {
    let values = declared.iter().map(|key| (key.name.to_owned(), default_of(key)));
    values.filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The value in the form that `check` produces: floats where numbers are declared, tables with
/// their defaults. None if it doesn't have the type.
pub(super) fn normal(value: &Json, of: &Type) -> Option<Json> {
    match (of, value) {
        (Type::Either(types), _) => types.iter().find_map(|of| normal(value, of)),
        (Type::Bool, Json::Bool(_)) => Some(value.clone()),
        (Type::Integer { min, max }, _) => {
            let number = value.as_i64()?;
            (min..=max).contains(&&number).then(|| Json::from(number))
        }
        (Type::Number { min, max }, _) => {
            let number = value.as_f64()?;
            (*min..=*max).contains(&number).then(|| Json::from(number))
        }
        (Type::Text | Type::Path | Type::Source, Json::String(_)) => Some(value.clone()),
        (Type::Size, _) => value.as_u64().map(Json::from),
        (Type::Choice(names), Json::String(text)) => {
            names.contains(&text.as_str()).then(|| value.clone())
        }
        (Type::Array(_, length), Json::Array(items)) if items.len() != *length => None,
        (Type::List(of) | Type::Array(of, _), Json::Array(items)) => {
            items.iter().map(|item| normal(item, of)).collect::<Option<_>>().map(Json::Array)
        }
        (Type::Map(of), Json::Object(entries)) => {
            let entries =
                entries.iter().map(|(key, value)| Some((key.clone(), normal(value, of)?)));
            entries.collect::<Option<_>>().map(Json::Object)
        }
        (Type::Table(declared), Json::Object(entries)) => {
            normal_table(entries, declared).map(Json::Object)
        }
        _ => None,
    }
}

pub(super) fn normal_table(entries: &Values, declared: &[KeyDecl]) -> Option<Values> {
    if entries.keys().any(|key| !declared.iter().any(|declared| declared.name == key)) {
        return None;
    }
    let mut values = Values::new();
    for key in declared {
        let value = match entries.get(key.name) {
            Some(value) => Some(normal(value, &key.of)?),
            None if key.default == DefaultValue::Required => return None,
            None => default_of(key),
        };
        values.extend(value.map(|value| (key.name.to_owned(), value)));
    }
    Some(values)
}

impl Type {
    /// The keys of the tables that a value of this type may be.
    pub(crate) fn tables(&self) -> Vec<&'static [KeyDecl]> {
        match self {
            Type::Table(declared) => vec![*declared],
            Type::Either(types) => types.iter().flat_map(Type::tables).collect(),
            _ => Vec::new(),
        }
    }
}

/// Errors in declarations, for tests: a duplicate name, a default that isn't JSON or doesn't have
/// the type, a missing doc.
pub fn audit(declared: &[KeyDecl]) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, key) in declared.iter().enumerate() {
        let name = key.name;
        if declared.iter().take(index).any(|other| other.name == name) {
            faults.push(format!("`{name}` is declared twice"));
        }
        if key.doc.is_empty() || key.doc.contains('\n') {
            faults.push(format!("`{name}` needs a doc of one line"));
        }
        if matches!(key.default, DefaultValue::Json(_)) && default_of(key).is_none() {
            faults.push(format!("the default of `{name}` isn't of its type"));
        }
        faults
            .extend(audit_inner(&key.of).into_iter().map(|fault| format!("in `{name}`: {fault}")));
    }
    faults
}

fn audit_inner(of: &Type) -> Vec<String> {
    match of {
        Type::Table(declared) => audit(declared),
        Type::List(of) | Type::Array(of, _) | Type::Map(of) => audit_inner(of),
        Type::Either(types) => types.iter().flat_map(audit_inner).collect(),
        _ => Vec::new(),
    }
}
