//! Replaces `${name}` in strings by the values of `[vars]`.
//!
//! A string that is a single variable takes its value with its type: a number stays a number.
//! Variables may use others. `$${` stands for `${`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::describe::found;
use super::{Diagnostic, Node, Origin, Sources, Table, Value};
use crate::common::nearest;
use crate::common::words::and_list;

/// Maximum nesting of variables that use variables.
const DEEPEST: usize = 32;

/// Maximum length of a text in bytes, against exponential growth (`a = "${b}${b}"`, `b =
/// "${c}${c}"`, …).
const LONGEST: usize = 1 << 16;

/// Maximum length of all texts that variables became part of, in bytes: a long one may be used many
/// times.
const MOST: usize = 8 << 20;

/// `text` as a TOML string, in which nothing is taken for a variable.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.replace("${", "$${")).to_string()
}

/// Resolves every string of `document` in place; `vars` is the value of its key `vars`.
pub(super) fn resolve(
    document: &mut Table,
    vars: Option<Node>,
    sources: &Sources,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut variables = Variables::new(vars, sources, diagnostics);
    let names: Vec<String> = variables.table.keys().map(str::to_owned).collect();
    for name in &names {
        variables.value(name, &mut Vec::new());
    }
    variables.resolve_table(document);
    variables.report_unused_overrides();
}

struct Variables<'a> {
    /// As written.
    table: Table,
    resolved: BTreeMap<String, Node>,
    used: BTreeSet<String>,
    /// Bytes of the texts that variables became part of.
    expanded: usize,
    sources: &'a Sources,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Variables<'a> {
    fn new(
        vars: Option<Node>,
        sources: &'a Sources,
        diagnostics: &'a mut Vec<Diagnostic>,
    ) -> Variables<'a> {
        let table = match vars {
            Some(Node { value: Value::Table(table), .. }) => table,
            Some(Node { value, origin, .. }) => {
                let diagnostic =
                    Diagnostic::new(format!("`vars` can't be {}", found(&value))).at(origin);
                diagnostics
                    .push(diagnostic.label(format!("expected a table, found {}", found(&value))));
                Table::default()
            }
            None => Table::default(),
        };
        Variables {
            table,
            resolved: BTreeMap::new(),
            used: BTreeSet::new(),
            expanded: 0,
            sources,
            diagnostics,
        }
    }
}

/// A part of a string.
#[derive(Debug, PartialEq)]
enum Piece<'t> {
    Plain(&'t str),
    Variable(&'t str),
}

/// An error in a string: the message and the text to point to.
type TextError<'t> = (String, &'t str);

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TextError<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        if !before.is_empty() {
            pieces.push(Piece::Plain(before));
        }
        rest = if let Some(after) = from.strip_prefix("$${") {
            pieces.push(Piece::Plain("${"));
            after
        } else if let Some(after) = from.strip_prefix("${") {
            let Some((name, after)) = after.split_once('}') else {
                return Err(("`${` without a `}` after it".to_owned(), from));
            };
            if !is_name(name) {
                return Err((format!("`${{{name}}}` can't name a variable"), name));
            }
            pieces.push(Piece::Variable(name));
            after
        } else {
            pieces.push(Piece::Plain("$"));
            from.strip_prefix('$').unwrap_or("")
        };
    }
    if !rest.is_empty() {
        pieces.push(Piece::Plain(rest));
    }
    Ok(pieces)
}

/// Letters, digits, `_` and `-`, at least one.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

