//! Rules across the keys of `[dataset]`, and where its tables lie.

use super::{Dataset, GivenDataset, Tables, unread};
use crate::config::{GivenTable, Key, KeyType};
use crate::data::labels::{self, LabelFrom};
use crate::data::source::{self, Source};
use crate::data::split::{self, SplitFrom};
use crate::engine::Resolver;
use crate::stages::fetch::Fetch;
use std::path::PathBuf;

/// Checks rules across keys and computes the fractions of the split.
pub fn resolve(mut given: GivenDataset, resolver: &mut Resolver) -> (Dataset, Tables) {
    check_labels(&given.labels, resolver);
    check_split(&given, resolver);
    unread::check(&given, resolver);
    compute_split(&mut given.split, resolver);
    if *given.fraction == 0.0 {
        let diagnostic = given.fraction.error("a fraction of 0 leaves no image");
        resolver.report(diagnostic.label("expected more than 0"));
    }
    let is_read = may_have_table(*given.labels.from);
    let tables = Tables {
        labels: given
            .labels
            .file
            .as_ref()
            .filter(|_| is_read)
            .and_then(|file| table(file, resolver)),
        split: given.split.file.as_ref().and_then(|file| table(file, resolver)),
    };
    (Dataset::resolved(given), tables)
}

/// Whether such labels may come from a table: all of them, or those of images that aren't in the
/// folder of their class.
pub(super) fn may_have_table(from: LabelFrom) -> bool {
    matches!(from, LabelFrom::Csv | LabelFrom::Folder)
}

/// The path of a table outside the fetched artifact: beside the pipeline file, else in the folder
/// that is read in place. Reports one that is in neither, unless it may be in an artifact.
fn table(file: &Key<String>, resolver: &mut Resolver) -> Option<PathBuf> {
    let beside = file.handle().beside(file);
    if beside.is_file() {
        return Some(beside);
    }
    let fetched = resolver.input("images")?.resolved(&Fetch)?;
    let Ok(Source::Path(folder)) = source::parse(&fetched.source.0) else { return None };
    if !folder.is_dir() {
        return None;
    }
    let inside = folder.join(file.as_str());
    if inside.is_file() {
        return Some(inside);
    }
    let diagnostic = file.error(format!("there is no file `{}`", **file));
    resolver.report(diagnostic.label("no such file").help(format!(
        "looked for {} and {}",
        beside.display(),
        inside.display()
    )));
    None
}

fn check_labels(labels: &labels::GivenRule, resolver: &mut Resolver) {
    let from = *labels.from;
    let example = match from {
        LabelFrom::Path => {
            "such as pattern = '^(?<class>[^/]+)/'; in single quotes, backslashes are literal"
        }
        _ => {
            "such as pattern = '^(?<index>\\d+)_(?<class>\\d+)$'; in single quotes, backslashes are literal"
        }
    };
    match (from, &labels.pattern) {
        (LabelFrom::FileName | LabelFrom::Path, None) => resolver.report(
            labels
                .error("labels from names need a pattern")
                .label("`pattern` is missing")
                .help(example.to_owned()),
        ),
        (LabelFrom::Folder | LabelFrom::Csv, Some(pattern)) => resolver.report(
            pattern
                .error("a pattern is for labels from paths and file names")
                .label("labels don't come from those here")
                .help(
                    "write from = \"path\" or \"file_name\", or leave the pattern out".to_owned(),
                ),
        ),
        (LabelFrom::FileName | LabelFrom::Path, Some(pattern)) => {
            if let Err(message) = labels::compile(pattern, labels::GROUP) {
                resolver.report(
                    pattern
                        .error(message)
                        .label("expected a pattern with (?<class>…)")
                        .help(example.to_owned()),
                );
            }
        }
        (LabelFrom::Folder | LabelFrom::Csv, None) => {}
    }
    if from == LabelFrom::Csv && labels.file.is_none() {
        resolver.report(
            labels
                .error("labels from a table need its file")
                .label("`file` is missing")
                .help("such as file = \"train.csv\"".to_owned()),
        );
    }
    let only = [
        (&labels.file, "file"),
        (&labels.image, "image"),
        (&labels.class, "class"),
        (&labels.prefix, "prefix"),
    ];
    let has_table = from == LabelFrom::Csv || (may_have_table(from) && labels.file.is_some());
    for (key, name) in only {
        if let Some(key) = key.as_ref().filter(|_| !has_table) {
            let diagnostic = key.error(format!("`{name}` is for labels from a table"));
            resolver.report(
                diagnostic
                    .label("labels come from elsewhere")
                    .help("write from = \"csv\", or leave it out".to_owned()),
            );
        }
    }
    if let Some(depth) = labels.depth.as_ref().filter(|_| from != LabelFrom::Folder) {
        let diagnostic = depth.error("`depth` is for labels from folders");
        resolver.report(
            diagnostic
                .label("labels come from elsewhere")
                .help("write from = \"folder\", or leave it out".to_owned()),
        );
    }
}

