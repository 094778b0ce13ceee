//! Files outside the store, or rows of a table, that came, went or changed: counts and the first
//! names, instead of two digests.

use crate::common::number::{counted, thousands};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

/// Largest number of names of each kind of change.
const SHOWN: usize = 3;

/// Files that came, went and changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChanges {
    /// The owner, such as a table's name; empty for the files of the source.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub of: String,
    /// One of them, in the singular: "file", "row".
    pub thing: String,
    pub added: Names,
    pub removed: Names,
    pub changed: Names,
}

/// A number of names, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    pub count: u64,
    pub first: Vec<String>,
}

impl Names {
    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(name.to_owned());
        }
    }
}

impl FileChanges {
    /// Compares two lists of name and content, each sorted by name. None if they don't differ.
    pub fn between<T: PartialEq>(
        of: &str,
        thing: &str,
        old: &[(String, T)],
        new: &[(String, T)],
    ) -> Option<FileChanges> {
        let (of, thing) = (of.to_owned(), thing.to_owned());
        let mut changes = FileChanges { of, thing, ..FileChanges::default() };
        let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (olds.peek(), news.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) => old.cmp(new),
            };
            let old = if order == Ordering::Greater { None } else { olds.next() };
            let new = if order == Ordering::Less { None } else { news.next() };
            match (old, new) {
                (Some((name, _)), None) => changes.removed.add(name),
                (None, Some((name, _))) => changes.added.add(name),
                (Some((name, one)), Some((_, other))) if one != other => changes.changed.add(name),
                _ => {}
            }
        }
        let kinds = [&changes.added, &changes.removed, &changes.changed];
        kinds.iter().any(|names| names.count > 0).then_some(changes)
    }
}

impl fmt::Display for FileChanges {
    /// "3 files added: a.jpg, b.jpg, c.jpg; 1 removed: d.jpg".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.of.is_empty() {
            write!(f, "{}: ", self.of)?;
        }
        let kinds =
            [(&self.added, "added"), (&self.removed, "removed"), (&self.changed, "changed")];
        let kinds = kinds.into_iter().filter(|(names, _)| names.count > 0);
        for (at, (names, verb)) in kinds.enumerate() {
            let number = match at {
                0 => counted(names.count, &self.thing),
                _ => format!("; {}", thousands(names.count)),
            };
            let more = if names.count > names.first.len() as u64 { ", …" } else { "" };
            write!(f, "{number} {verb}: {}{more}", names.first.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[(&str, u32)]) -> Vec<(String, u32)> {
        names.iter().map(|(name, content)| ((*name).to_owned(), *content)).collect()
    }

    #[test]
    fn what_came_went_and_changed_is_counted_and_named() {
        let old = list(&[("a", 1), ("b", 1), ("c", 1), ("x", 1)]);
        let new = list(&[("a", 1), ("b", 2), ("d", 1), ("e", 1), ("f", 1), ("g", 1), ("x", 1)]);
        let changes = FileChanges::between("", "file", &old, &new).unwrap();
        let text = "4 files added: d, e, f, …; 1 removed: c; 1 changed: b";
        assert_eq!(changes.to_string(), text);
        let back = FileChanges::between("labels.csv", "row", &new, &old).unwrap();
        let text = "labels.csv: 1 row added: c; 4 removed: d, e, f, …; 1 changed: b";
        assert_eq!(back.to_string(), text);
        assert_eq!(FileChanges::between("", "file", &old, &old), None);
        let none: Vec<(String, u32)> = Vec::new();
        let all = FileChanges::between("", "file", &none, &old).unwrap();
        assert_eq!((all.added.count, all.added.first.len()), (4, 3));
    }
}
