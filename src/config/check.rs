//! Checks a table against the declarations of its keys.

use std::path::{Component, PathBuf};

use serde_json::Value as Json;

use super::defaults::default_of;
use super::describe::{expected, found, path_of, toml_text};
use super::{DefaultValue, Diagnostic, KeyDecl, Node, Table, Type, Value, Values};
use crate::common::number::parse_bytes;
use crate::common::words::and_list;
use crate::common::{nearest, synonym};

/// Checks `table` against `declared`: unknown keys (with the nearest name), types, ranges, missing
/// keys. Fills in defaults. `at` is the dotted key of the table for messages ("stages.train"). A
/// wrong value is reported and left out: use the values only if nothing was reported and the table
/// [isn't broken](Table::is_broken).
pub fn check(
    at: &str,
    table: &Table,
    declared: &[KeyDecl],
    diagnostics: &mut Vec<Diagnostic>,
) -> Values {
    for (name, node) in table.iter() {
        if !declared.iter().any(|key| key.name == name) {
            diagnostics.push(unknown_key(at, name, node, declared));
        }
    }
    let mut values = Values::new();
    for key in declared {
        let value = match table.get(key.name) {
            Some(node) => fit(&path_of(at, key.name), node, &key.of, diagnostics),
            None if key.default == DefaultValue::Required => {
                diagnostics.push(missing_key(at, table, key));
                None
            }
            None => default_of(key),
        };
        if let Some(value) = value {
            values.insert(key.name.to_owned(), value);
        }
    }
    values
}

fn unknown_key(at: &str, key: &str, node: &Node, declared: &[KeyDecl]) -> Diagnostic {
    let names = || declared.iter().map(|key| key.name);
    let renamed = declared.iter().find(|declared| declared.formerly == Some(key));
    if let Some(now) = renamed {
        let diagnostic = Diagnostic::new(format!("`{key}` in `{at}` has a new name"));
        return diagnostic.at(node.key_origin.clone()).help(format!("write `{}`", now.name));
    }
    let help = match dotted_name(key, declared).or_else(|| nearest(key, names()).map(str::to_owned))
    {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if declared.is_empty() => format!("`{at}` takes no keys"),
        None => format!("`{at}` takes {}", and_list(names())),
    };
    let diagnostic =
        Diagnostic::new(format!("unknown key `{key}` in `{at}`")).at(node.key_origin.clone());
    diagnostic.label("not known here").help(help)
}

/// The dotted name of the key that is meant by `key`, which may be another tool's name for it, if it
/// is declared here or one table further in.
pub fn dotted_name(key: &str, declared: &[KeyDecl]) -> Option<String> {
    let find = |key: &str| {
        if declared.iter().any(|outer| outer.name == key) {
            return Some(key.to_owned());
        }
        let has_key = |of: &Type| of.tables().into_iter().flatten().any(|inner| inner.name == key);
        let outer = declared.iter().find(|outer| has_key(&outer.of))?;
        Some(format!("{}.{key}", outer.name))
    };
    find(key).or_else(|| find(synonym(key)?))
}

fn missing_key(at: &str, table: &Table, key: &KeyDecl) -> Diagnostic {
    let diagnostic =
        Diagnostic::new(format!("`{at}` lacks `{}`", key.name)).at(table.origin().cloned());
    let label = format!("expected a key `{}`: {}", key.name, expected(&key.of));
    diagnostic.label(label).help(format!("`{}`: {}", key.name, key.doc))
}

