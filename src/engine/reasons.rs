//! Finds why a stage has to run: compares its fingerprint with those of earlier builds.

use super::FactChange;
use super::fingerprint::Fingerprint;
use super::graph::Stage;
use crate::config::{DefaultValue, KeyDecl};
use crate::events::{KeyValue, Reason};
use crate::store::Store;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Why `stage` has to run, given that the store has no artifact for `now`. `earlier` holds
/// fingerprints with the names of their stages; the one with the fewest differences is compared.
pub(super) fn reasons(
    stage: &Stage,
    now: &Fingerprint,
    earlier: &[(String, Fingerprint)],
    store: &Store,
) -> Vec<Reason> {
    match closest(stage, now, earlier, store) {
        None => vec![Reason::NeverBuilt],
        Some((_, list)) if list.is_empty() => vec![Reason::ArtifactMissing],
        Some((_, list)) => list,
    }
}

/// The earlier fingerprint with the fewest differences, and these; of several the first. None if
/// there is none to compare with.
pub(super) fn closest<'a>(
    stage: &Stage,
    now: &Fingerprint,
    earlier: &'a [(String, Fingerprint)],
    store: &Store,
) -> Option<(&'a Fingerprint, Vec<Reason>)> {
    // Another stage of the same kind is comparable only if it was made from the same kind of
    // source: fetched weights explain nothing about fetched images.
    let is_comparable = |(name, earlier): &&(String, Fingerprint)| {
        *name == stage.name || earlier.facts.keys().eq(now.facts.keys())
    };
    let comparison = Comparison {
        needs: &stage.needs,
        declared: stage.kind.keys(),
        dataset: stage.kind.dataset(),
    };
    let comparable = earlier.iter().filter(is_comparable);
    let differences =
        comparable.map(|(_, earlier)| (earlier, comparison.differences(earlier, now)));
    let (earlier, list) = differences.min_by_key(|(_, list)| list.len())?;
    let list = list.into_iter().map(|reason| detailed(reason, stage, earlier, store));
    Some((earlier, list.collect()))
}

/// Replaces two digests by the files or rows that differ, where the kind knows them.
fn detailed(reason: Reason, stage: &Stage, earlier: &Fingerprint, store: &Store) -> Reason {
    let Reason::FactChanged { fact, old: Some(old), new: Some(new) } = &reason else {
        return reason;
    };
    let change = FactChange { fact, old, new, store, earlier: earlier.key() };
    match stage.kind.changes(&stage.values, &change) {
        Some(changes) => Reason::FilesChanged { fact: fact.clone(), changes },
        None => reason,
    }
}

/// The context of a comparison besides the two fingerprints.
struct Comparison<'a> {
    /// Role -> name of the stage that feeds it.
    needs: &'a BTreeMap<String, String>,
    /// The stage's declared keys.
    declared: &'static [KeyDecl],
    /// The declared keys of `[dataset]`.
    dataset: &'static [KeyDecl],
}

impl Comparison<'_> {
    /// The differences between two fingerprints, most important first.
    fn differences(&self, earlier: &Fingerprint, now: &Fingerprint) -> Vec<Reason> {
        let mut list = Vec::new();
        if now.kind != earlier.kind {
            list.push(Reason::KindChanged { old: earlier.kind.clone(), new: now.kind.clone() });
        }
        list.extend(self.changed_keys(&earlier.parameters, &now.parameters));
        if now.seed != earlier.seed {
            list.push(Reason::SeedChanged { old: earlier.seed, new: now.seed });
        }
        list.extend(changed(&earlier.facts, &now.facts).map(|(fact, old, new)| {
            Reason::FactChanged { fact: fact.clone(), old: old.cloned(), new: new.cloned() }
        }));
        list.extend(changed(&earlier.inputs, &now.inputs).map(|(role, old, new)| {
            let (role, stage) = (role.clone(), self.needs.get(role).cloned());
            match (old, new) {
                (Some(old), Some(new)) => {
                    Reason::InputChanged { role, stage, old: old.to_string(), new: new.to_string() }
                }
                (_, Some(_)) => Reason::InputAdded { role, stage },
                (_, None) => Reason::InputRemoved { role },
            }
        }));
        if now.device != earlier.device {
            let (old, new) = (earlier.device.clone(), now.device.clone());
            list.push(Reason::DeviceChanged { old, new });
        }
        if now.version != earlier.version && now.kind == earlier.kind {
            let (old, new) = (earlier.version, now.version);
            list.push(Reason::CodeChanged { kind: now.kind.clone(), old, new });
        }
        if now.format != earlier.format {
            list.push(Reason::FormatChanged { old: earlier.format, new: now.format });
        }
        list
    }

    /// The keys that differ. A table that only one side has is one difference, not one for each of
    /// its keys.
    fn changed_keys(&self, old: &Entries, new: &Entries) -> Vec<Reason> {
        let mut whole: Vec<String> = Vec::new();
        let mut reasons = Vec::new();
        for (path, before, after) in changed(old, new) {
            if whole.iter().any(|table| path.starts_with(table.as_str())) {
                continue;
            }
            if is_table(before) != is_table(after) {
                whole.push(format!("{path}."));
            }
            let (old, new) = (self.value_of(path, old, before), self.value_of(path, new, after));
            reasons.push(Reason::KeyChanged { path: path.clone(), old, new });
        }
        reasons
    }

    /// The value of a key whose entry among those of the fingerprint is `entry`.
    fn value_of(&self, path: &str, entries: &Entries, entry: Option<&Json>) -> KeyValue {
        match entry {
            // A table of declared keys has an entry of its own and one for each of its keys.
            Some(Json::Object(table)) if table.is_empty() => {
                KeyValue::Given(table_at(path, entries))
            }
            Some(value) => KeyValue::Given(value.clone()),
            None => default_of(match path.strip_prefix("dataset.") {
                Some(path) => declared_at(self.dataset, path),
                None => declared_at(self.declared, path),
            }),
        }
    }
}

