//! From TOML text to values with places. Knows TOML, and nothing of pipelines.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_parser::lexer::TokenKind;

use super::{Node, Origin, Problem, Table, Value};

/// Tables of tables of tables: what is deeper than this in one dotted key is refused, since the parser, whose own limit
/// covers brackets alone, would run out of stack.
const DEEPEST_KEY: usize = 32;

/// A piece of a source that is TOML.
pub(super) struct Text<'a> {
    /// The source.
    pub file: usize,
    /// The piece.
    pub text: &'a str,
    /// Where it begins in the source.
    pub start: usize,
    /// The folder at which relative paths in it start.
    pub folder: &'a Arc<Path>,
}

impl Text<'_> {
    /// The piece as a document. None, and at least one problem, where it isn't one.
    pub fn table(&self, problems: &mut Vec<Problem>) -> Option<Table> {
        self.refuse_deep_keys(problems)?;
        let (table, errors) = DeTable::parse_recoverable(self.text);
        self.report(errors, problems)?;
        Some(self.read_table(table.get_ref(), None, problems))
    }

    /// The piece as a single value. None, and at least one problem, where it isn't one.
    pub fn value(&self, problems: &mut Vec<Problem>) -> Option<Value> {
        self.refuse_deep_keys(problems)?;
        let (value, errors) = DeValue::parse_recoverable(self.text);
        self.report(errors, problems)?;
        Some(self.read_value(&value, problems))
    }

    /// Bytes of the piece as a place in the source, widened to whole characters.
    pub fn place(&self, span: Range<usize>) -> Origin {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.ceil_char_boundary(span.end).max(start);
        Origin { file: self.file, span: self.start + start..self.start + end }
    }

    fn slice(&self, origin: &Origin) -> &str {
        self.text.get(origin.span.start - self.start..origin.span.end - self.start).unwrap_or("")
    }

    fn refuse_deep_keys(&self, problems: &mut Vec<Problem>) -> Option<()> {
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
                problems
                    .push(Problem::new("a key of too many parts").at(place).label("the 33rd dot"));
                return None;
            }
        }
        Some(())
    }

    /// Turns the parser's errors into problems: the first of each line, since those after it are mostly its echo.
    fn report(&self, errors: Vec<toml::de::Error>, problems: &mut Vec<Problem>) -> Option<()> {
        let mut lines = Vec::new();
        for error in &errors {
            let origin = self.place(error.span().unwrap_or(0..0));
            let before = self.text.get(..origin.span.start - self.start).unwrap_or("");
            let line = before.bytes().filter(|byte| *byte == b'\n').count();
            if !lines.contains(&line) {
                lines.push(line);
                problems.push(self.syntax_problem(error, origin));
            }
        }
        errors.is_empty().then_some(())
    }

    fn syntax_problem(&self, error: &toml::de::Error, origin: Origin) -> Problem {
        let text = self.slice(&origin);
        if error.message() == "duplicate key" {
            return Problem::new(format!("`{text}` is given twice"))
                .at(origin)
                .label("the second time");
        }
        if error.message().starts_with("string values must be quoted") {
            return match text.trim() {
                "" => Problem::new("a value is missing").at(origin).label("expected a value"),
                text => Problem::new("text must be in quotes")
                    .at(origin)
                    .help(format!("write `{text:?}`")),
            };
        }
        let (message, expected) = match error.message().split_once(", expected ") {
            Some((message, expected)) => (message, format!("expected {expected}")),
            None => (error.message(), String::new()),
        };
        Problem::new(message).at(origin).label(expected)
    }

    fn read_table(
        &self,
        table: &DeTable,
        origin: Option<Origin>,
        problems: &mut Vec<Problem>,
    ) -> Table {
        let mut keys: Vec<_> = table.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let entries = keys.into_iter().map(|(key, value)| {
            let node = self.node(value, self.place(key.span()), problems);
            (key.get_ref().clone().into_owned(), node)
        });
        Table::new(origin, entries.collect())
    }

    fn node(
        &self,
        value: &Spanned<DeValue>,
        key_origin: Origin,
        problems: &mut Vec<Problem>,
    ) -> Node {
        let origin = self.place(value.span());
        Node {
            value: self.read_value(value, problems),
            origin,
            key_origin,
            folder: self.folder.clone(),
        }
    }

    fn read_value(&self, value: &Spanned<DeValue>, problems: &mut Vec<Problem>) -> Value {
        let origin = self.place(value.span());
        match value.get_ref() {
            DeValue::String(text) => Value::Text(text.clone().into_owned()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Table(table) => {
                let written = self.slice(&origin).starts_with(['[', '{']);
                Value::Table(self.read_table(table, written.then_some(origin), problems))
            }
            DeValue::Array(list) => {
                let nodes =
                    list.iter().map(|item| self.node(item, self.place(item.span()), problems));
                Value::List(nodes.collect())
            }
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(value) => Value::Integer(value),
                    Err(_) => broken(problems, "a whole number of more than 64 bits", origin),
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(value) => Value::Number(value),
                Err(_) => broken(problems, "not a number", origin),
            },
            DeValue::Datetime(_) => {
                let problem = Problem::new("a date where no key takes one").at(origin);
                problems.push(problem.help("put it in quotes to make it text".to_owned()));
                Value::Broken
            }
        }
    }
}

fn broken(problems: &mut Vec<Problem>, message: &str, origin: Origin) -> Value {
    problems.push(Problem::new(message).at(origin));
    Value::Broken
}