/// The value as JSON if it has the type, else reports a diagnostic, unless the value was reported
/// already.
fn fit(path: &str, node: &Node, of: &Type, diagnostics: &mut Vec<Diagnostic>) -> Option<Json> {
    match (of, &node.value) {
        (_, Value::Broken) => None,
        (Type::Either(types), _) => fit_either(path, node, types, diagnostics),
        (Type::Array(_, length), Value::List(items)) if items.len() != *length => {
            diagnostics.push(Misfit::Length.diagnostic(path, node, of));
            None
        }
        (Type::List(of) | Type::Array(of, _), Value::List(items)) => {
            // All items are checked before any is found missing, so that all errors are reported.
            let items: Vec<_> = items.iter().map(|item| fit(path, item, of, diagnostics)).collect();
            items.into_iter().collect::<Option<Vec<_>>>().map(Json::Array)
        }
        (Type::Map(of), Value::Table(table)) => {
            let entries = table
                .iter()
                .map(|(key, node)| (key, fit(&path_of(path, key), node, of, diagnostics)));
            let entries: Vec<_> = entries.collect();
            let entries = entries.into_iter().map(|(key, value)| Some((key.to_owned(), value?)));
            entries.collect::<Option<Values>>().map(Json::Object)
        }
        (Type::Table(declared), Value::Table(table)) => {
            let before = diagnostics.len();
            let values = check(path, table, declared, diagnostics);
            (diagnostics.len() == before).then_some(Json::Object(values))
        }
        _ => match fit_scalar(node, of) {
            Ok(value) => Some(value),
            Err(misfit) => {
                diagnostics.push(misfit.diagnostic(path, node, of));
                None
            }
        },
    }
}

/// The first alternative that fits. If none does and a single one has the value's shape, that one's
/// errors are reported: a wrong key in a table that could also have been a word is a wrong key.
fn fit_either(
    path: &str,
    node: &Node,
    types: &'static [Type],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Json> {
    for of in types {
        let mut errors = Vec::new();
        let value = fit(path, node, of, &mut errors);
        if errors.is_empty() {
            return value;
        }
    }
    let mut alike = types.iter().filter(|of| is_alike(of, &node.value));
    match (alike.next(), alike.next()) {
        (Some(of), None) => fit(path, node, of, diagnostics),
        _ => {
            diagnostics.push(Misfit::Type.diagnostic(path, node, &Type::Either(types)));
            None
        }
    }
}

fn is_alike(of: &Type, value: &Value) -> bool {
    match (of, value) {
        (Type::Either(types), _) => types.iter().any(|of| is_alike(of, value)),
        (Type::Bool, Value::Bool(_))
        | (Type::Integer { .. }, Value::Integer(_))
        | (Type::Number { .. }, Value::Integer(_) | Value::Number(_))
        | (Type::Text | Type::Size | Type::Path | Type::Source | Type::Choice(_), Value::Text(_))
        | (Type::List(_) | Type::Array(..), Value::List(_))
        | (Type::Map(_) | Type::Table(_), Value::Table(_)) => true,
        _ => false,
    }
}

/// Why a value doesn't have a type.
#[derive(Clone, Copy)]
enum Misfit {
    Type,
    Range,
    Length,
    Choice,
    Size,
    Scheme,
    Empty,
    Folder,
}

fn fit_scalar(node: &Node, of: &Type) -> Result<Json, Misfit> {
    let in_range = |fits: bool| if fits { Ok(()) } else { Err(Misfit::Range) };
    match (of, &node.value) {
        (Type::Bool, Value::Bool(value)) => Ok(Json::from(*value)),
        (Type::Integer { min, max }, Value::Integer(value)) => {
            in_range((min..=max).contains(&value))?;
            Ok(Json::from(*value))
        }
        (Type::Number { min, max }, Value::Integer(_) | Value::Number(_)) => {
            let number = match node.value {
                Value::Integer(value) => value as f64,
                Value::Number(value) => value,
                _ => f64::NAN,
            };
            in_range(number.is_finite() && (*min..=*max).contains(&number))?;
            Ok(Json::from(number))
        }
        (Type::Text, Value::Text(text)) => Ok(Json::from(text.as_str())),
        (Type::Size, Value::Text(text)) => {
            let bytes = parse_bytes(text).filter(|bytes| *bytes > 0);
            bytes.map(Json::from).ok_or(Misfit::Size)
        }
        (Type::Choice(names), Value::Text(text)) => {
            if names.contains(&text.as_str()) {
                Ok(Json::from(text.as_str()))
            } else {
                Err(Misfit::Choice)
            }
        }
        (Type::Path, Value::Text(text)) => absolute(node, text).map(Json::from),
        (Type::Source, Value::Text(text)) => match text.split_once(':') {
            Some(("path", path)) => Ok(Json::from(format!("path:{}", absolute(node, path)?))),
            Some((scheme, _)) if !scheme.is_empty() => Ok(Json::from(text.as_str())),
            _ => Err(Misfit::Scheme),
        },
        _ => Err(Misfit::Type),
    }
}

