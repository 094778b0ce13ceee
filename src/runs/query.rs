//! Selecting and sorting runs: `name=baseline`, `train.epochs=3`, `accuracy>0.9`.

use super::{Record, Results};
use serde_json::Value;
use std::cmp::Ordering;

/// The operators, longer ones first.
const OPERATORS: [&str; 6] = ["!=", ">=", "<=", "=", ">", "<"];

/// Fields of every run that a filter can name, beside parameters such as `train.epochs`.
pub const FIELDS: [&str; 10] = [
    "name", "tag", "note", "pipeline", "status", "seed", "seconds", "accuracy", "macro_f1", "loss",
];

/// A condition on runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    key: String,
    operator: &'static str,
    value: String,
}

impl Filter {
    /// Parses `KEY=VALUE` or the same with `!=`, `<`, `<=`, `>`, `>=`.
    pub fn parse(text: &str) -> Option<Filter> {
        let at = text.find(['!', '=', '<', '>'])?;
        let (key, rest) = text.split_at(at);
        let operator = OPERATORS.into_iter().find(|operator| rest.starts_with(operator))?;
        let value = rest[operator.len()..].trim();
        let key = key.trim();
        (!key.is_empty()).then(|| Filter { key: key.to_owned(), operator, value: value.to_owned() })
    }

    /// The key that it is about.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether the condition holds for any of the run's values of the key; none of them must be
    /// equal for `!=`.
    pub fn matches(&self, record: &Record) -> bool {
        let values = values(record, &self.key);
        let holds = |wanted: fn(Ordering) -> bool| {
            values.iter().any(|value| compared(value, &self.value).is_some_and(wanted))
        };
        match self.operator {
            "=" => holds(Ordering::is_eq),
            "!=" => !holds(Ordering::is_eq),
            ">" => holds(Ordering::is_gt),
            ">=" => holds(Ordering::is_ge),
            "<" => holds(Ordering::is_lt),
            _ => holds(Ordering::is_le),
        }
    }
}

/// Whether any of the runs has this field or parameter.
pub fn is_known<'a>(records: impl IntoIterator<Item = &'a Record>, key: &str) -> bool {
    FIELDS.contains(&key) || records.into_iter().any(|record| !values(record, key).is_empty())
}

/// Sorts runs by a field or parameter, the largest value first, those without it last.
pub fn sort<'r, T>(runs: &mut [T], key: &str, record: impl Fn(&T) -> &'r Record) {
    runs.sort_by_cached_key(|run| Sortable(values(record(run), key).into_iter().next()));
}

/// A value in descending order.
struct Sortable(Option<Value>);

impl Ord for Sortable {
    fn cmp(&self, other: &Sortable) -> Ordering {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => match (one.as_f64(), other.as_f64()) {
                (Some(one), Some(other)) => other.total_cmp(&one),
                // Numbers come after text.
                (first, second) => {
                    let kinds = first.is_some().cmp(&second.is_some());
                    kinds.then_with(|| text(other).cmp(&text(one)))
                }
            },
            (one, other) => other.is_some().cmp(&one.is_some()),
        }
    }
}

