//! The reference: Markdown tables of declared keys.

use super::defaults::default_of;
use super::describe::{expected, toml_text};
use super::{DefaultValue, KeyDecl};

/// A table with one row per key: dotted name, type, default, doc.
pub fn reference(keys: &[KeyDecl]) -> String {
    let mut text = String::from("| key | value | default | |\n| --- | --- | --- | --- |\n");
    add_rows("", keys, &mut text);
    text
}

fn add_rows(prefix: &str, keys: &[KeyDecl], text: &mut String) {
    for key in keys {
        let name = format!("{prefix}{}", key.name);
        let cells = [format!("`{name}`"), expected(&key.of), default_text(key), key.doc.to_owned()];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        for inner in key.of.tables() {
            add_rows(&format!("{name}."), inner, text);
        }
    }
}

fn default_text(key: &KeyDecl) -> String {
    match key.default {
        DefaultValue::Required => "required".to_owned(),
        DefaultValue::Absent => "none".to_owned(),
        DefaultValue::Computed => "computed".to_owned(),
        // The rows below say what is in it.
        DefaultValue::Json("{}") if !key.of.tables().is_empty() => "a table".to_owned(),
        DefaultValue::Json(_) => {
            default_of(key).map(|value| format!("`{}`", toml_text(&value))).unwrap_or_default()
        }
    }
}
