//! Images in Parquet files, as the Hugging Face Hub has them: bytes in a column, and classes as
//! numbers with names in the file's metadata. Reads what such files need (flat columns; plain and
//! dictionary encoding; Snappy, gzip and zstd) with a page of each column in memory, and refuses
//! everything else by name.

mod column;
mod columns;
mod hybrid;
mod metadata;
mod page;
#[cfg(test)]
mod tests;
mod thrift;

pub(crate) use columns::ClassNames;

use super::DataError;
use super::archive::Budget;
use column::{Cell, Column};
use columns::{Columns, name};
use metadata::{Metadata, RowGroup};
use std::fs::File;
use std::path::Path;

/// The most rows for each byte of a file. Rows with an image take several bytes; reading rows of
/// nulls alone could take hours.
const ROWS_PER_BYTE: u64 = 8;

/// A row of a file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Row<'a> {
    /// The content of the image file; none where the row has none.
    pub image: Option<&'a [u8]>,
    /// The path that the image had.
    pub path: Option<&'a str>,
    pub class: Option<&'a str>,
    /// The values of the other columns as text, in the order of [`Parquet::columns`].
    pub others: &'a [String],
}

/// An open file.
pub(crate) struct Parquet<'a> {
    file: File,
    /// Bytes of the file.
    length: u64,
    /// For messages.
    named: &'a str,
    metadata: Metadata,
    columns: Columns,
}

impl<'a> Parquet<'a> {
    /// Opens the file at `path`, called `named` in messages. `known` are names of classes that are
    /// known from elsewhere.
    ///
    /// # Errors
    /// If it can't be read or no column holds images.
    pub(crate) fn open(
        path: &Path,
        named: &'a str,
        known: &ClassNames,
    ) -> Result<Parquet<'a>, DataError> {
        let file = File::open(path).map_err(|error| DataError::io("read", path, error))?;
        let metadata = metadata::read(&file).map_err(|reason| unreadable(named, &reason))?;
        let columns = Columns::of(&metadata, known).map_err(|reason| unreadable(named, &reason))?;
        let length = file.metadata().map_err(|error| DataError::io("read", path, error))?.len();
        let parquet = Parquet { file, length, named, metadata, columns };
        match parquet.rows() > length.saturating_mul(ROWS_PER_BYTE) {
            true => {
                let rows = parquet.rows();
                Err(unreadable(named, &format!("it states {rows} rows in {length} bytes")))
            }
            false => Ok(parquet),
        }
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.metadata.groups.iter().fold(0, |sum, group| sum.saturating_add(group.rows))
    }

    /// The names of the columns beside the image, that of the class included. Empty if there is
    /// only the class.
    pub(crate) fn columns(&self) -> Vec<String> {
        match self.columns.has_others() {
            true => self.columns.others.iter().map(|at| name(&self.metadata.leaves[*at])).collect(),
            false => Vec::new(),
        }
    }

    /// The name of the column that says the class.
    pub(crate) fn class_column(&self) -> Option<String> {
        self.columns.class.map(|at| name(&self.metadata.leaves[at]))
    }

    /// Passes each row on.
    ///
    /// # Errors
    /// If the file is damaged or has something that isn't supported, and those of `each`.
    pub(crate) fn read(
        &self,
        mut each: impl FnMut(&Row) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        // A dictionary may repeat a long text in every row.
        let mut budget = Budget::of(self.length);
        let mut groups = self.metadata.groups.iter();
        groups.try_for_each(|group| self.group(group, &mut budget, &mut each))
    }

    fn group(
        &self,
        group: &RowGroup,
        budget: &mut Budget,
        each: &mut impl FnMut(&Row) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let damaged = |reason: String| unreadable(self.named, &reason);
        let Columns { image, path, class, others, names } = &self.columns;
        let open =
            |at: usize| Column::new(&self.file, &self.metadata.leaves[at], &group.chunks[at]);
        let (mut image, mut path) = (open(*image), path.map(open));
        // The class is among the others.
        let mut others: Vec<(Column, Option<&Vec<String>>, bool)> = others
            .iter()
            .map(|at| {
                (open(*at), names.get(&name(&self.metadata.leaves[*at])), Some(*at) == *class)
            })
            .collect();
        let has_others = self.columns.has_others();
        for _ in 0..group.rows {
            let (mut class, mut texts) = (None, Vec::new());
            for (column, names, is_class) in &mut others {
                let text = text(column.next().map_err(damaged)?, *names);
                let length = text.as_ref().map_or(0, |text| text.len() as u64);
                budget
                    .expand(length + 1)
                    .map_err(|reason| damaged(format!("its text {reason}")))?;
                if *is_class {
                    class = text.clone();
                }
                if has_others {
                    texts.push(text.unwrap_or_default());
                }
            }
            let path = match &mut path {
                Some(column) => bytes(column.next().map_err(damaged)?),
                None => None,
            };
            each(&Row {
                image: bytes(image.next().map_err(damaged)?),
                path: path.and_then(|path| std::str::from_utf8(path).ok()),
                class: class.as_deref(),
                others: &texts,
            })?;
        }
        Ok(())
    }
}

fn bytes(cell: Cell<'_>) -> Option<&[u8]> {
    match cell {
        Cell::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// A value as text; a number of a class as its name. None for null and for no class, which is -1.
fn text(cell: Cell, names: Option<&Vec<String>>) -> Option<String> {
    match (cell, names) {
        (Cell::Null, _) => None,
        (Cell::Int(number), Some(names)) => match usize::try_from(number) {
            Ok(class) => Some(names.get(class).cloned().unwrap_or_else(|| number.to_string())),
            Err(_) => None,
        },
        (Cell::Int(number), None) => Some(number.to_string()),
        (Cell::Bool(value), _) => Some(value.to_string()),
        (Cell::Float(number), _) => Some(number.to_string()),
        (Cell::Bytes(bytes), _) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}

fn unreadable(named: &str, reason: &str) -> DataError {
    DataError::invalid(
        format!("{named} can't be read: {reason}"),
        "save its images as files, for example with the Python library `datasets`, then write `source = \"path:FOLDER\"`",
    )
}