impl PartialOrd for Sortable {
    fn partial_cmp(&self, other: &Sortable) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Sortable {
    fn eq(&self, other: &Sortable) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Sortable {}

/// Compares as numbers where both are, else as text.
fn compared(value: &Value, wanted: &str) -> Option<Ordering> {
    match (value.as_f64(), wanted.parse::<f64>()) {
        (Some(value), Ok(wanted)) => value.partial_cmp(&wanted),
        _ => Some(text(value).as_str().cmp(wanted)),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The values of a key in a run: several for tags, and for a parameter that several stages have.
fn values(record: &Record, key: &str) -> Vec<Value> {
    let text = |text: &str| if text.is_empty() { Vec::new() } else { vec![Value::from(text)] };
    match key {
        "name" => text(&record.labels.name),
        "note" => text(&record.labels.note),
        "tag" => record.labels.tags.iter().map(|tag| Value::from(tag.as_str())).collect(),
        "pipeline" => text(&record.pipeline),
        "status" => text(record.status.as_str()),
        "seed" => vec![Value::from(record.seed)],
        "seconds" => vec![Value::from(record.seconds)],
        "accuracy" | "macro_f1" | "loss" => metric(record, key).into_iter().collect(),
        _ => parameters(record, key),
    }
}

/// A metric of the last evaluation, on the test split.
fn metric(record: &Record, key: &str) -> Option<Value> {
    let (_, evaluation) = Results::of(record).evaluations().pop()?;
    let split = evaluation.splits.get("test")?;
    let value = match key {
        "accuracy" => split.accuracy,
        "macro_f1" => split.macro_average.f1,
        _ => split.loss,
    };
    Some(Value::from(value))
}

/// The parameter `train.head.dropout`, or `head.dropout` of any stage.
fn parameters(record: &Record, key: &str) -> Vec<Value> {
    let stages = record.stages.iter();
    let found = stages.filter_map(|stage| {
        let of_stage =
            key.strip_prefix(stage.stage.as_str()).and_then(|rest| rest.strip_prefix('.'));
        let find = |path: &str| {
            let mut names = path.split('.');
            let first = stage.parameters.get(names.next()?)?;
            names.try_fold(first, |value, name| value.get(name)).cloned()
        };
        of_stage.and_then(find).or_else(|| find(key))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::{Labels, StageRecord, Status};
    use serde_json::json;

    fn record(name: &str, epochs: u64) -> Record {
        let parameters = json!({ "epochs": epochs, "head": { "dropout": 0.5 } });
        let stage = StageRecord {
            stage: "train".into(),
            parameters: parameters.as_object().unwrap().clone(),
            ..StageRecord::default()
        };
        let tags = ["a".to_owned(), "b".to_owned()].into();
        Record {
            labels: Labels { name: name.into(), note: String::new(), tags },
            status: Status::Ok,
            stages: vec![stage],
            ..Record::default()
        }
    }

    #[test]
    fn filters_select_by_fields_and_parameters() {
        let record = record("base", 12);
        for (text, expected) in [
            ("name=base", true),
            ("name != base", false),
            ("tag=b", true),
            ("tag=c", false),
            ("status=ok", true),
            ("train.epochs=12", true),
            ("epochs>9", true),
            ("epochs<=9", false),
            ("head.dropout>=0.5", true),
            ("train.head.dropout<0.5", false),
            ("accuracy>0", false),
            ("note=", false),
        ] {
            assert_eq!(Filter::parse(text).unwrap().matches(&record), expected, "{text}");
        }
        for wrong in ["", "name", "=1", "!x"] {
            assert_eq!(Filter::parse(wrong), None, "{wrong}");
        }
        let records = [record];
        assert!(is_known(&records, "epochs") && is_known([], "name"));
        assert!(!is_known(&records, "epoch"));
    }

    #[test]
    fn the_largest_come_first_and_those_without_a_value_last() {
        let mut without = record("none", 0);
        without.stages.clear();
        let records = [record("few", 9), without, record("many", 12)];
        let mut order = [0, 1, 2];
        sort(&mut order, "epochs", |&at: &usize| &records[at]);
        let names = order.map(|at| records[at].labels.name.as_str());
        assert_eq!(names, ["many", "few", "none"]);
        // A total order of numbers and text that looks like numbers.
        let values = ["10", "9", "95"].map(|text| Sortable(Some(Value::from(text))));
        let values = values.into_iter().chain([9, 10].map(|one| Sortable(Some(Value::from(one)))));
        let mut values: Vec<Sortable> = values.collect();
        values.sort();
        let values: Vec<String> =
            values.iter().filter_map(|one| one.0.as_ref().map(Value::to_string)).collect();
        assert_eq!(values, ["\"95\"", "\"9\"", "\"10\"", "10", "9"]);
    }
}
