//! Files that pyarrow and polars wrote (`golden/make.py`): all rows, truncations, changed bytes.

use super::{ClassNames, Parquet};
use crate::data::DataError;
use std::io::Write;
use std::path::{Path, PathBuf};

const ROWS: usize = 50;
const NAMES: [&str; 3] = ["cat", "dog", "owl"];

fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data/parquet/golden");
    folder.join(format!("{name}.parquet"))
}

fn image(row: usize) -> Vec<u8> {
    let mut image = b"\x89PNG\r\n\x1a\n".to_vec();
    image.resize(48 + row, row as u8);
    image
}

/// The image, its path, its class and the other values of a row.
type OwnedRow = (Option<Vec<u8>>, Option<String>, Option<String>, Vec<String>);

fn rows_of(path: &Path, known: &ClassNames) -> Result<Vec<OwnedRow>, DataError> {
    let file = Parquet::open(path, "x.parquet", known)?;
    let mut rows = Vec::new();
    file.read(|row| {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let image = row.image.map(<[u8]>::to_vec);
        rows.push((image, text(row.path), text(row.class), row.others.to_vec()));
        Ok(())
    })?;
    Ok(rows)
}

fn rows(name: &str) -> Vec<OwnedRow> {
    rows_of(&golden(name), &ClassNames::new()).unwrap()
}

fn message(name: &str) -> String {
    rows_of(&golden(name), &ClassNames::new()).unwrap_err().to_string()
}

#[test]
fn every_compression_and_page_gives_the_same_rows() {
    let class = |row: usize| (row != 5).then(|| NAMES[row % 3].to_owned());
    let expected: Vec<OwnedRow> = (0..ROWS)
        .map(|row| match row {
            7 => (None, None, class(row), vec![]),
            8 => (None, Some("8.png".to_owned()), class(row), vec![]),
            _ => (Some(image(row)), Some(format!("{row}.png")), class(row), vec![]),
        })
        .collect();
    for name in ["none", "snappy", "gzip", "zstd", "pages", "pages2", "plain"] {
        assert_eq!(rows(name), expected, "{name}");
    }
    assert_eq!(rows("empty"), []);
}

#[test]
fn further_columns_are_texts() {
    for name in ["wide", "wide2"] {
        let file = Parquet::open(&golden(name), name, &ClassNames::new()).unwrap();
        let columns = ["id", "fine_label", "name", "good", "weight", "short", "when"];
        assert_eq!(file.columns(), columns, "{name}");
        assert_eq!(file.class_column().as_deref(), Some("fine_label"));
        assert_eq!(file.rows(), ROWS as u64);
        let rows = rows(name);
        assert_eq!(rows[5].3, ["5", "owl", "", "false", "1.25", "0.5", "5"], "{name}");
        assert_eq!(rows[48].3, ["48", "cat", "n48", "true", "12", "0.5", "48"], "{name}");
        assert_eq!((&rows[49].0, &rows[49].1), (&Some(image(49)), &None), "{name}");
    }
}

#[test]
fn columns_without_a_description_are_found_by_name_and_type() {
    for name in ["bare", "polars"] {
        let rows = rows(name);
        assert_eq!(rows.len(), ROWS, "{name}");
        assert_eq!((&rows[3].0, rows[3].2.as_deref()), (&Some(image(3)), Some("cat")), "{name}");
    }
    let known = ClassNames::from([("label".to_owned(), vec!["other".to_owned(); 3])]);
    let described = rows_of(&golden("snappy"), &known).unwrap();
    assert_eq!(described[0].2.as_deref(), Some("cat"), "the file's own names come first");
}

#[test]
fn unsupported_files_are_refused_by_name() {
    for (name, reason) in [
        (
            "brotli",
            "it is compressed with Brotli, which isn't supported: only Snappy, gzip and zstd are",
        ),
        ("lz4", "it is compressed with LZ4, which isn't supported: only Snappy, gzip and zstd are"),
        ("delta", "the column `label` is stored as differences (DELTA), which isn't supported"),
        ("none_at_all", "no column holds images; its columns are a, b"),
    ] {
        assert_eq!(message(name), format!("x.parquet can't be read: {reason}"));
    }
}

fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn truncated_files_are_refused() {
    let whole = std::fs::read(golden("pages")).unwrap();
    for length in (0..whole.len()).step_by(37) {
        let file = written(&whole[..length]);
        let found = rows_of(file.path(), &ClassNames::new());
        let message = found.unwrap_err().to_string();
        assert!(message.contains("cut short") || message.contains("metadata"), "{message}");
    }
    // The end is there, but the middle isn't.
    for cut in [4..200, 1000..1001, 3000..4000] {
        let mut bytes = whole.clone();
        bytes.drain(cut.clone());
        assert!(rows_of(written(&bytes).path(), &ClassNames::new()).is_err(), "{cut:?}");
    }
}