/// Checks what a split by a table or with groups needs.
fn check_split(given: &GivenDataset, resolver: &mut Resolver) {
    let split = &given.split;
    let has_table = split.file.is_some() || *given.labels.from == LabelFrom::Csv;
    if let Some(from) = split.from.as_ref().filter(|from| ***from == SplitFrom::Csv && !has_table) {
        resolver.report(
            from.error("a split from a table needs its file")
                .label("there is no table")
                .help("write `file` beside it, or take the labels from a table too".to_owned()),
        );
    }
    if let Some(pattern) = &split.pattern {
        let group = split.group.as_ref().map_or("group", |group| group.as_str());
        if let Err(message) = labels::compile(pattern, group) {
            let label = format!("expected a pattern with (?<{group}>…)");
            resolver.report(pattern.error(message).label(label));
        } else if split.group.is_none() {
            let diagnostic = pattern.error("a pattern of the split is for groups");
            resolver.report(
                diagnostic.label("`group` is missing").help("write group = \"group\"".to_owned()),
            );
        }
    } else if let Some(group) = &split.group {
        let in_pattern = given
            .labels
            .pattern
            .as_ref()
            .is_some_and(|pattern| labels::compile(pattern, group).is_ok());
        if !in_pattern && !has_table {
            let message = format!("nothing says the `{}` of an image", **group);
            resolver.report(
                group.error(message).label("expected a group of a pattern, or a column").help(
                    format!(
                        "write a `pattern` with (?<{}>…) beside it, or a `file` with this column",
                        **group
                    ),
                ),
            );
        }
    }
}

fn compute_split(split: &mut split::GivenRule, resolver: &mut Resolver) {
    let is_by_author = split.from.as_ref().is_some_and(|from| **from != SplitFrom::Fractions);
    if let Some(train) = split.train.as_ref().filter(|_| is_by_author) {
        let diagnostic = train.error("the author's split says what to train on");
        resolver.report(
            diagnostic
                .label("beside a split from elsewhere")
                .help("leave `train` out; `validation` and `test` are taken from it".to_owned()),
        );
        return;
    }
    let fractions = [&mut split.train, &mut split.validation, &mut split.test];
    let given: Vec<f64> =
        fractions.iter().filter_map(|one| one.as_ref().map(|key| **key)).collect();
    let defaults = match (is_by_author, given.is_empty()) {
        // Rounded: 1 - 0.1 - 0.2 isn't 0.7.
        (true, _) => [((1.0 - given.iter().sum::<f64>()) * 1e9).round() / 1e9, 0.0, 0.0],
        (false, true) => [0.8, 0.1, 0.1],
        (false, false) => [0.0; 3],
    };
    for (fraction, default) in fractions.into_iter().zip(defaults) {
        fraction.get_or_insert(Key::computed(default));
    }
    if let Err(message) = split::check(&split::Rule::resolved(split.clone())) {
        let help = "such as split = { train = 0.8, validation = 0.1, test = 0.1 }; a fraction that isn't given is 0";
        resolver.report(
            split.error(message).label("expected fractions that sum to 1").help(help.to_owned()),
        );
    }
}
