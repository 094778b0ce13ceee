//! The fingerprint: a readable record of everything that affects a stage's output. The digest of
//! its canonical text is the cache key; the record itself serves to explain a key.
//!
//! | part of it | not part of it |
//! | --- | --- |
//! | the format of fingerprints | the names of the stage and of the pipeline |
//! | the kind and its code version | keys at their default, and keys that affect only execution |
//! | all other keys, presets resolved | paths, which a kind replaces by digests (`facts`) |
//! | digests of the parts of the inputs that the kind reads | which stage feeds an input |
//! | the seed, if the kind draws random numbers | the seed otherwise |
//! | the device class, if it changes numbers | threads, jobs, timeouts, times, log levels |

use crate::store::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The format of fingerprints. A new format invalidates every cache key.
///
/// Versions: 1, the first.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// [`FORMAT`].
    pub format: u32,
    pub kind: String,
    /// The version of the kind's code.
    pub version: u32,
    /// Values that affect the output and aren't at their default, by dotted path.
    pub parameters: BTreeMap<String, Json>,
    /// By role, the digest of the parts of the input that the kind reads.
    pub inputs: BTreeMap<String, Digest>,
    /// Facts from outside the store, such as the digest of a folder's listing.
    pub facts: BTreeMap<String, Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The device class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

impl Fingerprint {
    /// The cache key.
    pub fn key(&self) -> Digest {
        // A default in place of an error would give every stage the same key.
        let json = serde_json::to_value(self).expect("a fingerprint serializes to JSON");
        Digest::of(canonical(&json).as_bytes())
    }
}

/// JSON text that is equal for equal values: keys sorted, no spaces, and 1.0 written as 1, so that
/// it doesn't matter whether a number was parsed as an integer.
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
                write!(text, "{}", float as i64).expect("writing to a String can't fail");
            }
            _ => text.push_str(&number.to_string()),
        },
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in crate::engine) fn example() -> Fingerprint {
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
    fn the_key_is_pinned_and_independent_of_how_json_is_written() {
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