/// Every byte, in the pages as in the metadata: an error or other rows, never a panic, and no more
/// memory or time than the file has reasons for.
#[test]
fn changed_bytes_do_no_harm() {
    for (name, step) in [("pages", 11), ("pages2", 13), ("wide", 17), ("polars", 3), ("gzip", 29)] {
        let whole = std::fs::read(golden(name)).unwrap();
        let expected = rows(name);
        for at in (0..whole.len()).step_by(step) {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                if let Ok(found) = rows_of(written(&bytes).path(), &ClassNames::new()) {
                    assert!(found.len() <= expected.len() * 200, "{name} {at}: {}", found.len());
                }
            }
        }
    }
}

/// A footer as Thrift's compact protocol has it: a schema with `image`, and a row group.
fn footer(rows: &[u8], chunk: &[u8]) -> Vec<u8> {
    let root = [0x48, 1, b'r', 0x15, 2, 0];
    let image = [0x15, 12, 0x25, 0, 0x18, 5, b'i', b'm', b'a', b'g', b'e', 0];
    let column = [&[0x3c][..], chunk, &[0, 0]].concat();
    let group = [&[0x19, 0x1c][..], &column, &[0x26], rows, &[0]].concat();
    [&[0x29, 0x2c][..], &root, &image, &[0x29, 0x1c], &group, &[0]].concat()
}

fn parquet(body: &[u8], footer: &[u8]) -> Vec<u8> {
    let length = (footer.len() as u32).to_le_bytes();
    [b"PAR1", body, footer, &length, b"PAR1"].concat()
}

#[test]
fn hostile_metadata_is_refused() {
    // Field 4: the codec; 5: values; 7: length; 9: the first page.
    let chunk = |codec: u8, length: &[u8], start: &[u8]| {
        [&[0x45, codec, 0x16, 2, 0x26][..], length, &[0x26], start].concat()
    };
    let of = |body: &[u8], footer: &[u8]| {
        let file = written(&parquet(body, footer));
        rows_of(file.path(), &ClassNames::new()).map(|rows| rows.len()).map_err(|error| {
            error.to_string().trim_start_matches("x.parquet can't be read: ").to_owned()
        })
    };
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    // A page header: kind, expanded and compressed length, values and encoding.
    let page = |kind: u8, expanded: &[u8], compressed: u8| {
        [&[0x15, kind, 0x15][..], expanded, &[0x15, compressed, 0x2c, 0x15, 2, 0x15, 0, 0, 0]]
            .concat()
    };
    let body = [page(0, &[16], 16), vec![4, 0, 0, 0], b"abcd".to_vec()].concat();
    let length = [body.len() as u8 * 2];
    assert_eq!(of(&body, &footer(&[2], &chunk(0, &length, &[8]))), Ok(1));
    let rows = of(&body, &footer(&huge, &chunk(0, &length, &[8])));
    assert!(rows.unwrap_err().starts_with("it states 9223372036854775807 rows in "));
    assert_eq!(
        of(&body, &footer(&[2], &chunk(0, &huge, &[8]))).unwrap_err(),
        "its metadata names values that aren't in the file"
    );
    assert_eq!(
        of(&body, &footer(&[4], &chunk(0, &length, &[8]))).unwrap_err(),
        "a column has fewer values than rows"
    );
    let lowest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let unknown = [&[0x45][..], &lowest, &[0x16, 2, 0x26], &length, &[0x26, 8]].concat();
    let reason = of(&body, &footer(&[2], &unknown)).unwrap_err();
    assert!(reason.starts_with("it is compressed with an unknown method"), "{reason}");
    // A page of 2 GB in 8 bytes, for each compression.
    let two_gb = [0xfe, 0xff, 0xff, 0xff, 0x0f];
    for codec in [0, 2, 4, 12] {
        let body = [page(0, &two_gb, 16), vec![4, 0, 0, 0], b"abcd".to_vec()].concat();
        let length = [body.len() as u8 * 2];
        let reason = of(&body, &footer(&[2], &chunk(codec, &length, &[8]))).unwrap_err();
        assert_eq!(reason, "a page has 2147483647 bytes, more than 1073741824");
    }
    let half_gb = [0xfe, 0xff, 0xff, 0xff, 0x03];
    let body = [page(0, &half_gb, 16), vec![0xff, 0xff, 0xff, 0xff, 1], b"abc".to_vec()].concat();
    let length = [body.len() as u8 * 2];
    let reason = of(&body, &footer(&[2], &chunk(2, &length, &[8]))).unwrap_err();
    assert_eq!(reason, "a page doesn't have the length that it states");
    // An index into a dictionary that isn't there.
    let body = [page(0, &[4], 4), vec![1, 2]].concat();
    let mut body = body;
    let encoding = body.len() - 2 - 3;
    body[encoding] = 16;
    let length = [body.len() as u8 * 2];
    let reason = of(&body, &footer(&[2], &chunk(0, &length, &[8]))).unwrap_err();
    assert!(reason.contains("dictionary") || reason.contains("damaged"), "{reason}");
}
