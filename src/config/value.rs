//! The values of a pipeline file, each with the place it was written at. Doesn't know what any key means.

use std::path::Path;
use std::sync::Arc;

use super::Origin;

/// A value, its key, and where both were written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where the value was written.
    pub origin: Origin,
    /// Where its key was written; in a list, the same as `origin`.
    pub key_origin: Origin,
    /// The absolute folder at which relative paths in this value start: the file's, or the current one for `--set`.
    /// Where a path begins with a variable, that of the variable's value.
    pub folder: Arc<Path>,
}

/// A value as TOML has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string, variables resolved.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number with a point or an exponent; may be infinite or not a number.
    Number(f64),
    /// `true` or `false`.
    Bool(bool),
    /// An array.
    List(Vec<Node>),
    /// A table, inline or not.
    Table(Table),
    /// A value with a mistake in it that was reported already. Nothing more is to be said about it.
    Broken,
}

/// Keys and values, in the order they were written in.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Table {
    entries: Vec<(String, Node)>,
    origin: Option<Origin>,
}

impl Table {
    /// Where the table was written: its header, all of an inline table, or its name in a dotted key. None if it isn't in
    /// any source.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.entries.iter().map(|(name, node)| (name.as_str(), node))
    }

    /// The keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The place to show when there is something to say about the dotted path `path` ("head.dropout"): that of its
    /// value, or, where it isn't written, that of the innermost table around it that is. An empty path is the table.
    pub fn place(&self, path: &str) -> Option<Origin> {
        let (key, rest) = path.split_once('.').unwrap_or((path, ""));
        match self.get(key) {
            Some(Node { value: Value::Table(table), .. }) if !rest.is_empty() => table.place(rest),
            Some(Node { value: Value::Table(table), .. }) => table.origin.clone(),
            Some(node) => Some(node.origin.clone()),
            None => self.origin.clone(),
        }
    }

    /// A table of these entries, written at `origin`. Of two entries with one key, the first is found.
    pub(super) fn new(origin: Option<Origin>, entries: Vec<(String, Node)>) -> Table {
        Table { entries, origin }
    }

    /// Whether a value in it was reported as wrong already.
    pub fn is_broken(&self) -> bool {
        self.entries.iter().any(|(_, node)| node.value.is_broken())
    }

    /// Gives the tables that dotted keys alone made ("head.dropout = 0.5") the place where their name was written. Only
    /// once everything is laid on top of each other: before, such a table must not hide the header of another file.
    pub(super) fn settle_origins(&mut self) {
        for node in self.nodes_mut() {
            if let Value::Table(table) = &mut node.value {
                table.origin.get_or_insert_with(|| node.key_origin.clone());
                table.settle_origins();
            }
        }
    }

    /// Takes the value of `key` out.
    pub(super) fn remove(&mut self, key: &str) -> Option<Node> {
        let index = self.entries.iter().position(|(name, _)| name == key)?;
        Some(self.entries.remove(index).1)
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = (String, Node)> {
        self.entries.into_iter()
    }

    pub(super) fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.entries.iter_mut().map(|(_, node)| node)
    }

    /// Lays `over` on top: tables are merged key by key, anything else gives way. The places are those of what lies on
    /// top; new keys come last.
    pub(super) fn lay(&mut self, over: Table) {
        self.origin = over.origin.or(self.origin.take());
        for (key, node) in over.entries {
            match self.entries.iter_mut().find(|(name, _)| *name == key) {
                Some((_, below)) => below.lay(node),
                None => self.entries.push((key, node)),
            }
        }
    }
}

impl Value {
    fn is_broken(&self) -> bool {
        match self {
            Value::Broken => true,
            Value::List(items) => items.iter().any(|item| item.value.is_broken()),
            Value::Table(table) => table.is_broken(),
            _ => false,
        }
    }
}

impl Node {
    fn lay(&mut self, over: Node) {
        let below = std::mem::replace(self, over);
        if let (Value::Table(mut table), Value::Table(over)) = (below.value, &mut self.value) {
            table.lay(std::mem::take(over));
            *over = table;
        }
    }
}
