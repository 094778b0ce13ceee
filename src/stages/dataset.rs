//! The keys of `[dataset]`, declared once for the kinds that read them, rules across them, and what
//! they say of a fetched set: classes, splits and groups.

mod rules;
mod unread;

use rules::may_have_table;
pub use rules::resolve;

use crate::common::layout::folder_at;
use crate::config::keys;
use crate::data::Split;
use crate::data::images::{FOLDER, Image, ImageSet};
use crate::data::labels::{self, LabelFrom, Labelling, Labels, Table};
use crate::data::rejected::Rejected;
use crate::data::split::{self, SplitFrom};
use crate::engine::{FactChange, OrFail, Pin, StageError};
use crate::events::FileChanges;
use crate::store::{Memo, digest_bytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

keys! {
    /// `[dataset]`.
    pub struct Dataset / GivenDataset {
        /// Where labels come from.
        labels: labels::Rule = {};
        /// Names of the classes, if they are written as something else: `{ 0 = "shirt" }`. Two
        /// classes of the same name become one.
        class_names: BTreeMap<String, String> = {};
        /// Folders whose images have no labels: they are predicted, never trained on or scored.
        unlabelled: Vec<String> = [];
        /// How the labelled images are split. The fractions sum to 1.
        split: split::Rule = {};
        /// For a quick try: at most this many images of each class.
        limit_per_class: Option<usize> = none from 1;
        /// For a quick try: this fraction of the images of each class.
        fraction: f64 = 1.0 in 0..=1;
    }
}

/// Bucket of the memo with the contents of tables by their digests, to name rows that change.
const BUCKET: &str = "tables";

/// The tables that `[dataset]` names, if they lie outside a fetched artifact: beside the pipeline
/// file, or in a folder that is read in place. Their contents are part of the key, not their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// That of the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// That of the split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<PathBuf>,
}

impl Tables {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_none() && self.split.is_none()
    }

    /// The facts of a stage that reads them.
    pub(super) fn pin(&self, memo: &Memo) -> Result<Pin, StageError> {
        let mut pin = Pin { replaces: vec!["tables"], ..Pin::default() };
        for (name, key, path) in [
            ("labels", "dataset.labels.file", &self.labels),
            ("split", "dataset.split.file", &self.split),
        ] {
            let Some(path) = path else { continue };
            let bytes = std::fs::read(path).or_fail(format_args!("reading {}", path.display()))?;
            let digest = digest_bytes(&bytes).to_string();
            if memo.get(BUCKET, &digest).is_none() {
                // Without it, rows that change later can't be named.
                let _ = memo.put(BUCKET, &digest, &bytes);
            }
            pin.facts.insert(name.to_owned(), Value::from(digest));
            pin.replaces.push(key);
        }
        Ok(pin)
    }

    /// The rows behind the changed digest of a table.
    pub(super) fn changes(
        &self,
        labels: &labels::Rule,
        change: &FactChange,
    ) -> Option<FileChanges> {
        let (path, image) = match change.fact {
            "labels" => (self.labels.as_ref()?, labels.image.as_deref()),
            "split" => (self.split.as_ref()?, None),
            _ => return None,
        };
        let name = path.file_name()?.to_string_lossy();
        let rows = |digest: &Value| {
            let bytes = change.store.memo().get(BUCKET, digest.as_str()?)?;
            let table = Table::parse(&name, &bytes).ok()?;
            let column = table.image_column(image).ok()?;
            Some(table.rows_by_image(column))
        };
        FileChanges::between(&name, "row", &rows(change.old)?, &rows(change.new)?)
    }
}

/// The part of [`Dataset`] that says what the class of an image is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelKeys {
    /// Where labels come from.
    pub labels: labels::Rule,
    /// Names of the classes.
    pub class_names: BTreeMap<String, String>,
    /// Folders without labels.
    pub unlabelled: Vec<String>,
}

impl From<Dataset> for LabelKeys {
    fn from(dataset: Dataset) -> LabelKeys {
        let Dataset { labels, class_names, unlabelled, .. } = dataset;
        LabelKeys { labels, class_names, unlabelled }
    }
}

