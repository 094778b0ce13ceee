//! The metadata of a data set on the Hugging Face Hub: its configurations with their files, its
//! licence, and the names of its classes.

use super::pattern::Pattern;
use crate::data::parquet::ClassNames;
use serde_json::Value;
use std::collections::BTreeMap;

/// The largest number of configurations, and of patterns in each.
const MOST: usize = 2000;

/// A configuration of a data set: a choice of its files.
pub(super) struct Configuration {
    pub name: String,
    is_default: bool,
    /// Patterns of paths with the split that they are of, if they are of one.
    pub files: Vec<(Option<String>, Pattern)>,
}

/// The licence, as the author names it.
pub(super) fn licence(card: &Value) -> Option<String> {
    let name = |value: &Value| match value {
        Value::String(name) => Some(name.clone()),
        Value::Array(names) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            Some(names.join(", "))
        }
        _ => None,
    };
    let licence = card.get("license").and_then(name).filter(|name| !name.is_empty());
    let own = || card.get("license_name").and_then(name);
    // Foreign text: one line.
    let licence = if licence.as_deref() == Some("other") { own().or(licence) } else { licence };
    licence.map(|name| name.chars().filter(|letter| !letter.is_control()).take(200).collect())
}

/// The configurations that the author lists.
///
/// # Errors
/// A sentence, if a pattern in them can't be used.
pub(super) fn configurations(card: &Value) -> Result<Vec<Configuration>, String> {
    let listed = card.get("configs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if listed.len() > MOST {
        return Err(format!("its card lists {} configurations; at most {MOST}", listed.len()));
    }
    let mut found = Vec::new();
    for one in listed {
        let text = |key: &str| one.get(key).and_then(Value::as_str);
        let folder = text("data_dir").unwrap_or_default().trim_matches('/');
        let mut files = Vec::new();
        collect(one.get("data_files").unwrap_or(&Value::Null), None, folder, &mut files)?;
        if files.is_empty() && !folder.is_empty() {
            files.push((None, Pattern::parse(folder)?));
        }
        let is_default = one.get("default").and_then(Value::as_bool).unwrap_or(false);
        let name = text("config_name").unwrap_or("default").to_owned();
        found.push(Configuration { name, is_default, files });
    }
    Ok(found)
}

/// The configuration that is meant: the named one, the only one, or the default one. None if the
/// author lists none.
///
/// # Errors
/// A sentence and what to do, if there is no such one, or several.
pub(super) fn chosen(
    mut all: Vec<Configuration>,
    wanted: Option<&str>,
) -> Result<Option<Configuration>, (String, String)> {
    let names: Vec<String> = all.iter().map(|one| format!("`{}`", one.name)).collect();
    let names = names.join(", ");
    let is_wanted = |one: &Configuration| match wanted {
        Some(name) => one.name == name,
        None => one.is_default || one.name == "default",
    };
    let by_default = if wanted.is_none() && all.len() == 1 { Some(0) } else { None };
    match by_default.or_else(|| all.iter().position(is_wanted)) {
        Some(at) => Ok(Some(all.swap_remove(at))),
        None if all.is_empty() && wanted.is_none() => Ok(None),
        None => Err(match wanted {
            Some(name) if all.is_empty() => (
                format!("it has no configuration `{name}`: its author lists none"),
                "leave `config` out".to_owned(),
            ),
            Some(name) => (
                format!("it has no configuration `{name}`"),
                format!("its configurations are {names}"),
            ),
            None => (
                format!("it has several configurations: {names}"),
                format!("choose one in this stage: config = \"{}\"", all[0].name),
            ),
        }),
    }
}

/// The patterns in `data_files`, which may be a text, a list, a split with its paths, or a table from
/// splits to paths.
fn collect(
    value: &Value,
    split: Option<&str>,
    folder: &str,
    files: &mut Vec<(Option<String>, Pattern)>,
) -> Result<(), String> {
    if files.len() >= MOST {
        return Err(format!("its card lists more than {MOST} patterns of files"));
    }
    match value {
        Value::String(text) => {
            let path = text.trim_start_matches("./");
            let path = if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") };
            files.push((split.map(str::to_owned), Pattern::parse(&path)?));
        }
        Value::Array(values) => {
            values.iter().try_for_each(|value| collect(value, split, folder, files))?;
        }
        Value::Object(fields) => match (fields.get("split").and_then(Value::as_str), fields) {
            (Some(split), fields) => {
                let path = fields.get("path").unwrap_or(&Value::Null);
                collect(path, Some(split), folder, files)?;
            }
            (None, fields) => {
                for (split, path) in fields {
                    collect(path, Some(split), folder, files)?;
                }
            }
        },
        _ => {}
    }
    Ok(())
}

