//! Tables with one row per image: CSV, TSV and JSON lines. Columns have names, or numbers in a `.txt`
//! file; a row finds its image by path, with or without extension.

use crate::common::image_files::is_image;
use crate::common::nearest;
use crate::common::words::{and_list, shortened_list};
use crate::data::DataError;
use crate::data::images::Image;
use std::collections::HashMap;

/// Names of the column with the image, in any case, the most telling first.
const IMAGE_COLUMNS: [&str; 16] = [
    "image",
    "image_path",
    "image_id",
    "image_name",
    "image_file",
    "img",
    "img_path",
    "file_name",
    "filename",
    "file",
    "filepath",
    "file_path",
    "path",
    "id",
    "name",
    "image_filename",
];
/// Names of the column with the class, likewise.
const CLASS_COLUMNS: [&str; 11] = [
    "class",
    "label",
    "labels",
    "category",
    "target",
    "class_name",
    "label_name",
    "breed",
    "diagnosis",
    "species",
    "class_id",
];

/// Whether a column is usually the class, by its name.
pub(crate) fn is_class_column(name: &str) -> bool {
    CLASS_COLUMNS.iter().any(|usual| name.trim().eq_ignore_ascii_case(usual))
}

/// A table in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// For messages.
    pub name: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Rows and images that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// The row of each image.
    pub by_image: Vec<Option<usize>>,
    /// Rows that name no image: the name as written, and the row.
    pub missing: Vec<(String, usize)>,
    /// Rows that name the image of an earlier row, and that row.
    pub repeated: Vec<(usize, usize)>,
}

impl Table {
    /// Parses a table by its content. One in a `.txt` file has no header: its columns are `1`, `2`
    /// and so on.
    ///
    /// # Errors
    /// If it isn't UTF-8, has no rows or a row with another number of fields.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Table, DataError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            let message = format!("{name} isn't UTF-8: see line {}", line + 1);
            DataError::invalid(message, "save it as UTF-8")
        })?;
        let (columns, rows) = match text.trim_start().starts_with('{') {
            true => json_lines(name, text)?,
            false => separated(name, text, !is_named_like_text(name))?,
        };
        if rows.is_empty() {
            let help = "its first line names the columns, each other one describes an image";
            return Err(DataError::invalid(format!("{name} has no rows"), help));
        }
        Ok(Table { name: name.to_owned(), columns, rows })
    }

    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The index of a column by its name.
    pub fn column(&self, wanted: &str) -> Result<usize, DataError> {
        let same = |name: &str| name.trim().eq_ignore_ascii_case(wanted.trim());
        let exact = self.columns.iter().position(|name| name == wanted);
        exact.or_else(|| self.columns.iter().position(|name| same(name))).ok_or_else(|| {
            let names = || self.columns.iter().map(String::as_str);
            let help = match nearest(wanted, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its columns are {}", and_list(names())),
            };
            DataError::invalid(format!("{} has no column `{wanted}`", self.name), help)
        })
    }

    /// The column with the images: the one that was named, else one with a usual name, else the
    /// first.
    pub fn image_column(&self, named: Option<&str>) -> Result<usize, DataError> {
        match named {
            Some(name) => self.column(name),
            None => Ok(self.usual(&IMAGE_COLUMNS).unwrap_or(0)),
        }
    }

    /// The column with the classes: the one that was named, else one with a usual name, else the
    /// other one of two.
    pub fn class_column(&self, named: Option<&str>, image: usize) -> Result<usize, DataError> {
        if let Some(name) = named {
            return self.column(name);
        }
        let usual = self.usual(&CLASS_COLUMNS).filter(|column| *column != image);
        let other = || (self.columns.len() == 2).then_some(1 - image.min(1));
        usual.or_else(other).ok_or_else(|| {
            let columns = and_list(self.columns.iter().map(String::as_str));
            let message = format!("which column of {} is the class? It has {columns}", self.name);
            DataError::invalid(message, "name it: labels = { from = \"csv\", class = \"…\" }")
        })
    }

    fn usual(&self, names: &[&str]) -> Option<usize> {
        let is = |wanted: &str, name: &String| name.trim().eq_ignore_ascii_case(wanted);
        names.iter().find_map(|wanted| self.columns.iter().position(|name| is(wanted, name)))
    }

    /// A field without the blanks around it; none if it is empty.
    pub fn field(&self, row: usize, column: usize) -> Option<&str> {
        let field = self.rows.get(row)?.get(column)?.trim();
        (!field.is_empty()).then_some(field)
    }

    /// The rows by the image that each names, sorted, to compare two versions of a table.
    pub fn rows_by_image(mut self, column: usize) -> Vec<(String, Vec<String>)> {
        self.rows.sort_by(|one, other| one.get(column).cmp(&other.get(column)));
        let named = |row: Vec<String>| (row.get(column).cloned().unwrap_or_default(), row);
        self.rows.into_iter().map(named).collect()
    }

    /// The number of rows.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Finds the image of each row: by its path, else without the extension, else by the end of its
    /// path. `prefix` is the folder that names in the table start at; images that `is_candidate`
    /// refuses are found by their whole path only.
    ///
    /// # Errors
    /// If a name fits several images.
    pub fn matches(
        &self,
        images: &[Image],
        column: usize,
        prefix: Option<&str>,
        is_candidate: impl Fn(&str) -> bool,
    ) -> Result<Matches, DataError> {
        let index = Index::new(images, is_candidate);
        let mut found = Matches { by_image: vec![None; images.len()], ..Matches::default() };
        for row in 0..self.row_count() {
            let Some(written) = self.field(row, column) else {
                found.missing.push((String::new(), row));
                continue;
            };
            let path = in_folder(prefix, written);
            match index.find(&path) {
                Found::One(image) => match found.by_image[image] {
                    Some(earlier) => found.repeated.push((row, earlier)),
                    None => found.by_image[image] = Some(row),
                },
                Found::None => found.missing.push((path, row)),
                Found::Several(several) => {
                    let paths = several.iter().map(|&image| images[image].path.as_str());
                    let paths = shortened_list(paths, 3);
                    let message = format!("`{written}` in {} could be {paths}", self.name);
                    let help = "set `prefix` to the folder of these images, or list folders without labels in [dataset] unlabelled";
                    return Err(DataError::invalid(message, help));
                }
            }
        }
        Ok(found)
    }
}

