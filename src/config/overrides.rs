//! Reads `--set KEY=VALUE` arguments into tables to merge.

use std::path::Path;
use std::sync::Arc;

use super::document::Text;
use super::{Diagnostic, Node, Origin, Sources, Table, Value};

/// Prefix of such a source text, so that it reads as on the command line.
const PREFIX: &str = "--set ";

/// Reads the arguments, each as a source text of its own. None, and at least one diagnostic, if one
/// of them isn't an override.
pub(super) fn read_overrides(
    arguments: &[String],
    folder: &Arc<Path>,
    sources: &mut Sources,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<Table>> {
    let mut tables = Vec::new();
    for argument in arguments {
        let file = sources.add_argument(format!("{PREFIX}{argument}"));
        tables.extend(read_override(
            &Text { file, text: argument, start: PREFIX.len(), folder },
            diagnostics,
        ));
    }
    refuse_conflicts(&tables, diagnostics);
    (tables.len() == arguments.len()).then_some(tables)
}

fn read_override(argument: &Text, diagnostics: &mut Vec<Diagnostic>) -> Option<Table> {
    let Some(equals) = position_of_equals(argument.text) else {
        let diagnostic = Diagnostic::new("an override without a value")
            .at(argument.place(0..argument.text.len()));
        let help = "for example `--set stages.train.epochs=3`".to_owned();
        diagnostics.push(diagnostic.label("expected KEY=VALUE").help(help));
        return None;
    };
    let (key, value) = argument.text.split_at_checked(equals)?;
    let mut table = read_key(&Text { text: key, ..*argument }, diagnostics)?;
    if let Some(extends) = table.get("extends") {
        let diagnostic =
            Diagnostic::new("`extends` belongs into the file").at(extends.key_origin.clone());
        diagnostics.push(diagnostic.label("can't be set here"));
        return None;
    }
    let value = value.get(1..).unwrap_or("");
    let start = argument.start + equals + 1 + (value.len() - value.trim_start().len());
    let value = Text { text: value.trim(), start, ..*argument };
    let leaf = leaf_mut(&mut table)?;
    leaf.origin = value.place(0..value.text.len());
    leaf.value = read_value(&value, diagnostics)?;
    Some(table)
}

/// The first `=` outside quotes.
fn position_of_equals(argument: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (index, byte) in argument.bytes().enumerate() {
        match (quote, byte) {
            _ if escaped => escaped = false,
            (Some(b'"'), b'\\') => escaped = true,
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'=') => return Some(index),
            (None, _) => {}
        }
    }
    None
}

/// The key as TOML reads it: tables around a single leaf.
fn read_key(key: &Text, diagnostics: &mut Vec<Diagnostic>) -> Option<Table> {
    let mut errors = Vec::new();
    let document = format!("{}=0", key.text);
    let table = Text { text: &document, ..*key }.table(&mut errors);
    if let Some(mut table) = table
        && leaf_mut(&mut table).is_some()
    {
        return Some(table);
    }
    let message = match key.text.trim() {
        "" => "an override without a key".to_owned(),
        text => format!("`{text}` isn't a key"),
    };
    let diagnostic = Diagnostic::new(message).at(key.place(0..key.text.len()));
    diagnostics.push(
        diagnostic
            .label("expected names joined by dots")
            .help("for example `stages.train.epochs`".to_owned()),
    );
    None
}

/// The single leaf of a table made by a dotted key.
fn leaf_mut(table: &mut Table) -> Option<&mut Node> {
    if table.len() != 1 {
        return None;
    }
    let node = table.nodes_mut().next()?;
    if !matches!(node.value, Value::Table(_)) {
        return Some(node);
    }
    let Value::Table(inner) = &mut node.value else { return None };
    leaf_mut(inner)
}

/// A TOML value, or the text itself if it doesn't look like one, so that strings need no quotes on
/// the command line.
fn read_value(value: &Text, diagnostics: &mut Vec<Diagnostic>) -> Option<Value> {
    let mut errors = Vec::new();
    match value.value(&mut errors) {
        Some(read) if errors.is_empty() => Some(read),
        _ if value.text.starts_with(['[', '{', '"', '\'']) => {
            diagnostics.append(&mut errors);
            None
        }
        _ => Some(Value::Text(value.text.to_owned())),
    }
}

/// Reports overrides that set the same key: which of them counts would be a guess.
fn refuse_conflicts(tables: &[Table], diagnostics: &mut Vec<Diagnostic>) {
    let mut known: Vec<Vec<&str>> = Vec::new();
    for table in tables {
        let mut leaves = Vec::new();
        collect_leaves(table, &mut Vec::new(), &mut leaves);
        let clash =
            leaves.iter().find(|(path, _)| known.iter().any(|other| begins_alike(path, other)));
        if let Some((path, origin)) = clash {
            let diagnostic =
                Diagnostic::new(format!("`{}` is set twice", path.join("."))).at((*origin).clone());
            diagnostics.push(diagnostic.label("the second time"));
        }
        known.extend(leaves.into_iter().map(|(path, _)| path));
    }
}

fn collect_leaves<'a>(
    table: &'a Table,
    path: &mut Vec<&'a str>,
    leaves: &mut Vec<(Vec<&'a str>, &'a Origin)>,
) {
    for (key, node) in table.iter() {
        path.push(key);
        match &node.value {
            Value::Table(inner) if !inner.is_empty() => collect_leaves(inner, path, leaves),
            _ => leaves.push((path.clone(), &node.key_origin)),
        }
        path.pop();
    }
}

fn begins_alike(one: &[&str], other: &[&str]) -> bool {
    one.iter().zip(other).all(|(a, b)| a == b)
}
