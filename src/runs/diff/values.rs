//! Compares two JSON values leaf by leaf.

use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The path: `head.dropout`.
    pub key: String,
    /// `None` where the first has no such key.
    pub first: Option<Value>,
    /// `None` where the second has no such key.
    pub second: Option<Value>,
}

impl fmt::Display for Change {
    /// `train.epochs: 8 -> 3`; `-` where a side has no such key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| match value {
            None => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        write!(f, "{}: {} -> {}", self.key, shown(&self.first), shown(&self.second))
    }
}

/// The leaves that differ, sorted by path. A list is one leaf.
pub(super) fn changes(first: Option<&Value>, second: Option<&Value>) -> Vec<Change> {
    let (mut a, b) = (leaves(first), leaves(second));
    let mut changes: Vec<Change> = Vec::new();
    for (key, value) in b {
        let before = a.remove(&key);
        if before != Some(value) {
            changes.push(Change { key, first: before.cloned(), second: Some(value.clone()) });
        }
    }
    changes.extend(a.into_iter().map(|(key, value)| Change {
        key,
        first: Some(value.clone()),
        second: None,
    }));
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

fn leaves(value: Option<&Value>) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    if let Some(value) = value {
        collect(String::new(), value, &mut found);
    }
    found
}

/// An empty table is a leaf, so that it differs from a missing one. The root is never a leaf if it
/// is a table.
fn collect<'a>(path: String, value: &'a Value, found: &mut BTreeMap<String, &'a Value>) {
    match value {
        Value::Object(table) if path.is_empty() || !table.is_empty() => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(path, value, found);
            }
        }
        _ => {
            found.insert(path, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn differing_leaves_are_listed_by_path() {
        let first = json!({ "epochs": 8, "head": { "hidden": [256], "dropout": 0.5 }, "old": true, "same": {} });
        let second = json!({ "epochs": 3, "head": { "hidden": [256, 64], "dropout": 0.5 }, "new": null, "same": {} });
        let change = |key: &str, first, second| Change { key: key.to_owned(), first, second };
        assert_eq!(
            changes(Some(&first), Some(&second)),
            [
                change("epochs", Some(json!(8)), Some(json!(3))),
                change("head.hidden", Some(json!([256])), Some(json!([256, 64]))),
                change("new", None, Some(json!(null))),
                change("old", Some(json!(true)), None),
            ]
        );
    }

    #[test]
    fn all_leaves_differ_from_a_missing_value() {
        let value = json!({ "a": 1, "b": { "c": 2 } });
        assert_eq!(changes(None, Some(&value)).len(), 2);
        assert_eq!(changes(Some(&value), None).len(), 2);
        assert_eq!(changes(None, None), []);
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![any::<bool>().prop_map(Value::from), any::<i32>().prop_map(Value::from)];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                .prop_map(|table| Value::Object(table.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn a_value_equals_itself_and_sides_can_be_swapped(first in tree(), second in tree()) {
            prop_assert_eq!(changes(Some(&first), Some(&first)), Vec::new());
            let swapped: Vec<Change> = changes(Some(&second), Some(&first))
                .into_iter()
                .map(|change| Change { key: change.key, first: change.second, second: change.first })
                .collect();
            prop_assert_eq!(changes(Some(&first), Some(&second)), swapped);
        }
    }
}
