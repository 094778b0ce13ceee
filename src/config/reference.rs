//! Reference tables in Markdown, made from declarations.

use super::defaults::default_of;
use super::describe::{expected, toml_text};
use super::{DefaultValue, KeyDecl};

/// A table with a row a parameter: name (dotted within tables), type, default, what it does.
pub fn reference(parameters: &[KeyDecl]) -> String {
    let mut text = String::from("| key | value | default | |\n| --- | --- | --- | --- |\n");
    add_rows("", parameters, &mut text);
    text
}

fn add_rows(prefix: &str, parameters: &[KeyDecl], text: &mut String) {
    for parameter in parameters {
        let name = format!("{prefix}{}", parameter.name);
        let cells = [
            format!("`{name}`"),
            expected(&parameter.of),
            default_in_words(parameter),
            parameter.doc.to_owned(),
        ];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        for inner in parameter.of.tables() {
            add_rows(&format!("{name}."), inner, text);
        }
    }
}

fn default_in_words(parameter: &KeyDecl) -> String {
    match parameter.default {
        DefaultValue::Required => "required".to_owned(),
        DefaultValue::Absent => "none".to_owned(),
        // The rows below say what is in it.
        DefaultValue::Json("{}") if !parameter.of.tables().is_empty() => "a table".to_owned(),
        DefaultValue::Json(_) => default_of(parameter)
            .map(|value| format!("`{}`", toml_text(&value)))
            .unwrap_or_default(),
    }
}