/// The names of the classes of each column, as `dataset_info` lists them: with numbers as keys.
pub(super) fn class_names(card: &Value, configuration: Option<&str>) -> ClassNames {
    let info = card.get("dataset_info");
    let all: Vec<&Value> = match info {
        Some(Value::Array(all)) => all.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    let is_meant = |one: &&Value| {
        let name = one.get("config_name").and_then(Value::as_str);
        configuration.is_none() || name.is_none() || name == configuration
    };
    let meant = all.into_iter().filter(is_meant);
    let features = meant.filter_map(|one| one.get("features")?.as_array()).flatten();
    let mut found = ClassNames::new();
    for feature in features {
        let Some(column) = feature.get("name").and_then(Value::as_str) else { continue };
        let names = feature.pointer("/dtype/class_label/names");
        if let Some(names) = names.and_then(in_order) {
            found.entry(column.to_owned()).or_insert(names);
        }
    }
    found
}

/// Names in the order of their numbers, which are all from 0.
fn in_order(names: &Value) -> Option<Vec<String>> {
    if let Value::Array(names) = names {
        return names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
    }
    let numbered: BTreeMap<usize, String> = names
        .as_object()?
        .iter()
        .map(|(number, name)| Some((number.parse().ok()?, name.as_str()?.to_owned())))
        .collect::<Option<_>>()?;
    let is_whole = numbered.keys().copied().eq(0..numbered.len());
    is_whole.then(|| numbered.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn configurations_are_written_in_several_ways() {
        let card = json!({ "configs": [
            { "config_name": "a", "data_files": "a/*.parquet" },
            { "config_name": "b", "default": true, "data_dir": "b",
              "data_files": [{ "split": "train", "path": ["t/*", "u/*"] }, { "split": "test", "path": "v" }] },
            { "config_name": "c", "data_dir": "c/" },
            { "data_files": { "train": "x.zip" } },
        ] });
        let all = configurations(&card).unwrap();
        let found: Vec<(&str, usize)> =
            all.iter().map(|one| (one.name.as_str(), one.files.len())).collect();
        assert_eq!(found, [("a", 1), ("b", 3), ("c", 1), ("default", 1)]);
        let (split, pattern) = &all[1].files[1];
        assert_eq!(split.as_deref(), Some("train"));
        assert!(pattern.matches("b/u/1.jpg") && all[2].files[0].1.matches("c/d/1.jpg"));
        assert_eq!(chosen(all, None).unwrap().unwrap().name, "b");
        let of =
            |wanted| chosen(configurations(&card).unwrap(), wanted).map(|one| one.unwrap().name);
        assert_eq!(of(Some("c")), Ok("c".to_owned()));
        let (message, help) = of(Some("d")).unwrap_err();
        assert_eq!(
            (message.as_str(), help.as_str()),
            ("it has no configuration `d`", "its configurations are `a`, `b`, `c`, `default`")
        );
        assert!(chosen(Vec::new(), None).unwrap().is_none());
    }

    #[test]
    fn licences_and_class_names_are_read() {
        let card = json!({
            "license": ["mit", "cc-by-4.0"],
            "dataset_info": { "features": [
                { "name": "image", "dtype": "image" },
                { "name": "label", "dtype": { "class_label": { "names": { "1": "dog", "0": "cat" } } } },
                { "name": "odd", "dtype": { "class_label": { "names": { "1": "dog", "x": "cat" } } } },
            ] }
        });
        assert_eq!(licence(&card).as_deref(), Some("mit, cc-by-4.0"));
        assert_eq!(
            licence(&json!({ "license": "other", "license_name": "own" })).as_deref(),
            Some("own")
        );
        assert_eq!(licence(&json!({})), None);
        let names = class_names(&card, None);
        assert_eq!(names.len(), 1);
        assert_eq!(names["label"], ["cat", "dog"]);
    }
}