impl LabelKeys {
    /// Reads the table of the labels, if they come from one.
    pub(super) fn table(
        &self,
        tables: &Tables,
        artifact: &Path,
    ) -> Result<Option<Table>, StageError> {
        let file = self.labels.file.as_ref().filter(|_| may_have_table(self.labels.from));
        file.map(|file| read_table(file, tables.labels.as_deref(), artifact)).transpose()
    }

    /// The classes of the images.
    pub(super) fn label(
        &self,
        set: &ImageSet,
        table: Option<&Table>,
    ) -> Result<Labels, StageError> {
        let labelling = Labelling {
            rule: &self.labels,
            unlabelled: &self.unlabelled,
            names: &self.class_names,
            table,
        };
        Ok(labels::label(set, &labelling)?)
    }

    /// The files that aren't images and the rows of the table without a file, sorted by path. The
    /// table of the labels, and that of the split where there is one, are used.
    pub(super) fn not_used(
        &self,
        set: &ImageSet,
        labels: &Labels,
        tables: &Tables,
        split: Option<&String>,
    ) -> Vec<Rejected> {
        let own = self.labels.file.as_ref().filter(|_| may_have_table(self.labels.from));
        let inside = |(outside, file): (&Option<PathBuf>, Option<&String>)| match outside {
            Some(path) => {
                Some(path.strip_prefix(set.folder()).ok()?.to_string_lossy().into_owned())
            }
            // In the fetched artifact.
            None => Some(file?.trim_start_matches("./").to_owned()),
        };
        let read: Vec<String> = [(&tables.labels, own), (&tables.split, split)]
            .into_iter()
            .filter_map(inside)
            .collect();
        let level = match (self.labels.from, self.labels.depth) {
            (LabelFrom::Folder, Some(depth)) => Some(depth - 1),
            (LabelFrom::Folder, None) => Some(labels.layout.class_level),
            _ => None,
        };
        let class = |path: &str| {
            let written = folder_at(path, level?)?;
            Some(self.class_names.get(written).map_or(written, String::as_str).to_owned())
        };
        let skipped = set.skipped().iter().filter(|one| !read.contains(&one.path));
        let skipped = skipped.map(|one| Rejected {
            path: one.path.clone(),
            class: class(&one.path).unwrap_or_default(),
            reason: one.reason.clone(),
        });
        let mut all: Vec<Rejected> = skipped.chain(labels.missing.iter().cloned()).collect();
        all.sort();
        all
    }
}

/// The tables of a data set, read.
pub(super) struct ReadTables {
    pub(super) labels: Option<Table>,
    split: Option<Table>,
}

/// The row of each image.
type RowOfImage = Vec<Option<usize>>;

impl Dataset {
    /// Whether only a part of the images is used.
    pub(super) fn is_quick_try(&self) -> bool {
        self.limit_per_class.is_some() || self.fraction < 1.0
    }

    /// The keys about labels.
    pub(super) fn label_keys(&self) -> LabelKeys {
        self.clone().into()
    }

    /// Reads the tables, from where they lie or from the fetched artifact.
    pub(super) fn read_tables(
        &self,
        tables: &Tables,
        artifact: &Path,
    ) -> Result<ReadTables, StageError> {
        let labels = self.label_keys().table(tables, artifact)?;
        let read = |file: &String| read_table(file, tables.split.as_deref(), artifact);
        Ok(ReadTables { labels, split: self.split.file.as_ref().map(read).transpose()? })
    }

