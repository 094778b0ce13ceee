//! `predictions.csv`: one row per image with its split, label, prediction and class probabilities.

use super::{MetricsError, argmax, read_rows};
use serde::Deserialize;
use std::io::Write;
use std::path::Path;

/// Prefix of class columns, so that a class named "path" does not collide with another column.
const CLASS_PREFIX: &str = "p:";

/// One row, without the class columns.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
        let columns = ["path", "split", "label", "prediction", "probability"].map(str::to_owned);
        csv.write_record(
            columns.into_iter().chain(classes.iter().map(|class| format!("{CLASS_PREFIX}{class}"))),
        )?;
        Ok(PredictionWriter { csv, classes: classes.to_vec() })
    }

    /// Writes one row; `probabilities` are in the order of the classes. Numbers are written as the
    /// shortest text that parses to the same f32.
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
        let start = [path.to_owned(), split.to_owned(), label, name(best), probability.to_string()];
        self.csv.write_record(start.into_iter().chain(probabilities.iter().map(f32::to_string)))?;
        Ok(())
    }

    /// Flushes the writer. Dropping it without this call ignores write errors.
    pub fn finish(mut self) -> std::io::Result<()> {
        self.csv.flush()
    }
}

/// Reads a `predictions.csv`.
pub fn read_predictions(path: &Path) -> Result<Vec<Prediction>, MetricsError> {
    read_rows(path)
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
    fn a_missing_file_and_a_file_of_another_kind_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("predictions.csv");
        std::fs::write(&file, "a,b\n1,2\n").unwrap();
        assert!(read_predictions(&file).unwrap_err().to_string().contains("predictions.csv"));
        assert!(read_predictions(&folder.path().join("none")).is_err());
    }
}
