//! The text tables in artifacts: a first line with the table's name and version, its number of rows
//! and the digest of the rest, then one line per row with tab-separated fields. Tabs, line ends and
//! backslashes in fields are escaped. A truncated or modified table is refused.

use super::DataError;
use crate::common::table_text::unescape;
use crate::store::{Digest, Hasher};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// The table as bytes. `name` includes the version: "listing 1".
pub(super) fn write<R, F>(name: &str, rows: R) -> Vec<u8>
where
    R: IntoIterator<Item = F>,
    F: IntoIterator<Item = String>,
{
    let (mut body, mut count) = (String::new(), 0);
    for row in rows {
        push_row(&mut body, row);
        count += 1;
    }
    let head = head(name, count, &Digest::of(body.as_bytes()));
    // In place: a table may be a hundred megabytes.
    body.insert_str(0, &head);
    body.into_bytes()
}

/// Writes the table to a file, row by row: it may be longer than what should be in memory.
pub(super) fn write_file<R, F>(path: &Path, name: &str, rows: R) -> Result<(), DataError>
where
    R: ExactSizeIterator<Item = F>,
    F: IntoIterator<Item = String>,
{
    let count = rows.len();
    let write = || {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        // The digest isn't known yet, but its length is.
        file.write_all(head(name, count, &Digest::of(b"")).as_bytes())?;
        let (mut digest, mut line) = (Hasher::new(), String::new());
        for row in rows {
            line.clear();
            push_row(&mut line, row);
            digest.update(line.as_bytes());
            file.write_all(line.as_bytes())?;
        }
        file.seek(SeekFrom::Start(0))?;
        file.write_all(head(name, count, &digest.finish()).as_bytes())?;
        file.flush()
    };
    write().map_err(|error| DataError::io("write", path, error))
}

fn head(name: &str, rows: usize, digest: &Digest) -> String {
    format!("# pipe {name} rows={rows} sha256={digest}\n")
}

fn push_row(text: &mut String, row: impl IntoIterator<Item = String>) {
    for (column, field) in row.into_iter().enumerate() {
        if column > 0 {
            text.push('\t');
        }
        push_escaped(text, &field);
    }
    text.push('\n');
}

/// Reads the table `name` and calls `row` with the fields of each row; `row` returns none for
/// invalid fields.
pub(super) fn read_file<const COLUMNS: usize>(
    path: &Path,
    name: &str,
    row: impl FnMut([Cow<'_, str>; COLUMNS]) -> Option<()>,
) -> Result<(), DataError> {
    let bytes = std::fs::read(path).map_err(|error| DataError::io("read", path, error))?;
    read(&bytes, path, name, row)
}

/// As [`read_file`] from the file's bytes; `path` is for messages.
pub(super) fn read<const COLUMNS: usize>(
    bytes: &[u8],
    path: &Path,
    name: &str,
    mut row: impl FnMut([Cow<'_, str>; COLUMNS]) -> Option<()>,
) -> Result<(), DataError> {
    let damaged = |reason: &str| DataError::damaged(path, reason);
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not UTF-8"))?;
    let (head, body) =
        text.split_once('\n').ok_or_else(|| damaged("its first line is incomplete"))?;
    let rest = head
        .strip_prefix(&format!("# pipe {name} rows="))
        .ok_or_else(|| damaged(&format!("it is not a table `{name}`")))?;
    let (count, digest) =
        rest.split_once(" sha256=").ok_or_else(|| damaged("its first line is incomplete"))?;
    if Digest::of(body.as_bytes()).to_string() != digest {
        return Err(damaged("its rows don't match their digest"));
    }
    let mut rows = 0u64;
    for line in body.lines() {
        row(fields(line).ok_or_else(|| damaged("a row has the wrong number of fields"))?)
            .ok_or_else(|| damaged(&format!("row {} has an invalid field", rows + 1)))?;
        rows += 1;
    }
    if rows.to_string() == count {
        Ok(())
    } else {
        Err(damaged("its number of rows differs from its first line"))
    }
}

fn fields<const COLUMNS: usize>(line: &str) -> Option<[Cow<'_, str>; COLUMNS]> {
    let mut fields = line.split('\t').map(|field| match field.contains('\\') {
        true => Cow::Owned(unescape(field)),
        false => Cow::Borrowed(field),
    });
    let mut all = [const { Cow::Borrowed("") }; COLUMNS];
    for place in &mut all {
        *place = fields.next()?;
    }
    fields.next().is_none().then_some(all)
}

fn push_escaped(text: &mut String, field: &str) {
    // Bytes: this is asked of millions of fields.
    if !field.bytes().any(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        return text.push_str(field);
    }
    for letter in field.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_round_trips(rows in proptest::collection::vec((any::<String>(), any::<String>()), 0..8)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("t.tsv");
            write_file(&path, "test 1", rows.iter().map(|(a, b)| [a.clone(), b.clone()])).unwrap();
            let mut back = Vec::new();
            read_file(&path, "test 1", |[a, b]| { back.push((a.into_owned(), b.into_owned())); Some(()) }).unwrap();
            prop_assert_eq!(back, rows);
        }
    }

    #[test]
    fn a_table_truncated_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.tsv");
        let bytes = write("test 1", [["a", "1"], ["b", "2"]].map(|row| row.map(str::to_owned)));
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(read_file::<2>(&path, "test 1", |_| Some(())).is_err(), "{length}");
        }
        std::fs::write(&path, &bytes).unwrap();
        assert!(read_file::<2>(&path, "test 1", |_| Some(())).is_ok());
        assert!(read_file::<2>(&path, "test 2", |_| Some(())).is_err());
        assert!(read_file::<3>(&path, "test 1", |_| Some(())).is_err());
    }
}