/// The parameters of a fingerprint by dotted path.
type Entries = BTreeMap<String, Json>;

fn is_table(entry: Option<&Json>) -> bool {
    entry.is_some_and(Json::is_object)
}

/// The table at `path` with the entries below it.
fn table_at(path: &str, entries: &Entries) -> Json {
    let below = entries.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(path)?.strip_prefix('.')?;
        Some((name.to_owned(), value.clone()))
    });
    Json::Object(below.collect())
}

/// The entries that differ, with both values.
fn changed<'a, T: PartialEq>(
    old: &'a BTreeMap<String, T>,
    new: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = (&'a String, Option<&'a T>, Option<&'a T>)> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let pairs = names.into_iter().map(|name| (name, old.get(name), new.get(name)));
    pairs.filter(|(_, old, new)| old != new)
}

/// The value of a key that isn't given.
fn default_of(key: Option<&KeyDecl>) -> KeyValue {
    match key.map(|key| key.default) {
        Some(DefaultValue::Json(text)) => {
            KeyValue::Default(Some(serde_json::from_str(text).expect("a declared default is JSON")))
        }
        // A required key that isn't there is replaced by a fact.
        Some(DefaultValue::Absent | DefaultValue::Required) => KeyValue::Absent,
        Some(DefaultValue::Computed) | None => KeyValue::Default(None),
    }
}

/// The declaration of a key by dotted path.
fn declared_at(declared: &'static [KeyDecl], path: &str) -> Option<&'static KeyDecl> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let key = declared.iter().find(|key| key.name == name)?;
    match rest {
        None => Some(key),
        Some(rest) => key.of.tables().into_iter().find_map(|inner| declared_at(inner, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Type;
    use crate::engine::fingerprint::tests::example;
    use crate::store::Digest;
    use serde_json::json;

    #[test]
    fn differences_carry_old_and_new_values() {
        const HEAD: &[KeyDecl] = &[KeyDecl::new(
            "dropout",
            Type::Number { min: 0.0, max: 1.0 },
            DefaultValue::Json("0.5"),
            "",
        )];
        const DECLARED: &[KeyDecl] =
            &[KeyDecl::new("head", Type::Table(HEAD), DefaultValue::Json("{}"), "")];
        let needs = BTreeMap::from([("data".to_owned(), "preprocess".to_owned())]);
        let texts = |declared: &'static [KeyDecl],
                     earlier: &Fingerprint,
                     now: &Fingerprint|
         -> Vec<String> {
            let comparison = Comparison { needs: &needs, declared, dataset: &[] };
            comparison.differences(earlier, now).iter().map(Reason::to_string).collect()
        };
        let earlier = example();
        let mut now = example();
        assert_eq!(texts(DECLARED, &earlier, &now), Vec::<String>::new());
        now.parameters.insert("epochs".into(), json!(3));
        now.parameters.remove("head.dropout");
        now.inputs.insert("data".into(), Digest::of(b"other"));
        now.inputs.insert("weights".into(), Digest::of(b"new"));
        now.facts.insert("listing".into(), json!(Digest::of(b"abc").to_string()));
        now.seed = Some(7);
        now.device = Some("cuda".into());
        now.version = 4;
        assert_eq!(
            texts(DECLARED, &earlier, &now),
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
        // A table that is gone is one difference.
        const CROP: &[KeyDecl] = &[
            KeyDecl::new("crop", Type::Table(HEAD), DefaultValue::Absent, ""),
            KeyDecl::new("flip", Type::Bool, DefaultValue::Json("false"), ""),
        ];
        let mut with = example();
        let mut without = example();
        with.parameters.insert("crop".into(), json!({}));
        with.parameters.insert("crop.dropout".into(), json!(0.25));
        with.parameters.insert("flip".into(), json!(true));
        assert_eq!(
            texts(CROP, &with, &without),
            ["crop: { dropout = 0.25 } -> none", "flip: true -> false (default)"]
        );
        without.parameters.insert("crop".into(), json!("none"));
        assert_eq!(texts(CROP, &without, &with)[0], "crop: none -> { dropout = 0.25 }");
        let undeclared = texts(&[], &earlier, &now);
        assert!(undeclared.contains(&"head.dropout: 0.25 -> default".to_owned()));
    }
}
