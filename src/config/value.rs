//! The values of a pipeline file, each with its location.

use std::path::Path;
use std::sync::Arc;

use super::Origin;

/// A value and the locations of it and its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub origin: Origin,
    /// Location of the key; in a list, the same as `origin`.
    pub key_origin: Origin,
    /// The absolute folder that relative paths in this value start at: the file's, or the current
    /// one for `--set`. If a path begins with a variable, the folder of the variable's value.
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
    /// A value whose error was reported already: further checks skip it.
    Broken,
}

/// Keys and values in the order of the file.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Table {
    entries: Vec<(String, Node)>,
    origin: Option<Origin>,
}

impl Table {
    /// Location of the table: its header, all of an inline table, or its name in a dotted key. None
    /// if it isn't written anywhere.
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

    /// The location of the value at the dotted key `path` ("head.dropout") or, if it isn't written,
    /// of the innermost table around it that is.
    pub fn place(&self, path: &str) -> Option<Origin> {
        let (key, rest) = path.split_once('.').unwrap_or((path, ""));
        match self.get(key) {
            Some(Node { value: Value::Table(table), .. }) if !rest.is_empty() => table.place(rest),
            Some(Node { value: Value::Table(table), .. }) => table.origin.clone(),
            Some(node) => Some(node.origin.clone()),
            None => self.origin.clone(),
        }
    }

    /// A table of these entries, written at `origin`. Of two entries with one key, the first is
    /// found.
    pub(super) fn new(origin: Option<Origin>, entries: Vec<(String, Node)>) -> Table {
        Table { entries, origin }
    }

    /// Whether it contains a value whose error was reported already.
    pub fn is_broken(&self) -> bool {
        self.entries.iter().any(|(_, node)| node.value.is_broken())
    }

    /// Gives tables that only dotted keys made ("head.dropout = 0.5") the location of their name.
    /// To be called once all files are merged: before, such a table must not hide the header in
    /// another file.
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

    /// Merges `over` into this table: tables key by key, other values are replaced, with their
    /// locations. New keys come last.
    pub(super) fn merge(&mut self, over: Table) {
        self.origin = over.origin.or(self.origin.take());
        for (key, node) in over.entries {
            match self.entries.iter_mut().find(|(name, _)| *name == key) {
                Some((_, below)) => below.merge(node),
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
    fn merge(&mut self, over: Node) {
        let below = std::mem::replace(self, over);
        if let (Value::Table(mut table), Value::Table(over)) = (below.value, &mut self.value) {
            table.merge(std::mem::take(over));
            *over = table;
        }
    }
}
