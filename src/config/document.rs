//! Parses TOML into values with locations.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_parser::lexer::TokenKind;

use super::{Diagnostic, Node, Origin, Table, Value};

/// Maximum number of dots in one key: the parser limits only the nesting of brackets and would
/// overflow the stack.
const DEEPEST_KEY: usize = 32;

/// A part of a source text that is TOML.
pub(super) struct Text<'a> {
    pub file: usize,
    pub text: &'a str,
    /// Its offset in the source text.
    pub start: usize,
    /// The folder that relative paths in it start at.
    pub folder: &'a Arc<Path>,
}

impl Text<'_> {
    /// Parses it as a document. None, and at least one diagnostic, if it isn't one.
    pub(super) fn table(&self, diagnostics: &mut Vec<Diagnostic>) -> Option<Table> {
        self.refuse_deep_keys(diagnostics)?;
        let (table, errors) = DeTable::parse_recoverable(self.text);
        self.report(errors, diagnostics)?;
        Some(self.read_table(table.get_ref(), None, diagnostics))
    }

    /// Parses it as a single value. None, and at least one diagnostic, if it isn't one.
    pub(super) fn value(&self, diagnostics: &mut Vec<Diagnostic>) -> Option<Value> {
        self.refuse_deep_keys(diagnostics)?;
        let (value, errors) = DeValue::parse_recoverable(self.text);
        self.report(errors, diagnostics)?;
        Some(self.read_value(&value, diagnostics))
    }

    /// A byte range of the part as a location in the source text, widened to whole characters.
    pub(super) fn place(&self, span: Range<usize>) -> Origin {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.ceil_char_boundary(span.end).max(start);
        Origin { file: self.file, span: self.start + start..self.start + end }
    }

    fn slice(&self, origin: &Origin) -> &str {
        self.text.get(origin.span.start - self.start..origin.span.end - self.start).unwrap_or("")
    }

    fn refuse_deep_keys(&self, diagnostics: &mut Vec<Diagnostic>) -> Option<()> {
        let mut dots = 0;
        for token in toml_parser::Source::new(self.text).lex() {
            match token.kind() {
                TokenKind::Dot => dots += 1,
                TokenKind::Atom
                | TokenKind::BasicString
                | TokenKind::LiteralString
                | TokenKind::Whitespace => {}
                _ => dots = 0,
            }
            if dots > DEEPEST_KEY {
                let place = self.place(token.span().start()..token.span().end());
                diagnostics.push(
                    Diagnostic::new("a key of too many parts").at(place).label("the 33rd dot"),
                );
                return None;
            }
        }
        Some(())
    }

    /// Turns the parser's errors into diagnostics, the first of each line: later ones are mostly
    /// consequences.
    fn report(
        &self,
        errors: Vec<toml::de::Error>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<()> {
        let mut lines = Vec::new();
        for error in &errors {
            let origin = self.place(error.span().unwrap_or(0..0));
            let before = self.text.get(..origin.span.start - self.start).unwrap_or("");
            let line = before.bytes().filter(|byte| *byte == b'\n').count();
            if !lines.contains(&line) {
                lines.push(line);
                diagnostics.push(self.syntax_diagnostic(error, origin));
            }
        }
        errors.is_empty().then_some(())
    }

    fn syntax_diagnostic(&self, error: &toml::de::Error, origin: Origin) -> Diagnostic {
        let text = self.slice(&origin);
        if error.message() == "duplicate key" {
            return Diagnostic::new(format!("`{text}` is given twice"))
                .at(origin)
                .label("the second time");
        }
        if error.message().starts_with("string values must be quoted") {
            return match text.trim() {
                "" => Diagnostic::new("a value is missing").at(origin).label("expected a value"),
                text => Diagnostic::new("text must be in quotes")
                    .at(origin)
                    .help(format!("write `{text:?}`")),
            };
        }
        let (message, expected) = match error.message().split_once(", expected ") {
            Some((message, expected)) => (message, format!("expected {expected}")),
            None => (error.message(), String::new()),
        };
        Diagnostic::new(message).at(origin).label(expected)
    }

    fn read_table(
        &self,
        table: &DeTable,
        origin: Option<Origin>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Table {
        let mut keys: Vec<_> = table.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let entries = keys.into_iter().map(|(key, value)| {
            let node = self.node(value, self.place(key.span()), diagnostics);
            (key.get_ref().clone().into_owned(), node)
        });
        Table::new(origin, entries.collect())
    }

    fn node(
        &self,
        value: &Spanned<DeValue>,
        key_origin: Origin,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Node {
        let origin = self.place(value.span());
        Node {
            value: self.read_value(value, diagnostics),
            origin,
            key_origin,
            folder: self.folder.clone(),
        }
    }

    fn read_value(&self, value: &Spanned<DeValue>, diagnostics: &mut Vec<Diagnostic>) -> Value {
        let origin = self.place(value.span());
        match value.get_ref() {
            DeValue::String(text) => Value::Text(text.clone().into_owned()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Table(table) => {
                let written = self.slice(&origin).starts_with(['[', '{']);
                Value::Table(self.read_table(table, written.then_some(origin), diagnostics))
            }
            DeValue::Array(list) => {
                let nodes =
                    list.iter().map(|item| self.node(item, self.place(item.span()), diagnostics));
                Value::List(nodes.collect())
            }
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(value) => Value::Integer(value),
                    Err(_) => broken(diagnostics, "a whole number of more than 64 bits", origin),
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(value) => Value::Number(value),
                Err(_) => broken(diagnostics, "not a number", origin),
            },
            DeValue::Datetime(_) => {
                let diagnostic = Diagnostic::new("a date where no key takes one").at(origin);
                diagnostics.push(diagnostic.help("put it in quotes to make it text".to_owned()));
                Value::Broken
            }
        }
    }
}

fn broken(diagnostics: &mut Vec<Diagnostic>, message: &str, origin: Origin) -> Value {
    diagnostics.push(Diagnostic::new(message).at(origin));
    Value::Broken
}
