//! Types, values and keys in words, for messages and the reference.

use crate::common::words::join;
use serde_json::Value as Json;

use super::{Type, Value};

/// The values of a type: "a whole number from 1 to 64".
pub(super) fn expected(of: &Type) -> String {
    match of {
        Type::Bool => "true or false".to_owned(),
        Type::Integer { min, max } => {
            let min = (*min != i64::MIN).then(|| min.to_string());
            let max = (*max != i64::MAX).then(|| max.to_string());
            format!("a whole number{}", bounds(min, max))
        }
        Type::Number { min, max: f64::INFINITY } if *min == f64::MIN_POSITIVE => {
            "a number above 0".to_owned()
        }
        Type::Number { min, max } if *min == f64::MIN_POSITIVE => {
            format!("a number above 0, at most {max}")
        }
        Type::Number { min, max } => {
            let bound = |value: &f64| value.is_finite().then(|| value.to_string());
            format!("a number{}", bounds(bound(min), bound(max)))
        }
        Type::Text => "text".to_owned(),
        Type::Size => "a size such as \"4 GB\"".to_owned(),
        Type::Path => "a path".to_owned(),
        Type::Source => "a source, SCHEME:REST".to_owned(),
        Type::Choice(names) => join(names.iter().map(|name| format!("\"{name}\"")).collect(), "or"),
        Type::List(of) => format!("a list, each item {}", expected(of)),
        Type::Array(of, length) => format!("a list of {length}, each item {}", expected(of)),
        Type::Map(of) => format!("a table, each value {}", expected(of)),
        Type::Table(_) => "a table".to_owned(),
        Type::Either(types) => join(types.iter().map(expected).collect(), "or"),
    }
}

fn bounds(min: Option<String>, max: Option<String>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(", at least {min}"),
        (None, Some(max)) => format!(", at most {max}"),
        (None, None) => String::new(),
    }
}

/// The type of a value: "a whole number".
pub(super) fn found(value: &Value) -> &'static str {
    match value {
        Value::Text(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Number(_) => "a number",
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        Value::List(_) => "a list",
        Value::Table(_) => "a table",
        Value::Broken => "an error",
    }
}

/// The path of `key` in the table at `at`, quoted where TOML wants quotes.
pub(super) fn path_of(at: &str, key: &str) -> String {
    let bare =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if at.is_empty() { key } else { format!("{at}.{key}") }
}

/// A value in TOML, on one line.
pub(super) fn toml_text(value: &Json) -> String {
    match value {
        Json::Array(items) => {
            format!("[{}]", items.iter().map(toml_text).collect::<Vec<_>>().join(", "))
        }
        Json::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Json::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{} = {}", path_of("", key), toml_text(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}