    /// The table of splits and groups, and the rows of the images in it.
    fn split_table<'a>(
        &self,
        set: &ImageSet,
        read: &'a ReadTables,
    ) -> Result<Option<(&'a Table, RowOfImage)>, StageError> {
        let Some(table) = read.split.as_ref().or(read.labels.as_ref()) else { return Ok(None) };
        let (image, prefix) = match read.split {
            Some(_) => (None, None),
            None => (self.labels.image.as_deref(), self.labels.prefix.as_deref()),
        };
        let column = table.image_column(image)?;
        let found = table.matches(set.list(), column, prefix, |path| {
            !labels::is_below(path, &self.unlabelled)
        })?;
        Ok(Some((table, found.by_image)))
    }

    /// The split that the author says, of each image.
    pub(super) fn given_splits(
        &self,
        set: &ImageSet,
        labels: &Labels,
        read: &ReadTables,
    ) -> Result<Vec<Option<Split>>, StageError> {
        match self.split.from {
            None | Some(SplitFrom::Fractions) => Ok(vec![None; set.list().len()]),
            Some(SplitFrom::Folder) => Ok(split::by_folder(set, labels)?),
            Some(SplitFrom::Csv) => {
                let (table, rows) =
                    self.split_table(set, read)?.expect("a split by a table is resolved with one");
                Ok(split::by_column(table, &rows, &self.split.column)?)
            }
        }
    }

    /// The group of each image.
    pub(super) fn groups(
        &self,
        set: &ImageSet,
        read: &ReadTables,
    ) -> Result<Vec<Option<String>>, StageError> {
        let Some(group) = &self.split.group else { return Ok(vec![None; set.list().len()]) };
        let of_labels = self.labels.pattern.as_ref();
        let pattern = match (&self.split.pattern, of_labels) {
            (Some(pattern), _) => Some((labels::compile(pattern, group), LabelFrom::Path)),
            (None, Some(pattern)) => {
                let compiled = labels::compile(pattern, group);
                compiled.is_ok().then_some((compiled, self.labels.from))
            }
            (None, None) => None,
        };
        if let Some((pattern, from)) = pattern {
            let pattern = pattern.map_err(StageError::failed)?;
            let group_of = |path: &str| {
                let captures = pattern.captures(labels::matched_part(path, from))?;
                Some(captures.name(group)?.as_str().to_owned())
            };
            return Ok(set.list().iter().map(|image| group_of(&image.path)).collect());
        }
        let (table, rows) =
            self.split_table(set, read)?.expect("a group is resolved with a pattern or a table");
        let column = table.column(group)?;
        let field = |row: &Option<usize>| table.field((*row)?, column).map(str::to_owned);
        Ok(rows.iter().map(field).collect())
    }
}

/// Reads a table beside the pipeline file, or one that was fetched with the images.
fn read_table(file: &str, outside: Option<&Path>, artifact: &Path) -> Result<Table, StageError> {
    let path = outside.map_or_else(|| artifact.join(FOLDER).join(file), Path::to_owned);
    let bytes = std::fs::read(&path).map_err(|error| {
        StageError::failed(format!("failed to read the table `{file}`: {error}")).with_help(
            "name a file beside the pipeline file, or one that is fetched with the images",
        )
    })?;
    Ok(Table::parse(file, &bytes)?)
}

/// A table that fits a set of images.
pub struct FittingTable {
    /// The name of the column with the images.
    pub image: String,
    /// The name of the column with the classes.
    pub class: String,
    /// The classes as they are written.
    pub names: BTreeSet<String>,
    /// The images in it, by their positions.
    pub images: Vec<usize>,
}

/// Looks whether a table labels these images, given by their paths, sorted: at least half of its
/// rows have one, and there are several classes. Whether it has a header depends on its name.
pub fn fitting_table(name: &str, bytes: &[u8], paths: &[String]) -> Option<FittingTable> {
    let table = Table::parse(name, bytes).ok()?;
    let image = table.image_column(None).ok()?;
    // Without a header, the class is usually beside the name.
    let class = match labels::is_named_like_text(name) {
        true => table.column("2").ok()?,
        false => table.class_column(None, image).ok()?,
    };
    let digest = digest_bytes(b"");
    let unread = |path: &String| Image { path: path.clone(), length: 0, digest };
    let list: Vec<Image> = paths.iter().map(unread).collect();
    let found = table.matches(&list, image, None, |_| true).ok()?;
    let rows = found.by_image.iter().enumerate().filter_map(|(at, row)| Some((at, (*row)?)));
    let labelled: Vec<(usize, &str)> =
        rows.filter_map(|(at, row)| Some((at, table.field(row, class)?))).collect();
    let classes: BTreeSet<&str> = labelled.iter().map(|(_, class)| *class).collect();
    let fits = found.missing.len() * 2 <= table.row_count() && classes.len() > 1;
    // As many classes as rows are names, not classes.
    (fits && classes.len() * 2 <= labelled.len()).then(|| FittingTable {
        image: table.columns()[image].clone(),
        class: table.columns()[class].clone(),
        names: classes.into_iter().map(str::to_owned).collect(),
        images: labelled.iter().map(|(at, _)| *at).collect(),
    })
}
