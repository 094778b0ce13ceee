//! The output of `pipe predict` in each format, row by row: a table whose columns don't depend on
//! later rows, CSV, one JSON document, or JSON lines.

use super::Format;
use crate::common::csv_text::not_a_formula;
use crate::common::number::percent;
use crate::common::visible::visible_line;
use crate::ui::{Style, padded, width};
use serde::Serialize;

/// Widest column of classes, in terminal columns; longer names shift their row.
const WIDEST_CLASS: usize = 40;
/// Width of the column of probabilities, which its heading takes.
const PROBABILITY: usize = "probability".len();

/// The prediction for one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) path: String,
    /// The most probable class.
    pub(super) class: String,
    /// Its probability, in 0..1.
    pub(super) probability: f32,
    /// The most probable classes with their probabilities, in descending order; at least one.
    pub(super) top: Vec<(String, f32)>,
    /// The file of the overlay that explains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) explanation: Option<String>,
}

/// A sentence about an image.
#[derive(Serialize)]
struct Remark {
    path: String,
    reason: String,
}

/// A line of JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Row {
        #[serde(flatten)]
        row: Row,
        #[serde(skip_serializing_if = "Option::is_none")]
        warning: Option<String>,
    },
    Error {
        path: String,
        error: String,
    },
}

/// What is printed, and what was printed so far.
pub(super) struct Output {
    format: Format,
    style: Style,
    top: usize,
    class_width: usize,
    is_explained: bool,
    rows: u64,
    /// For the end of a JSON document.
    warnings: Vec<Remark>,
    unreadable: Vec<Remark>,
}

