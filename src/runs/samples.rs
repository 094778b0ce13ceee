//! The images of a run's data: path, content, label and split, from `samples.tsv` and `input.json`
//! of a preprocessing stage. Training reads the same files more strictly.

use super::files;
use crate::common::table_text::unescape;
use serde::Deserialize;
use std::path::Path;

/// The table of samples.
pub(super) const SAMPLES: &str = "samples.tsv";
/// The preprocessing and the names of the classes.
pub(super) const INPUT: &str = "input.json";

/// The first words of a table of samples.
const HEAD: &str = "# pipe samples 1 ";

/// An image of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleRow {
    /// Its path in its source.
    pub path: String,
    /// The digest of the file.
    pub content: String,
    /// The name of its class; "unlabelled" without one.
    pub label: String,
    /// "train", "validation", "test" or "unlabelled".
    pub split: String,
}

/// The part of `input.json` that is read.
#[derive(Deserialize)]
struct Input {
    classes: Vec<String>,
}

/// Reads a table of samples with the names of the classes in `input`; `None` where a file is missing,
/// damaged or longer than `limit` bytes.
pub(super) fn read(table: &Path, input: &Path, limit: u64) -> Option<Vec<SampleRow>> {
    let Input { classes } = serde_json::from_slice(&files::read_small(input, limit)?).ok()?;
    let text = String::from_utf8(files::read_small(table, limit)?).ok()?;
    let (head, rows) = text.split_once('\n')?;
    head.starts_with(HEAD).then(|| rows.lines().map(|row| sample(row, &classes)).collect())?
}

/// A row: path, digest, record, index of the class or `-`, split, notes.
fn sample(row: &str, classes: &[String]) -> Option<SampleRow> {
    let mut fields = row.split('\t');
    let (path, content, _record) = (fields.next()?, fields.next()?, fields.next()?);
    let label = match fields.next()? {
        "-" => "unlabelled",
        class => classes.get(class.parse::<usize>().ok()?)?,
    };
    let split = fields.next()?;
    Some(SampleRow {
        path: unescape(path),
        content: content.to_owned(),
        label: label.to_owned(),
        split: split.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_table_are_read_and_damaged_ones_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (table, input) = (folder.path().join(SAMPLES), folder.path().join(INPUT));
        std::fs::write(&input, r#"{"classes": ["a", "b"], "other": 1}"#).unwrap();
        let rows = "x\\ty\tc1\t0\t1\ttrain\t\nz\tc2\t1\t-\tunlabelled\tnote\n";
        std::fs::write(&table, format!("{HEAD}rows=2 sha256=0\n{rows}")).unwrap();
        let row = |path: &str, content: &str, label: &str, split: &str| SampleRow {
            path: path.to_owned(),
            content: content.to_owned(),
            label: label.to_owned(),
            split: split.to_owned(),
        };
        let expected =
            [row("x\ty", "c1", "b", "train"), row("z", "c2", "unlabelled", "unlabelled")];
        assert_eq!(read(&table, &input, 1 << 20).unwrap(), expected);
        for damaged in ["", "other\n", "# pipe samples 1 rows=1 sha256=0\nx\tc\t0\t7\ttrain\t\n"] {
            std::fs::write(&table, damaged).unwrap();
            assert_eq!(read(&table, &input, 1 << 20), None, "{damaged}");
        }
    }
}