/// A name in a table as a path with `/` below the folder.
fn in_folder(prefix: Option<&str>, written: &str) -> String {
    let plain = written.replace('\\', "/");
    let plain = plain.trim_start_matches("./").trim_start_matches('/');
    match prefix.map(|prefix| prefix.trim_start_matches("./").trim_end_matches('/')) {
        Some(prefix) if !prefix.is_empty() => format!("{prefix}/{plain}"),
        _ => plain.to_owned(),
    }
}

/// The path without an image's extension.
fn stem(path: &str) -> &str {
    match path.rsplit_once('.') {
        Some((stem, _)) if is_image(path) => stem,
        _ => path,
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

enum Found {
    None,
    One(usize),
    Several(Vec<usize>),
}

/// Images by their paths. Only looked up in, never iterated over.
struct Index<'a> {
    images: &'a [Image],
    by_stem: HashMap<&'a str, Vec<usize>>,
    by_name: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Index<'a> {
    fn new(images: &'a [Image], is_candidate: impl Fn(&str) -> bool) -> Index<'a> {
        let (mut by_stem, mut by_name) = (HashMap::new(), HashMap::new());
        for (at, image) in images.iter().enumerate() {
            let stem = stem(&image.path);
            by_stem.entry(stem).or_insert_with(Vec::new).push(at);
            if is_candidate(&image.path) {
                by_name.entry(file_name(stem)).or_insert_with(Vec::new).push(at);
            }
        }
        Index { images, by_stem, by_name }
    }

    fn find(&self, path: &str) -> Found {
        if let Ok(at) = self.images.binary_search_by(|image| image.path.as_str().cmp(path)) {
            return Found::One(at);
        }
        // A name such as `a.b` may lack its extension, or `1.jpg` be `1.JPG` on disk.
        for wanted in [path, stem(path)] {
            if let Some(found) = self.by_stem.get(wanted) {
                return one_of(self.exact(found.clone(), path));
            }
        }
        for wanted in [path, stem(path)] {
            let ends = |at: &&usize| ends_with(stem(&self.images[**at].path), wanted);
            let named = self.by_name.get(file_name(wanted)).into_iter().flatten();
            let found: Vec<usize> = named.filter(ends).copied().collect();
            if !found.is_empty() {
                return one_of(self.exact(found, path));
            }
        }
        Found::None
    }

    /// Of several images, those with the extension that was written.
    fn exact(&self, found: Vec<usize>, path: &str) -> Vec<usize> {
        let exact: Vec<usize> =
            found.iter().copied().filter(|&at| ends_with(&self.images[at].path, path)).collect();
        if exact.is_empty() { found } else { exact }
    }
}

fn one_of(found: Vec<usize>) -> Found {
    match found[..] {
        [one] => Found::One(one),
        _ => Found::Several(found),
    }
}

/// Whether the last parts of a path are these.
fn ends_with(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|start| start.is_empty() || start.ends_with('/'))
}

type Parsed = (Vec<String>, Vec<Vec<String>>);

/// Whether a table has no header, by its name.
pub(crate) fn is_named_like_text(name: &str) -> bool {
    name.to_lowercase().ends_with(".txt")
}

fn separated(name: &str, text: &str, has_header: bool) -> Result<Parsed, DataError> {
    let header = text.lines().next().unwrap_or_default();
    let count = |separator: char| header.matches(separator).count();
    let separator = ['\t', ';', ','].into_iter().max_by_key(|&one| count(one)).unwrap_or(',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator as u8)
        .flexible(true)
        .has_headers(has_header)
        .from_reader(text.as_bytes());
    let damaged = |error: csv::Error| {
        DataError::invalid(format!("{name} can't be read: {error}"), "check its quotes and commas")
    };
    let first = reader.headers().map_err(damaged)?.iter().map(str::to_owned);
    let columns: Vec<String> = match has_header {
        true => first.collect(),
        false => (1..=first.count()).map(|number| number.to_string()).collect(),
    };
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(damaged)?;
        if record.len() != columns.len() {
            let line = record.position().map_or(0, csv::Position::line);
            return Err(DataError::invalid(
                format!(
                    "line {line} of {name} has {} fields, but there are {} columns",
                    record.len(),
                    columns.len()
                ),
                "put fields with commas in quotes",
            ));
        }
        rows.push(record.iter().map(str::to_owned).collect());
    }
    Ok((columns, rows))
}

fn json_lines(name: &str, text: &str) -> Result<Parsed, DataError> {
    let (mut columns, mut rows) = (Vec::<String>::new(), Vec::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line)
            .map_err(|error| {
                let message = format!("line {} of {name} is no JSON object: {error}", number + 1);
                DataError::invalid(
                    message,
                    "each line is an object such as {\"image\": \"1.png\", \"class\": \"cat\"}",
                )
            })?;
        let mut row = vec![String::new(); columns.len()];
        for (key, value) in object {
            let column = columns.iter().position(|column| *column == key).unwrap_or_else(|| {
                columns.push(key);
                row.push(String::new());
                columns.len() - 1
            });
            row[column] = match value {
                serde_json::Value::String(text) => text,
                serde_json::Value::Null => String::new(),
                other => other.to_string(),
            };
        }
        rows.push(row);
    }
    for row in &mut rows {
        row.resize(columns.len(), String::new());
    }
    Ok((columns, rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Digest;

    fn images(paths: &[&str]) -> Vec<Image> {
        let one = |path: &&str| Image {
            path: (*path).into(),
            length: 1,
            digest: Digest::of(path.as_bytes()),
        };
        paths.iter().map(one).collect()
    }

    fn table(text: &str) -> Table {
        Table::parse("t.csv", text.as_bytes()).unwrap()
    }

    fn message(text: &[u8]) -> String {
        Table::parse("t.csv", text).unwrap_err().to_string()
    }

    #[test]
    fn commas_tabs_semicolons_and_json_lines_give_the_same_table() {
        let wanted = table("id,label\n1,\"a, b\"\n2,c\n");
        for text in [
            "\u{feff}id,label\r\n1,\"a, b\"\r\n2,c",
            "id\tlabel\n1\ta, b\n2\tc\n",
            "id;label\n1;a, b\n2;c\n",
            "{\"id\": 1, \"label\": \"a, b\"}\n\n{\"label\": \"c\", \"id\": \"2\"}\n",
        ] {
            let parsed = table(text);
            let fields = |column: &str| {
                let column = parsed.column(column).unwrap();
                (0..parsed.row_count())
                    .map(|row| parsed.field(row, column).unwrap())
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                (fields("id"), fields("LABEL")),
                (vec!["1", "2"], vec!["a, b", "c"]),
                "{text}"
            );
        }
        assert_eq!(wanted.class_column(None, 0).unwrap(), 1);
    }

    #[test]
    fn a_text_file_has_no_header() {
        let text = "val_0.JPEG\tn1\t0\t32\nval_1.JPEG\tn2\t5\t9\n";
        let parsed = Table::parse("val/val_annotations.txt", text.as_bytes()).unwrap();
        assert_eq!(
            (parsed.columns(), parsed.row_count()),
            (&["1", "2", "3", "4"].map(str::to_owned)[..], 2)
        );
        assert_eq!(parsed.field(0, parsed.column("2").unwrap()), Some("n1"));
    }

    #[test]
    fn damaged_tables_are_refused_with_the_line() {
        assert_eq!(
            message(b"a,b\n1,2\n1,2,3\n"),
            "line 3 of t.csv has 3 fields, but there are 2 columns"
        );
        assert_eq!(message(b"a,b\n1,\xff\n"), "t.csv isn't UTF-8: see line 2");
        assert_eq!(message(b"a,b\n"), "t.csv has no rows");
        assert_eq!(message(b""), "t.csv has no rows");
        assert!(message(b"{\"a\": 1}\n{\"a\"\n").starts_with("line 2 of t.csv is no JSON object"));
        let error = table("image,x,y\n1,2,3\n").class_column(None, 0).unwrap_err().to_string();
        assert_eq!(error, "which column of t.csv is the class? It has `image`, `x` and `y`");
        let error = table("image,clas\n1,2\n").column("class").unwrap_err();
        assert_eq!(error.help(), Some("did you mean `clas`?"));
    }

    #[test]
    fn columns_are_found_by_usual_names() {
        let found = table("label,x,File\na,1,2\n");
        let image = found.image_column(None).unwrap();
        assert_eq!((image, found.class_column(None, image).unwrap()), (2, 0));
        assert_eq!(found.image_column(Some("x")).unwrap(), 1);
        assert_eq!(table("what,which\na,b\n").image_column(None).unwrap(), 0);
    }

    #[test]
    fn rows_find_images_by_path_stem_or_end() {
        let set = images(&["a/1.png", "a/2.JPG", "a/b.c.png", "b/3.png", "b/4.png", "test/9.png"]);
        let rows = "id,label\na/1.png,x\n2.jpg,x\nb.c,x\n./b\\3,x\n9,x\n7,x\n2,x\n";
        let found = table(rows).matches(&set, 0, None, |path| !path.starts_with("test/")).unwrap();
        assert_eq!(found.by_image, [Some(0), Some(1), Some(2), Some(3), None, None]);
        assert_eq!(found.missing, [("9".to_owned(), 4), ("7".to_owned(), 5)]);
        assert_eq!(found.repeated, [(6, 1)]);
        let prefixed =
            table("id,label\n3,x\n1,x\n").matches(&set, 0, Some("b/"), |_| true).unwrap();
        assert_eq!(prefixed.missing, [("b/1".to_owned(), 1)]);
        let twice = images(&["a/1.png", "b/1.png"]);
        let error = table("id,label\n1,x\n").matches(&twice, 0, None, |_| true).unwrap_err();
        assert_eq!(error.to_string(), "`1` in t.csv could be `a/1.png` and `b/1.png`");
    }
}