impl Output {
    pub(super) fn new(
        format: Format,
        top: usize,
        classes: &[String],
        is_explained: bool,
    ) -> Output {
        let widest = classes.iter().map(|class| width(&visible_line(class))).max().unwrap_or(0);
        Output {
            format,
            style: Style::stdout(),
            top: top.min(classes.len()),
            class_width: widest.clamp("class".len(), WIDEST_CLASS),
            is_explained,
            rows: 0,
            warnings: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// Whether warnings and unreadable images are part of the output.
    pub(super) fn has_warnings(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl)
    }

    pub(super) fn start(&mut self) -> String {
        match self.format {
            Format::Table => {
                let next = if self.top > 1 { "  next" } else { "" };
                let explanation = if self.is_explained { "  explanation" } else { "" };
                let class = padded("class", self.class_width);
                let headings = format!("{class}  probability  image{next}{explanation}");
                self.style.dim(&headings) + "\n"
            }
            Format::Csv => {
                let explanation = if self.is_explained { ",explanation" } else { "" };
                format!("path,rank,class,probability{explanation}\n")
            }
            Format::Json => "{\n  \"rows\": [".to_owned(),
            Format::Jsonl => String::new(),
        }
    }

    pub(super) fn row(&mut self, row: Row, warning: Option<String>) -> String {
        self.rows += 1;
        match self.format {
            Format::Table => self.table_row(&row),
            Format::Csv => csv_rows(&row),
            Format::Json => {
                let comma = if self.rows > 1 { "," } else { "" };
                let path = row.path.clone();
                self.warnings.extend(warning.map(|reason| Remark { path, reason }));
                format!("{comma}\n{}", indented(&row, 4))
            }
            Format::Jsonl => line(&Line::Row { row, warning }),
        }
    }

    pub(super) fn unreadable(&mut self, path: String, reason: String) -> String {
        match self.format {
            Format::Table | Format::Csv => String::new(),
            Format::Json => {
                self.unreadable.push(Remark { path, reason });
                String::new()
            }
            Format::Jsonl => line(&Line::Error { path, error: reason }),
        }
    }

    pub(super) fn end(&mut self) -> String {
        if self.format != Format::Json {
            return String::new();
        }
        let end = if self.rows > 0 { "\n  ]" } else { "]" };
        let [warnings, unreadable] = [&self.warnings, &self.unreadable]
            .map(|remarks| indented(remarks, 2).trim_start().to_owned());
        format!("{end},\n  \"warnings\": {warnings},\n  \"unreadable\": {unreadable}\n}}\n")
    }

    /// One line: class, probability and image, which have no need of the other rows to be aligned;
    /// then the next classes and the explanation.
    fn table_row(&self, row: &Row) -> String {
        let class = padded(&visible_line(&row.class), self.class_width);
        let probability = percent(f64::from(row.probability));
        let mut text = format!("{class}  {probability:>PROBABILITY$}  {}", visible_line(&row.path));
        let next = row.top.iter().skip(1);
        let next =
            next.map(|(class, p)| format!("{} {}", visible_line(class), percent(f64::from(*p))));
        let next = next.collect::<Vec<_>>().join(", ");
        for detail in [Some(next), row.explanation.as_deref().map(visible_line)] {
            if let Some(detail) = detail.filter(|detail| !detail.is_empty()) {
                text.push_str(&format!("  {}", self.style.dim(&detail)));
            }
        }
        text + "\n"
    }
}

/// One line per rank.
fn csv_rows(row: &Row) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for (rank, (class, probability)) in row.top.iter().enumerate() {
        let (rank, probability) = ((rank + 1).to_string(), probability.to_string());
        let cells = [&row.path, &rank, class, &probability].into_iter().chain(&row.explanation);
        let cells: Vec<_> = cells.map(|cell| not_a_formula(cell)).collect();
        // Writing to memory fails only for records of different lengths.
        let _ = writer.write_record(cells.iter().map(|cell| cell.as_bytes()));
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A value as indented JSON, each line of it by `columns` more.
fn indented(value: &impl Serialize, columns: usize) -> String {
    let indent = " ".repeat(columns);
    // Numbers are finite, and keys are text.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.lines().map(|line| format!("{indent}{line}")).collect::<Vec<_>>().join("\n")
}

fn line(value: &Line) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn row(path: &str, top: &[(&str, f32)]) -> Row {
        let top: Vec<_> = top.iter().map(|(class, p)| ((*class).to_owned(), *p)).collect();
        let (class, probability) = top[0].clone();
        Row { path: path.into(), class, probability, top, explanation: None }
    }

    fn output(format: Format, top: usize) -> Output {
        let classes = ["shirt", "ankle boot", "衬衫"].map(str::to_owned);
        Output { style: Style::PLAIN, ..Output::new(format, top, &classes, false) }
    }

    #[test]
    fn the_columns_of_a_table_do_not_depend_on_later_rows() {
        let mut out = output(Format::Table, 1);
        let text = out.start()
            + &out.row(row("a.jpg", &[("shirt", 0.875)]), None)
            + &out.row(row("b\x1b[2J\n.jpg", &[("衬衫", 1.0)]), None)
            + &out.unreadable("c.jpg".into(), "it is empty".into())
            + &out.end();
        assert_eq!(
            text,
            "class       probability  image\n\
             shirt            87.5 %  a.jpg\n\
             衬衫            100.0 %  b\\u{1b}[2J\\n.jpg\n"
        );
        let mut out = output(Format::Table, 2);
        assert_eq!(out.start(), "class       probability  image  next\n");
        assert_eq!(
            out.row(row("a.jpg", &[("shirt", 0.875), ("衬衫", 0.0625)]), None),
            "shirt            87.5 %  a.jpg  衬衫 6.2 %\n"
        );
    }

    #[test]
    fn csv_fields_are_quoted_where_necessary() {
        let mut out = output(Format::Csv, 2);
        assert_eq!(out.start(), "path,rank,class,probability\n");
        assert_eq!(
            out.row(row("a,b.jpg", &[("shirt", 0.875), ("coat", 0.0625)]), None),
            "\"a,b.jpg\",1,shirt,0.875\n\"a,b.jpg\",2,coat,0.0625\n"
        );
        assert_eq!(out.row(row("=a", &[("+b", 1.0)]), None), "'=a,1,'+b,1\n");
        let explained = Row { explanation: Some("@x.png".into()), ..row("a", &[("b", 1.0)]) };
        assert_eq!(out.row(explained, None), "a,1,b,1,'@x.png\n");
    }

    #[test]
    fn the_parts_of_a_document_are_one_document() {
        let mut out = output(Format::Json, 1);
        let text = out.start()
            + &out.row(row("a.jpg", &[("shirt", 0.875)]), None)
            + &out.row(row("b\u{7}.jpg", &[("shirt", 0.5)]), Some("damaged".into()))
            + &out.unreadable("c.jpg".into(), "it is empty".into())
            + &out.end();
        let found: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "rows": [
                { "path": "a.jpg", "class": "shirt", "probability": 0.875, "top": [["shirt", 0.875]] },
                { "path": "b\u{7}.jpg", "class": "shirt", "probability": 0.5, "top": [["shirt", 0.5]] },
            ],
            "warnings": [{ "path": "b\u{7}.jpg", "reason": "damaged" }],
            "unreadable": [{ "path": "c.jpg", "reason": "it is empty" }],
        });
        assert_eq!(found, expected);
        assert_eq!(text, serde_json::to_string_pretty(&Document::of(&found)).unwrap() + "\n");
        let mut empty = output(Format::Json, 1);
        let text = empty.start() + &empty.end();
        assert_eq!(text, "{\n  \"rows\": [],\n  \"warnings\": [],\n  \"unreadable\": []\n}\n");
    }

    /// The order of a document's fields.
    #[derive(Serialize)]
    struct Document {
        rows: Vec<Row>,
        warnings: Value,
        unreadable: Value,
    }

    impl Document {
        fn of(value: &Value) -> Document {
            let rows = value["rows"].as_array().unwrap().iter().map(|one| {
                row(
                    one["path"].as_str().unwrap(),
                    &[(
                        one["class"].as_str().unwrap(),
                        one["probability"].as_f64().unwrap() as f32,
                    )],
                )
            });
            let [warnings, unreadable] = ["warnings", "unreadable"].map(|name| value[name].clone());
            Document { rows: rows.collect(), warnings, unreadable }
        }
    }

    #[test]
    fn json_lines_are_rows_or_errors() {
        let mut out = output(Format::Jsonl, 1);
        let text = out.start()
            + &out.row(row("a.jpg", &[("shirt", 0.5)]), Some("damaged".into()))
            + &out.unreadable("c\n.jpg".into(), "it is empty".into())
            + &out.end();
        assert_eq!(
            text,
            concat!(
                r#"{"path":"a.jpg","class":"shirt","probability":0.5,"top":[["shirt",0.5]],"warning":"damaged"}"#,
                "\n",
                r#"{"path":"c\n.jpg","error":"it is empty"}"#,
                "\n"
            )
        );
    }
}
