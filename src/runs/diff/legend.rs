//! Names for compared runs that say what differs between them: the user's name, else parameters
//! such as `split.seed=3`, else the id.

use super::super::Record;
use super::changes;
use serde_json::Value;
use std::collections::BTreeMap;

/// The number of parameters in a name, and the longest value in characters.
const SHOWN: usize = 2;
const LONGEST: usize = 24;

/// A name for each run, in their order.
pub fn legends(records: &[&Record]) -> Vec<String> {
    let Some((first, others)) = records.split_first() else { return Vec::new() };
    // Key -> its value in each run, where it isn't the first one's.
    let mut keys: BTreeMap<String, Vec<Option<Value>>> = BTreeMap::new();
    for (at, other) in others.iter().enumerate() {
        for change in changes(first, other) {
            let values =
                keys.entry(change.key).or_insert_with(|| vec![change.first.clone(); records.len()]);
            values[at + 1] = change.second;
        }
    }
    let name = |at: usize| {
        let record = records[at];
        if !record.labels.name.is_empty() {
            return record.labels.name.clone();
        }
        // A table in place of a word brings keys that say nothing, such as `augment.mixup=0.0`.
        let says_something =
            |values: &[Option<Value>]| !(values.contains(&None) && is_off(values[at].as_ref()));
        // A key of `[dataset]` is one of several stages.
        let mut parts: Vec<String> = Vec::new();
        let (first, last): (Vec<_>, Vec<_>) =
            keys.iter().partition(|(_, values)| says_something(values));
        let all = if first.is_empty() { last } else { first };
        for (key, values) in all {
            let name = key.split_once('.').map_or(key.as_str(), |(_, name)| name);
            let part = format!("{name}={}", short(values[at].as_ref()));
            if parts.len() < SHOWN && !parts.contains(&part) {
                parts.push(part);
            }
        }
        parts.join(", ")
    };
    let names: Vec<String> = (0..records.len()).map(name).collect();
    let is_unique = |name: &String| {
        !name.is_empty() && names.iter().filter(|other| *other == name).count() == 1
    };
    let with_id = names.iter().zip(records).map(|(name, record)| match is_unique(name) {
        true => name.clone(),
        false if name.is_empty() => record.id.to_string(),
        false => format!("{name} ({})", record.id),
    });
    with_id.collect()
}

/// Whether a run lacks a value, or has one that turns something off.
fn is_off(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Bool(false)) => true,
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(_) => false,
    }
}

fn short(value: Option<&Value>) -> String {
    let text = match value {
        None => "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