/// The path, relative to the folder of the text it is written in; `~/` is the user's home.
fn absolute(node: &Node, text: &str) -> Result<String, Misfit> {
    if text.is_empty() {
        return Err(Misfit::Empty);
    }
    let home = text.strip_prefix("~/").and_then(|rest| Some(std::env::home_dir()?.join(rest)));
    let path = home.unwrap_or_else(|| node.folder.join(text));
    let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    path.into_os_string().into_string().map_err(|_| Misfit::Folder)
}

impl Misfit {
    fn diagnostic(self, path: &str, node: &Node, of: &Type) -> Diagnostic {
        let (found, expected) = (found(&node.value), format!("expected {}", expected(of)));
        let (message, label) = match self {
            Misfit::Type => {
                (format!("`{path}` can't be {found}"), format!("{expected}, found {found}"))
            }
            Misfit::Range => (format!("`{path}` is out of range"), expected),
            Misfit::Length => (format!("`{path}` has the wrong length"), expected),
            Misfit::Choice => (format!("`{path}` can't be {}", quoted(&node.value)), expected),
            Misfit::Size => (format!("`{path}` can't be {}", quoted(&node.value)), expected),
            Misfit::Scheme => (format!("`{path}` lacks a scheme"), expected),
            Misfit::Empty => (format!("`{path}` can't be empty"), expected),
            Misfit::Folder => (
                format!("`{path}` is in a folder whose name isn't UTF-8"),
                "relative to it".to_owned(),
            ),
        };
        Diagnostic::new(message).at(node.origin.clone()).label(label).help(remedy(node, of))
    }
}

/// A short text, in quotes.
fn quoted(value: &Value) -> String {
    match value {
        Value::Text(text) if text.chars().count() <= 40 => format!("{text:?}"),
        _ => "this text".to_owned(),
    }
}

/// The text to write instead, if it can be known.
fn remedy(node: &Node, of: &Type) -> Option<String> {
    let fits = |value: Value| {
        let json = fit_scalar(&Node { value, ..node.clone() }, of).ok()?;
        Some(format!("write `{}`", toml_text(&json)))
    };
    match (of, &node.value) {
        (Type::Choice(names), Value::Text(text)) => {
            nearest(text, names.iter().copied()).map(|near| format!("did you mean \"{near}\"?"))
        }
        (Type::Source, Value::Text(text)) if !text.contains(':') => {
            Some(format!("for a folder, write `path:{text}`"))
        }
        (Type::Either(types), _) => types.iter().find_map(|of| remedy(node, of)),
        (Type::Size, _) => None,
        (Type::List(item) | Type::Array(item, _), value) if is_alike(item, value) => {
            Some("write it as a list, in [ ]".to_owned())
        }
        (_, Value::Text(text)) => {
            let number =
                text.parse().ok().map(Value::Integer).or(text.parse().ok().map(Value::Number));
            number.or(text.parse().ok().map(Value::Bool)).and_then(fits)
        }
        (_, Value::Number(number)) if *number == number.trunc() && number.abs() < 1e15 => {
            fits(Value::Integer(*number as i64))
        }
        (_, Value::Integer(number)) => fits(Value::Text(number.to_string())),
        (_, Value::Bool(value)) => fits(Value::Text(value.to_string())),
        _ => None,
    }
}
