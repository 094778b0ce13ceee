//! Writes the images of shards, which are Parquet files or tar archives of the format `webdataset`, as
//! files: `SPLIT/CLASS/NUMBER.EXTENSION`, and further columns as a table.

use super::data_set::{CLASS_LIST, Written};
use super::selection::Part;
use crate::common::number::counted;
use crate::common::words::shortened_list;
use crate::data::class_folders::ClassFolders;
use crate::data::images::Skipped;
use crate::data::parquet::{ClassNames, Parquet, Row};
use crate::data::rejected::NO_FILE;
use crate::data::web_dataset::{self, WebSample};
use crate::engine::{Context, OrFail, StageError};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The split of shards of which nothing says it, as in the library `datasets`.
const TRAIN: &str = "train";
/// The name under which classes of shards without columns are known.
pub(super) const CLASS: &str = "cls";
/// The name of the table with further columns, and its first two.
pub(super) const TABLE: &str = "columns.csv";
const FIRST: [&str; 2] = ["file_name", "split"];
/// Maximum number of names in a warning.
const SHOWN: usize = 5;

/// Writes the images of Parquet files.
pub(super) fn parquet(
    shards: &[(&Part, PathBuf)],
    known: &ClassNames,
    folder: &Path,
    context: &Context,
) -> Result<Written, StageError> {
    let mut opened = Vec::new();
    for (part, path) in shards {
        opened.push((*part, Parquet::open(path, &part.file.path, known)?));
    }
    let mut folders = ClassFolders::new(folder, length(shards));
    let mut table = Table::create(folder, &opened)?;
    let mut written = Written::default();
    let total = opened.iter().fold(0u64, |sum, (_, shard)| sum.saturating_add(shard.rows()));
    let task = context.events.task("unpack", Some(total), "rows");
    for (part, shard) in &opened {
        let split = part.split.as_deref().unwrap_or(TRAIN);
        let mut number = 0u64;
        shard.read(|row: &Row| {
            number += 1;
            if context.cancel.is_cancelled() {
                return Err(crate::data::DataError::Cancelled);
            }
            task.advance(1);
            let Some(image) = row.image.filter(|image| !image.is_empty()) else {
                let path = format!("{}, row {number}", part.file.path);
                let reason = format!("{NO_FILE}: the row has no bytes of an image");
                written.skipped.push(Skipped::new(&path, reason));
                return Ok(());
            };
            let path = folders.add(split, row.class, image, row.path)?;
            match &mut table {
                Some(table) => table.row(&path, split, row.others),
                None => Ok(()),
            }
        })?;
    }
    if !written.skipped.is_empty() {
        let rows = counted(written.skipped.len() as u64, "row");
        written.warnings.push(format!("{rows} without the bytes of an image"));
    }
    if let Some((part, _)) = opened.iter().find(|(_, shard)| shard.class_column().is_none()) {
        written.warnings.push(format!(
            "no column of {} says the class, so that its images have no labels",
            part.file.path
        ));
    }
    if let Some(table) = table {
        table.finish()?;
        if let Some(class) = opened.iter().find_map(|(_, shard)| shard.class_column()) {
            context
                .events
                .info(format!("the class is the column `{class}`; {TABLE} has the other columns"));
        }
        written.labels.push(TABLE.to_owned());
    }
    finish(folders, written)
}

/// Writes the images of archives of the format `webdataset`.
pub(super) fn web_dataset(
    shards: &[(&Part, PathBuf)],
    known: &ClassNames,
    folder: &Path,
    context: &Context,
) -> Result<Written, StageError> {
    let names = [CLASS, "label"].iter().find_map(|name| known.get(*name));
    let mut folders = ClassFolders::new(folder, length(shards));
    let mut written = Written { read: vec![CLASS_LIST.to_owned()], ..Written::default() };
    let task = context.events.task("unpack", Some(length(shards)), "bytes");
    for (part, path) in shards {
        let split = part.split.as_deref().unwrap_or(TRAIN);
        let named = &part.file.path;
        let skipped = web_dataset::read(path, named, &context.cancel, |sample| {
            let WebSample { path, image, class } = sample;
            let class = class.map(|class| {
                let number = class.parse::<usize>().ok();
                number.and_then(|number| names?.get(number).cloned()).unwrap_or(class)
            });
            folders.add(split, class.as_deref(), &image, Some(&path)).map(drop)
        })?;
        written.skip(named, skipped);
        task.advance(part.file.size);
    }
    finish(folders, written)
}

fn length(shards: &[(&Part, PathBuf)]) -> u64 {
    shards.iter().fold(0, |sum, (part, _)| sum.saturating_add(part.file.size))
}

fn finish(folders: ClassFolders, mut written: Written) -> Result<Written, StageError> {
    let renamed: Vec<String> =
        folders.renamed().map(|(class, name)| format!("{class} -> {name}")).collect();
    if !renamed.is_empty() {
        let count = counted(renamed.len() as u64, "class");
        let shown = shortened_list(renamed.iter().map(String::as_str), SHOWN);
        written
            .warnings
            .push(format!("{count} renamed, since no folder can have the name: {shown}"));
    }
    written.images.extend(folders.into_images());
    Ok(written)
}

/// The table with the columns beside the images.
struct Table {
    writer: csv::Writer<File>,
    path: PathBuf,
}

impl Table {
    /// A table for shards with equal columns. None if they have only classes.
    fn create(folder: &Path, shards: &[(&Part, Parquet)]) -> Result<Option<Table>, StageError> {
        let Some(((first, shard), rest)) = shards.split_first() else { return Ok(None) };
        let columns = shard.columns();
        if let Some((other, _)) = rest.iter().find(|(_, shard)| shard.columns() != columns) {
            let message =
                format!("{} and {} have different columns", first.file.path, other.file.path);
            return Err(StageError::failed(message)
                .with_help("choose some of its files: set `splits` or `config` in this stage"));
        }
        if columns.is_empty() {
            return Ok(None);
        }
        let path = folder.join(TABLE);
        let file = File::create_new(&path).or_fail(path.display())?;
        let mut table = Table { writer: csv::Writer::from_writer(file), path };
        let header = FIRST.into_iter().chain(columns.iter().map(String::as_str));
        table.writer.write_record(header).map_err(std::io::Error::from)?;
        Ok(Some(table))
    }

    fn row(
        &mut self,
        path: &str,
        split: &str,
        others: &[String],
    ) -> Result<(), crate::data::DataError> {
        let fields = [path, split].into_iter().chain(others.iter().map(String::as_str));
        let written = self.writer.write_record(fields).map_err(std::io::Error::from);
        written.map_err(|error| crate::data::DataError::io("write", &self.path, error))
    }

    fn finish(mut self) -> Result<(), StageError> {
        self.writer.flush().or_fail(self.path.display())
    }
}
