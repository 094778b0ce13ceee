//! Joins the tables that lie beside the images of each split into one, since labels come from one
//! table.

use super::data_set::Written;
use crate::data::labels::Table;
use crate::engine::{OrFail, StageError};
use std::path::Path;

/// Names of tables that belong to the images of their folder, in the formats of `datasets`.
const NAMES: [&str; 2] = ["metadata.csv", "metadata.jsonl"];
/// The column with an image's path, relative to the table's folder.
const FILE_NAME: &str = "file_name";
/// The name of the joined table.
const JOINED: &str = "metadata.csv";

/// Writes the joined table, if there are several to join. Returns the paths of those.
pub(super) fn join(folder: &Path, written: &mut Written) -> Result<Vec<String>, StageError> {
    let is_metadata = |path: &&String| {
        let (place, name) = path.rsplit_once('/').unwrap_or(("", path));
        !place.is_empty() && NAMES.contains(&name)
    };
    let paths: Vec<String> = written.labels.iter().filter(is_metadata).cloned().collect();
    if paths.len() < 2 || folder.join(JOINED).exists() {
        return Ok(Vec::new());
    }
    let mut tables = Vec::new();
    for path in &paths {
        let bytes = std::fs::read(folder.join(path)).or_fail(format_args!("reading {path}"))?;
        let table = Table::parse(path, &bytes)?;
        // Of something else than images.
        let Ok(column) = table.column(FILE_NAME) else { return Ok(Vec::new()) };
        tables.push((path, table, column));
    }
    let mut columns: Vec<&str> = vec![FILE_NAME];
    for name in tables.iter().flat_map(|(_, table, _)| table.columns()) {
        if !columns.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            columns.push(name);
        }
    }
    let target = folder.join(JOINED);
    let mut writer = csv::Writer::from_path(&target).map_err(std::io::Error::from)?;
    writer.write_record(&columns).map_err(std::io::Error::from)?;
    for (path, table, file_name) in &tables {
        let place = path.rsplit_once('/').map_or("", |(place, _)| place);
        let others: Vec<Option<usize>> =
            columns[1..].iter().map(|name| table.column(name).ok()).collect();
        for row in 0..table.row_count() {
            let name = table.field(row, *file_name).unwrap_or_default();
            let name = format!("{place}/{}", name.trim_start_matches("./"));
            let fields = others
                .iter()
                .map(|column| column.and_then(|at| table.field(row, at)).unwrap_or_default());
            let record = std::iter::once(name.as_str()).chain(fields);
            writer.write_record(record).map_err(std::io::Error::from)?;
        }
    }
    writer.flush().or_fail(target.display())?;
    written.labels.push(JOINED.to_owned());
    Ok(paths)
}
