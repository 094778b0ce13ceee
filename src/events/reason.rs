//! Why a stage has to run: the reasons, with old and new values. The code of a reason is for
//! programs, its [`Display`](fmt::Display) is the one text that people read.

use super::FileChanges;
use crate::common::number;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::fmt;

/// A reason why a stage isn't fresh. Serialized with its kebab-case name as `code`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Reason {
    /// The user asked to run the stage in any case.
    Forced,
    /// No earlier build is known to compare with.
    NeverBuilt,
    /// An artifact was built for this key, but it is no longer in the store.
    ArtifactMissing,
    /// The artifact in the store is damaged.
    ArtifactDamaged {
        /// The damage and the place to which it was moved.
        message: String,
    },
    /// It isn't here, but need not run: a cache elsewhere has the artifact.
    Remote {
        place: String,
        /// Its size.
        bytes: u64,
    },
    KindChanged {
        old: String,
        new: String,
    },
    /// The value of a key of the pipeline file changed.
    KeyChanged {
        /// The key's dotted path, relative to the stage's table.
        path: String,
        old: KeyValue,
        new: KeyValue,
    },
    SeedChanged {
        old: Option<u64>,
        new: Option<u64>,
    },
    /// A fact from outside the store changed, such as the digest of a folder's listing.
    FactChanged {
        fact: String,
        old: Option<Json>,
        new: Option<Json>,
    },
    /// Files outside the store, or rows of a table, came, went or changed.
    FilesChanged {
        fact: String,
        #[serde(flatten)]
        changes: FileChanges,
    },
    InputAdded {
        role: String,
        /// The stage that feeds the input, if known.
        stage: Option<String>,
    },
    InputRemoved {
        role: String,
    },
    /// The content of an input changed. `old` and `new` are digests of the files that the kind
    /// reads.
    InputChanged {
        role: String,
        /// The stage that feeds the input, if known.
        stage: Option<String>,
        old: String,
        new: String,
    },
    /// The device class changed.
    DeviceChanged {
        old: Option<String>,
        new: Option<String>,
    },
    /// The version of the kind's code changed.
    CodeChanged {
        kind: String,
        old: u32,
        new: u32,
    },
    /// The format of fingerprints changed.
    FormatChanged {
        old: u32,
        new: u32,
    },
}

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyValue {
    Given(Json),
    /// The key is at its default, which is None if there is no such value or it isn't known.
    Default(Option<Json>),
    /// The key has no default and isn't given.
    Absent,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Forced => f.write_str("forced"),
            Reason::NeverBuilt => f.write_str("never ran before"),
            Reason::ArtifactMissing => f.write_str("its artifact is no longer in the store"),
            Reason::ArtifactDamaged { message } => f.write_str(message),
            Reason::Remote { place, bytes } => {
                write!(f, "from {place} ({})", number::bytes(*bytes))
            }
            Reason::KindChanged { old, new } => write!(f, "kind: {old} -> {new}"),
            Reason::KeyChanged { path, old, new } => write!(f, "{path}: {old} -> {new}"),
            Reason::SeedChanged { old, new } => {
                write!(f, "seed: {} -> {}", or_none(old), or_none(new))
            }
            Reason::FactChanged { fact, old, new } => {
                let shown = |value: &Option<Json>| or_none(&value.as_ref().map(shortened));
                write!(f, "{fact}: {} -> {}", shown(old), shown(new))
            }
            Reason::FilesChanged { changes, .. } => changes.fmt(f),
            Reason::InputAdded { role, stage } => write!(f, "input `{role}` is new{}", from(stage)),
            Reason::InputRemoved { role } => write!(f, "input `{role}` is gone"),
            Reason::InputChanged { role, stage, .. } => {
                write!(f, "input `{role}` changed{}", from(stage))
            }
            Reason::DeviceChanged { old, new } => {
                write!(f, "device: {} -> {}", or_none(old), or_none(new))
            }
            Reason::CodeChanged { kind, old, new } => {
                write!(f, "the code of `{kind}` changed: version {old} -> {new}")
            }
            Reason::FormatChanged { old, new } => {
                write!(f, "the format of cache keys changed: {old} -> {new}")
            }
        }
    }
}

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyValue::Given(value) => f.write_str(&shortened(value)),
            KeyValue::Default(Some(value)) => write!(f, "{} (default)", shortened(value)),
            KeyValue::Default(None) => f.write_str("default"),
            KeyValue::Absent => f.write_str("none"),
        }
    }
}

fn or_none(value: &Option<impl ToString>) -> String {
    value.as_ref().map_or("none".to_owned(), ToString::to_string)
}

fn from(stage: &Option<String>) -> String {
    stage.as_ref().map_or(String::new(), |stage| format!(" ({stage})"))
}

/// A value as in a pipeline file. Long values are cut, digests are shortened to 12 digits.
fn shortened(value: &Json) -> String {
    const LONGEST: usize = 60;
    const DIGITS: usize = 12;
    let text = match value {
        Json::String(text) => text.clone(),
        other => inline(other),
    };
    let is_digest =
        text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_digest {
        return text[..DIGITS].to_owned();
    }
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A value as TOML writes it in a line: `{ scale = [0.8, 1.0], ratio = [1, 1] }`.
fn inline(value: &Json) -> String {
    match value {
        Json::Object(table) if !table.is_empty() => {
            let entries = table.iter().map(|(key, value)| format!("{key} = {}", inline(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reason_serializes_with_its_code_and_values() {
        let reason = Reason::KeyChanged {
            path: "epochs".into(),
            old: KeyValue::Given(json!(8)),
            new: KeyValue::Default(Some(json!(20))),
        };
        let expected = json!({
            "code": "key-changed", "path": "epochs", "old": {"given": 8}, "new": {"default": 20}
        });
        assert_eq!(serde_json::to_value(&reason).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Reason>(expected).unwrap(), reason);
        let old = [("a.jpg".to_owned(), 1)];
        let changes = FileChanges::between("", "file", &old, &[]).unwrap();
        let removed = Reason::FilesChanged { fact: "listing".into(), changes };
        let json = serde_json::to_value(&removed).unwrap();
        assert_eq!(json["code"], "files-changed");
        assert_eq!(json["removed"], json!({"count": 1, "first": ["a.jpg"]}));
        assert_eq!(serde_json::from_value::<Reason>(json).unwrap(), removed);
        assert_eq!(serde_json::to_value(Reason::Forced).unwrap(), json!({"code": "forced"}));
    }

    #[test]
    fn long_values_and_digests_are_shortened() {
        let fact = |new| Reason::FactChanged { fact: "listing".into(), old: None, new: Some(new) };
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fact(json!(digest)).to_string(), "listing: none -> ba7816bf8f01");
        let long = fact(json!("é".repeat(80))).to_string();
        assert_eq!(long, format!("listing: none -> {}…", "é".repeat(60)));
    }
}
