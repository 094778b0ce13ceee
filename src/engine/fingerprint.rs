//! Everything that affects what a stage makes, as a readable record. The digest of its canonical text is the cache key;
//! the record itself only explains.
//!
//! | in it | not in it |
//! | --- | --- |
//! | the format of fingerprints | the stage's and the pipeline's name |
//! | the kind and the version of its code | parameters at their default, and those that only affect execution |
//! | other parameters, presets resolved | paths, for which a kind puts digests (`facts`) |
//! | digests of inputs: of the parts that the kind reads | which stage feeds an input |
//! | the seed, where the kind draws random numbers | the seed of a kind that draws none |
//! | the class of the device, where it changes numbers | threads, jobs, timeouts, times, log levels |

use crate::config::{DefaultValue, KeyDecl, Type};
use crate::store::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The format of fingerprints. A new one means that everything is made again.
pub const FORMAT: u32 = 1;

/// The record. See the module's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// [`FORMAT`].
    pub format: u32,
    /// The kind's name.
    pub kind: String,
    /// The version of its code.
    pub version: u32,
    /// Parameters that affect the output and aren't at their default, by dotted path.
    pub parameters: BTreeMap<String, Json>,
    /// Role -> digest of the parts of that input that are read.
    pub inputs: BTreeMap<String, Digest>,
    /// Facts from outside.
    pub facts: BTreeMap<String, Json>,
    /// The seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The class of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// What makes differences readable: facts of the stage as it is now that aren't in the fingerprint.
#[derive(Clone, Copy, Default)]
pub(super) struct Words<'a> {
    /// Role -> stage that feeds it.
    pub needs: Option<&'a BTreeMap<String, String>>,
    /// Declared parameters, for their defaults.
    pub declared: &'a [KeyDecl],
    /// Those of `[dataset]`.
    pub dataset: &'a [KeyDecl],
}

impl Words<'_> {
    fn default_of(&self, path: &str) -> Option<Json> {
        match path.strip_prefix("dataset.") {
            Some(path) => default_of(self.dataset, path),
            None => default_of(self.declared, path),
        }
    }

    /// Whether a parameter has no default: where it isn't in a fingerprint, a fact stands for it.
    fn is_required(&self, path: &str) -> bool {
        let is_it = |parameter: &&KeyDecl| {
            parameter.name == path && matches!(parameter.default, DefaultValue::Required)
        };
        self.declared.iter().any(|parameter| is_it(&parameter))
    }
}

impl Fingerprint {
    /// The cache key.
    pub fn key(&self) -> Digest {
        let json = serde_json::to_value(self).unwrap_or_default();
        Digest::of(canonical(&json).as_bytes())
    }

    /// What is different from an `earlier` one, a sentence each, most telling first: "epochs: 8 -> 3".
    pub fn differences(&self, earlier: &Fingerprint) -> Vec<String> {
        self.explain(earlier, Words::default())
    }

    pub(super) fn explain(&self, earlier: &Fingerprint, words: Words) -> Vec<String> {
        let mut list = Vec::new();
        if self.kind != earlier.kind {
            list.push(format!("kind: {} -> {}", earlier.kind, self.kind));
        }
        for (name, before, now) in changed(&earlier.parameters, &self.parameters) {
            let show = |value: Option<&Json>| match (value, words.default_of(name)) {
                (Some(value), _) => shown(value),
                (None, Some(default)) => format!("{} (default)", shown(&default)),
                (None, None) if words.is_required(name) => "none".to_owned(),
                (None, None) => "default".to_owned(),
            };
            list.push(format!("{name}: {} -> {}", show(before), show(now)));
        }
        if self.seed != earlier.seed {
            list.push(format!("seed: {} -> {}", or_none(&earlier.seed), or_none(&self.seed)));
        }
        for (name, before, now) in changed(&earlier.facts, &self.facts) {
            let show = |value: Option<&Json>| value.map_or("none".to_owned(), shown);
            list.push(format!("{name}: {} -> {}", show(before), show(now)));
        }
        for (role, before, now) in changed(&earlier.inputs, &self.inputs) {
            let from = words
                .needs
                .and_then(|needs| needs.get(role))
                .map_or(String::new(), |stage| format!(" ({stage})"));
            list.push(match (before, now) {
                (None, _) => format!("input `{role}` is new{from}"),
                (_, None) => format!("input `{role}` is gone"),
                _ => format!("input `{role}` changed{from}"),
            });
        }
        if self.device != earlier.device {
            list.push(format!("device: {} -> {}", or_none(&earlier.device), or_none(&self.device)));
        }
        if self.version != earlier.version && self.kind == earlier.kind {
            list.push(format!(
                "the code of `{}` changed: version {} -> {}",
                self.kind, earlier.version, self.version
            ));
        }
        if self.format != earlier.format {
            list.push(format!(
                "the format of cache keys changed: {} -> {}",
                earlier.format, self.format
            ));
        }
        list
    }
}

/// Names whose values differ, with both values.
fn changed<'a, T: PartialEq>(
    before: &'a BTreeMap<String, T>,
    now: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = (&'a String, Option<&'a T>, Option<&'a T>)> {
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let pairs = names.into_iter().map(|name| (name, before.get(name), now.get(name)));
    pairs.filter(|(_, before, now)| before != now)
}