impl Variables<'_> {
    fn resolve_table(&mut self, table: &mut Table) {
        for node in table.nodes_mut() {
            self.resolve_node(node);
        }
    }

    fn resolve_node(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::Text(_) => self.resolve_text(node, &mut Vec::new()),
            Value::List(items) => items.iter_mut().for_each(|item| self.resolve_node(item)),
            Value::Table(table) => self.resolve_table(table),
            _ => {}
        }
    }

    /// Replaces the variables of a text; `above` are the variables whose values are being resolved,
    /// outermost first.
    fn resolve_text(&mut self, node: &mut Node, above: &mut Vec<String>) {
        let Value::Text(text) = &node.value else { return };
        if !text.contains("${") {
            return;
        }
        let text = text.clone();
        node.value = Value::Broken;
        match pieces(&text) {
            Ok(pieces) => {
                if let Some((value, folder)) = self.join(&pieces, node, above) {
                    node.value = value;
                    node.folder = folder;
                }
            }
            Err((message, culprit)) => {
                let help = "write `$${` where you mean `${` itself".to_owned();
                self.diagnostics.push(
                    Diagnostic::new(message).at(self.within(&node.origin, culprit)).help(help),
                );
            }
        }
    }

    /// Joins the pieces into one value. A path that begins with a variable is relative to the
    /// folder of the variable's value.
    fn join(
        &mut self,
        pieces: &[Piece],
        node: &Node,
        above: &mut Vec<String>,
    ) -> Option<(Value, Arc<Path>)> {
        let mut folder = node.folder.clone();
        let mut whole = String::new();
        for (index, piece) in pieces.iter().enumerate() {
            let name = match piece {
                Piece::Plain(text) => {
                    whole.push_str(text);
                    continue;
                }
                Piece::Variable(name) => name,
            };
            let variable = self.variable(name, &node.origin, above)?;
            self.count(&variable, node)?;
            if pieces.len() == 1 {
                return Some((variable.value, variable.folder));
            }
            if index == 0 || (index == 1 && whole.ends_with(':')) {
                folder = variable.folder;
            }
            whole.push_str(&as_text(&variable.value)?);
            if whole.len() > LONGEST {
                let diagnostic =
                    Diagnostic::new("a text that grows beyond 64 KiB by its variables");
                self.diagnostics.push(diagnostic.at(node.origin.clone()));
                return None;
            }
        }
        Some((Value::Text(whole), folder))
    }

    /// Counts the bytes of a variable's value that becomes part of `node`. None if they are too many
    /// in all, which is reported once.
    fn count(&mut self, variable: &Node, node: &Node) -> Option<()> {
        let Value::Text(text) = &variable.value else { return Some(()) };
        let before = self.expanded;
        self.expanded = before.saturating_add(text.len());
        if before <= MOST && self.expanded > MOST {
            let diagnostic =
                Diagnostic::new("texts that grow beyond 8 MiB in all by their variables");
            self.diagnostics.push(diagnostic.at(node.origin.clone()));
        }
        (self.expanded <= MOST).then_some(())
    }

    /// The value of the variable that the text at `origin` uses. None if it is wrong, which is
    /// reported.
    fn variable(&mut self, name: &str, origin: &Origin, above: &mut Vec<String>) -> Option<Node> {
        if self.table.get(name).is_none() {
            let diagnostic =
                Diagnostic::new(format!("unknown variable `{name}`")).at(self.within(origin, name));
            self.diagnostics.push(diagnostic.label("not in [vars]").help(self.help_for(name)));
            return None;
        }
        self.used.insert(name.to_owned());
        if let Some(first) = above.iter().position(|other| other == name) {
            let cycle =
                above.iter().skip(first).map(String::as_str).chain([name]).collect::<Vec<_>>();
            let message = format!("a variable uses itself: `{}`", cycle.join("` uses `"));
            self.diagnostics.push(
                Diagnostic::new(message)
                    .at(self.within(origin, name))
                    .label("the cycle closes here"),
            );
            return None;
        }
        if above.len() == DEEPEST {
            let diagnostic = Diagnostic::new("variables that use variables, too deep to follow");
            self.diagnostics.push(diagnostic.at(self.within(origin, name)));
            return None;
        }
        let node = self.value(name, above)?;
        (node.value != Value::Broken).then_some(node)
    }

    /// The resolved value of a variable.
    fn value(&mut self, name: &str, above: &mut Vec<String>) -> Option<Node> {
        if let Some(node) = self.resolved.get(name) {
            return Some(node.clone());
        }
        let mut node = self.table.get(name)?.clone();
        above.push(name.to_owned());
        if !is_name(name) {
            let diagnostic = Diagnostic::new(format!("`{name}` can't be the name of a variable"))
                .at(node.key_origin.clone());
            self.diagnostics.push(diagnostic.label("expected letters, digits, `_` and `-`"));
        }
        match node.value {
            Value::Text(_) => self.resolve_text(&mut node, above),
            Value::List(_) | Value::Table(_) => {
                let diagnostic =
                    Diagnostic::new(format!("the variable `{name}` holds {}", found(&node.value)));
                self.diagnostics.push(
                    diagnostic
                        .at(node.origin.clone())
                        .label("expected text, a number, true or false"),
                );
                node.value = Value::Broken;
            }
            _ => {}
        }
        above.pop();
        self.resolved.insert(name.to_owned(), node.clone());
        Some(node)
    }

    fn help_for(&self, name: &str) -> String {
        match nearest(name, self.table.keys()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.table.is_empty() => {
                "there are no variables: `[vars]` is missing or empty".to_owned()
            }
            None => format!("the variables are {}", and_list(self.table.keys())),
        }
    }

    /// Reports variables that are set on the command line and used nowhere: most likely typos.
    fn report_unused_overrides(&mut self) {
        for (name, node) in self.table.iter() {
            if self.sources.is_argument(node.key_origin.file) && !self.used.contains(name) {
                let diagnostic = Diagnostic::new(format!("nothing uses the variable `{name}`"))
                    .at(node.key_origin.clone());
                let near = nearest(name, self.table.keys().filter(|other| *other != name));
                self.diagnostics.push(
                    diagnostic
                        .label("set here")
                        .help(near.map(|near| format!("did you mean `{near}`?"))),
                );
            }
        }
    }

    /// The location of `part` within the text at `origin`, or all of the text if escapes hide the
    /// part.
    fn within(&self, origin: &Origin, part: &str) -> Origin {
        let text = self.sources.slice(origin);
        let unescaped = |at: usize| !text.get(..at).is_some_and(|before| before.ends_with('$'));
        for wanted in [format!("${{{part}}}"), part.to_owned()] {
            if let Some((at, _)) = text.match_indices(&wanted).find(|(at, _)| unescaped(*at)) {
                let start = origin.span.start + at;
                return Origin { file: origin.file, span: start..start + wanted.len() };
            }
        }
        origin.clone()
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Number(number) => Some(format!("{number:?}")),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}
