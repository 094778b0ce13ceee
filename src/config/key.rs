//! The value of a key as it was given, with its location in the pipeline file for diagnostics.

use super::{Diagnostic, Node, Origin, Table, Value};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A table of keys as it was given.
pub trait GivenTable {
    /// Points to the table.
    fn handle(&self) -> &Handle;

    /// A diagnostic that points to the table.
    fn error(&self, message: impl Into<String>) -> Diagnostic {
        self.handle().error(message)
    }
}

/// The location of the table or value that is being read.
#[derive(Clone, Debug)]
pub struct Location<'a> {
    table: Option<&'a Table>,
    handle: Handle,
}

impl<'a> Location<'a> {
    /// A table. Diagnostics about it point to where it is written, or to `fallback` if it isn't.
    pub fn table(table: &'a Table, fallback: Option<Origin>) -> Location<'a> {
        let origin = table.origin().cloned();
        let is_given = origin.is_some();
        let handle = Handle { origin: origin.or(fallback), is_given, folder: None };
        Location { table: Some(table), handle }
    }

    /// Outside every file.
    pub fn nowhere() -> Location<'static> {
        Location { table: None, handle: Handle::default() }
    }

    /// A key of the table at this location.
    pub fn key(&self, name: &str) -> Location<'a> {
        match self.table.and_then(|table| table.get(name)) {
            Some(Node { value: Value::Table(table), .. }) => {
                Location::table(table, self.handle.origin.clone())
            }
            Some(node) => {
                let (origin, folder) = (Some(node.origin.clone()), Some(Arc::clone(&node.folder)));
                let handle = Handle { origin, is_given: true, folder };
                Location { table: None, handle }
            }
            None => {
                let origin = self.handle.origin.clone();
                let handle = Handle { origin, is_given: false, folder: None };
                Location { table: None, handle }
            }
        }
    }

    /// The handle by which diagnostics point here.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

/// Points to a key of a pipeline file, for diagnostics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handle {
    origin: Option<Origin>,
    is_given: bool,
    /// The folder that relative paths in the value start at.
    folder: Option<Arc<Path>>,
}

impl Handle {
    /// A diagnostic that points to the value, or to the innermost table around it that is written.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(message).at(self.origin.clone())
    }

    /// Whether the file (or an override) sets the key.
    pub fn is_given(&self) -> bool {
        self.is_given
    }

    /// The path of a text that may name a file beside the pipeline file (or, in `--set`, in the
    /// current folder). Unlike a key of type [`Type::Path`](super::Type::Path), such a key keeps the
    /// text as its value.
    pub fn beside(&self, text: &str) -> PathBuf {
        self.folder.as_deref().unwrap_or(Path::new("")).join(text)
    }
}

/// The value of a key and where it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Key<T> {
    value: T,
    handle: Handle,
}

impl<T> Key<T> {
    pub(super) fn new(value: T, handle: Handle) -> Key<T> {
        Key { value, handle }
    }

    /// A value that was computed rather than given.
    pub fn computed(value: T) -> Key<T> {
        Key { value, handle: Handle::default() }
    }

    pub fn into_value(self) -> T {
        self.value
    }

    /// Replaces the value, keeping the location.
    pub fn set(&mut self, value: T) {
        self.value = value;
    }

    /// Whether the file (or an override) sets the key.
    pub fn is_given(&self) -> bool {
        self.handle.is_given
    }

    /// Points to the value.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// A diagnostic that points to the value.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        self.handle.error(message)
    }
}

impl<T> Deref for Key<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