fn or_none(value: &Option<impl ToString>) -> String {
    value.as_ref().map_or("none".to_owned(), ToString::to_string)
}

/// A value as a user would write it, long ones cut, digests short.
fn shown(value: &Json) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        Json::String(text) => match text.parse::<Digest>() {
            Ok(digest) => digest.short(),
            Err(_) => text.clone(),
        },
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// The declared default of a parameter by dotted path.
fn default_of(declared: &[KeyDecl], path: &str) -> Option<Json> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let parameter = declared.iter().find(|parameter| parameter.name == name)?;
    match (rest, parameter.of, parameter.default) {
        (None, _, DefaultValue::Json(text)) => serde_json::from_str(text).ok(),
        (Some(rest), Type::Table(inner), _) => default_of(inner, rest),
        _ => None,
    }
}

/// JSON text that is the same for equal values: keys sorted, no spaces, and 1.0 written as 1, so that it doesn't matter
/// how a number was parsed.
fn canonical(value: &Json) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Json, text: &mut String) {
    const EXACT: f64 = (1u64 << 53) as f64;
    match value {
        Json::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            text.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_canonical(&Json::String(key.clone()), text);
                text.push(':');
                write_canonical(value, text);
            }
            text.push('}');
        }
        Json::Array(list) => {
            text.push('[');
            for (index, value) in list.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_canonical(value, text);
            }
            text.push(']');
        }
        Json::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => {
                // Writing to a String can't fail.
                let _ = write!(text, "{}", float as i64);
            }
            _ => text.push_str(&number.to_string()),
        },
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn example() -> Fingerprint {
        Fingerprint {
            format: FORMAT,
            kind: "train".into(),
            version: 3,
            parameters: BTreeMap::from([
                ("epochs".into(), json!(8)),
                ("head.dropout".into(), json!(0.25)),
            ]),
            inputs: BTreeMap::from([("data".into(), Digest::of(b"data"))]),
            facts: BTreeMap::new(),
            seed: Some(42),
            device: Some("cpu".into()),
        }
    }

    #[test]
    fn differences_name_what_changed() {
        const HEAD: &[KeyDecl] = &[KeyDecl::new(
            "dropout",
            Type::Number { min: 0.0, max: 1.0 },
            DefaultValue::Json("0.5"),
            "",
        )];
        const DECLARED: &[KeyDecl] =
            &[KeyDecl::new("head", Type::Table(HEAD), DefaultValue::Json("{}"), "")];
        let earlier = example();
        let mut now = example();
        assert_eq!(now.differences(&earlier), Vec::<String>::new());
        now.parameters.insert("epochs".into(), json!(3));
        now.parameters.remove("head.dropout");
        now.inputs.insert("data".into(), Digest::of(b"other"));
        now.inputs.insert("weights".into(), Digest::of(b"new"));
        now.facts.insert("listing".into(), json!(Digest::of(b"abc").to_string()));
        now.seed = Some(7);
        now.device = Some("cuda".into());
        now.version = 4;
        let needs = BTreeMap::from([("data".to_owned(), "preprocess".to_owned())]);
        assert_eq!(
            now.explain(&earlier, Words { needs: Some(&needs), declared: DECLARED, dataset: &[] }),
            [
                "epochs: 8 -> 3",
                "head.dropout: 0.25 -> 0.5 (default)",
                "seed: 42 -> 7",
                "listing: none -> ba7816bf8f01",
                "input `data` changed (preprocess)",
                "input `weights` is new",
                "device: cpu -> cuda",
                "the code of `train` changed: version 3 -> 4",
            ]
        );
        assert!(now.differences(&earlier).contains(&"head.dropout: 0.25 -> default".to_owned()));
    }

    #[test]
    fn the_key_is_pinned_and_blind_to_how_json_was_written() {
        assert_eq!(example().key().short(), "77c0800fd0e4");
        let mut other = example();
        other.parameters.insert("epochs".into(), json!(8.0));
        assert_eq!(other.key(), example().key());
        assert_eq!(
            canonical(&json!({"b": [1.0, 0.1, 1e300, null], "a": {"d": "\"", "c": true}})),
            r#"{"a":{"c":true,"d":"\""},"b":[1,0.1,1e+300,null]}"#
        );
        let text = serde_json::to_string(&example()).unwrap();
        assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), example());
    }

    #[test]
    fn every_field_is_part_of_the_key() {
        let changes: [fn(&mut Fingerprint); 8] = [
            |f| f.format += 1,
            |f| f.kind.push('x'),
            |f| f.version += 1,
            |f| {
                f.parameters.insert("epochs".into(), json!(9));
            },
            |f| {
                f.inputs.insert("data".into(), Digest::of(b"x"));
            },
            |f| {
                f.facts.insert("a".into(), json!(1));
            },
            |f| f.seed = None,
            |f| f.device = None,
        ];
        let mut keys: Vec<Digest> = changes
            .iter()
            .map(|change| {
                let mut fingerprint = example();
                change(&mut fingerprint);
                fingerprint.key()
            })
            .collect();
        keys.push(example().key());
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), changes.len() + 1);
    }
}
