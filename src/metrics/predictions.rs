//! `predictions.csv`: one row per image with its split, label, prediction and class probabilities.

use super::{MetricsError, argmax};
use crate::common::csv_text::{not_a_formula, without_quote};
use std::io::Write;
use std::path::Path;

/// Prefix of class columns, so that a class named "path" does not collide with another column.
const CLASS_PREFIX: &str = "p:";

/// The columns before those of the classes.
const COLUMNS: [&str; 5] = ["path", "split", "label", "prediction", "probability"];

/// One row, without the class columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Path of the image in its source.
    pub path: String,
    /// "validation", "test" or "unlabelled".
    pub split: String,
    /// The true class; none if unlabelled.
    pub label: Option<String>,
    /// The most probable class.
    pub prediction: String,
    /// Probability of `prediction`, 0 to 1.
    pub probability: f32,
}

/// Writes `predictions.csv` row by row.
pub struct PredictionWriter<W: Write> {
    csv: csv::Writer<W>,
    classes: Vec<String>,
}

impl<W: Write> PredictionWriter<W> {
    /// Writes the header.
    pub fn new(out: W, classes: &[String]) -> std::io::Result<PredictionWriter<W>> {
        let mut csv = csv::Writer::from_writer(out);
        let columns = COLUMNS.map(str::to_owned);
        csv.write_record(
            columns.into_iter().chain(classes.iter().map(|class| format!("{CLASS_PREFIX}{class}"))),
        )?;
        Ok(PredictionWriter { csv, classes: classes.to_vec() })
    }

    /// Writes one row; `probabilities` are in the order of the classes. Numbers are written as the
    /// shortest text that parses to the same f32. Names that a spreadsheet would take for a formula
    /// get a `'` before them.
    pub fn write(
        &mut self,
        path: &str,
        split: &str,
        label: Option<u32>,
        probabilities: &[f32],
    ) -> std::io::Result<()> {
        let name = |class: usize| self.classes.get(class).map_or("", String::as_str).to_owned();
        let best = argmax(probabilities);
        let label = label.map_or_else(String::new, |class| name(class as usize));
        let probability = probabilities.get(best).copied().unwrap_or(f32::NAN);
        let [path, label, best] =
            [path, &label, &name(best)].map(|name| not_a_formula(name).into_owned());
        let start = [path, split.to_owned(), label, best, probability.to_string()];
        self.csv.write_record(start.into_iter().chain(probabilities.iter().map(f32::to_string)))?;
        Ok(())
    }

    /// Flushes the writer. Dropping it without this call ignores write errors.
    pub fn finish(mut self) -> std::io::Result<()> {
        self.csv.flush()
    }
}

/// Reads a `predictions.csv`. The class columns, which are most of a long file, are not parsed.
pub fn read_predictions(path: &Path) -> Result<Vec<Prediction>, MetricsError> {
    rows(path).map_err(|error| MetricsError::file(path, error))
}

fn rows(path: &Path) -> Result<Vec<Prediction>, Box<dyn std::error::Error + Send + Sync>> {
    let mut csv = csv::Reader::from_path(path)?;
    if csv.headers()?.iter().take(COLUMNS.len()).ne(COLUMNS) {
        return Err(format!("its columns don't begin with {}", COLUMNS.join(", ")).into());
    }
    let (mut rows, mut record) = (Vec::new(), csv::ByteRecord::new());
    while csv.read_byte_record(&mut record)? {
        let text = |column: usize| str::from_utf8(record.get(column).unwrap_or_default());
        let name = |column: usize| text(column).map(|name| without_quote(name).to_owned());
        rows.push(Prediction {
            path: name(0)?,
            split: text(1)?.to_owned(),
            label: Some(name(2)?).filter(|label| !label.is_empty()),
            prediction: name(3)?,
            probability: text(4)?.parse()?,
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_commas_quotes_and_newlines_read_back() {
        let classes = ["path".to_owned(), "a, \"b\"".to_owned()];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("predictions.csv");
        let mut writer =
            PredictionWriter::new(std::fs::File::create(&file).unwrap(), &classes).unwrap();
        writer.write("x,\n1.jpg", "test", Some(1), &[0.25, 0.75]).unwrap();
        writer.write("y.jpg", "unlabelled", None, &[0.1, 1e-8]).unwrap();
        writer.finish().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(
            text,
            "path,split,label,prediction,probability,p:path,\"p:a, \"\"b\"\"\"\n\
             \"x,\n1.jpg\",test,\"a, \"\"b\"\"\",\"a, \"\"b\"\"\",0.75,0.25,0.75\n\
             y.jpg,unlabelled,,path,0.1,0.1,0.00000001\n"
        );
        let rows = read_predictions(&file).unwrap();
        assert_eq!(rows[0].label.as_deref(), Some("a, \"b\""));
        assert_eq!((rows[1].label.clone(), rows[1].probability), (None, 0.1));
    }

    #[test]
    fn names_that_look_like_formulas_are_quoted_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("predictions.csv");
        let classes = ["=1+1".to_owned(), "@b".to_owned()];
        let mut writer =
            PredictionWriter::new(std::fs::File::create(&file).unwrap(), &classes).unwrap();
        writer.write("-x.jpg", "test", Some(0), &[0.25, 0.75]).unwrap();
        writer.finish().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().last(), Some("'-x.jpg,test,'=1+1,'@b,0.75,0.25,0.75"));
        let rows = read_predictions(&file).unwrap();
        assert_eq!(
            (rows[0].path.as_str(), rows[0].label.as_deref(), rows[0].prediction.as_str()),
            ("-x.jpg", Some("=1+1"), "@b")
        );
    }

    #[test]
    fn a_missing_file_and_a_file_of_another_kind_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("predictions.csv");
        std::fs::write(&file, "a,b\n1,2\n").unwrap();
        assert!(read_predictions(&file).unwrap_err().to_string().contains("predictions.csv"));
        assert!(read_predictions(&folder.path().join("none")).is_err());
    }
}
