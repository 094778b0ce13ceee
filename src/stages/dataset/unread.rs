//! Keys of the split that nothing reads beside others: they are refused, since a key that is passed
//! over without a word misleads.

use super::GivenDataset;
use crate::config::{Handle, Key};
use crate::data::labels;
use crate::data::split::SplitFrom;
use crate::engine::Resolver;

/// Reports keys of the split that aren't read.
pub(super) fn check(given: &GivenDataset, resolver: &mut Resolver) {
    let split = &given.split;
    let from = split.from.as_ref().map_or(SplitFrom::Fractions, |from| **from);
    let is_above_0 = |key: &Option<Key<f64>>| key.as_ref().is_some_and(|key| **key > 0.0);
    let draws = from == SplitFrom::Fractions
        || [&split.validation, &split.test].into_iter().any(is_above_0);
    let is_by_column = from == SplitFrom::Csv;
    let has_table = is_by_column || groups_by_column(given);
    let of_chance = "is for a split by chance, and the author says all of it";
    let take_a_part =
        "leave it out, or take a part of the training images, such as validation = 0.1";
    let file = split.file.as_ref().map(|key| key.handle());
    let group = split.group.as_ref().map(|key| key.handle());
    let rules: [(&str, Option<&Handle>, bool, &str, &str); 5] = [
        (
            "column",
            Some(split.column.handle()),
            is_by_column,
            "is for a split by a column of a table",
            "leave it out, or write from = \"csv\"",
        ),
        (
            "file",
            file,
            has_table,
            "is for a split or groups by a column of a table",
            "leave it out, or write from = \"csv\" or `group`",
        ),
        ("method", Some(split.method.handle()), draws, of_chance, take_a_part),
        ("seed", Some(split.seed.handle()), draws, of_chance, take_a_part),
        ("group", group, draws, of_chance, take_a_part),
    ];
    for (name, handle, is_read, message, help) in rules {
        if let Some(handle) = handle.filter(|handle| handle.is_given() && !is_read) {
            let diagnostic = handle.error(format!("`{name}` {message}"));
            resolver.report(diagnostic.label("has no effect").help(help.to_owned()));
        }
    }
}

/// Whether groups are those of a column, not of a pattern.
fn groups_by_column(given: &GivenDataset) -> bool {
    let Some(group) = &given.split.group else { return false };
    let of_labels = given.labels.pattern.as_ref();
    let in_labels = of_labels.is_some_and(|pattern| labels::compile(pattern, group).is_ok());
    given.split.pattern.is_none() && !in_labels
}
