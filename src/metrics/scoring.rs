//! Scores predictions as they come: rows of `predictions.csv`, and the metrics of each split. Memory
//! doesn't grow with the images.

use super::{Evaluation, MetricsError, PredictionWriter, Scorer};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The predictions so far.
pub struct Scoring<W: Write> {
    writer: PredictionWriter<W>,
    scorers: BTreeMap<String, Scorer>,
    classes: Vec<String>,
}

/// Why a prediction can't be scored.
#[derive(Debug, thiserror::Error)]
pub enum ScoringError {
    /// The prediction is invalid.
    #[error("{path}: {source}")]
    Prediction { path: String, source: MetricsError },
    /// Its row can't be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl<W: Write> Scoring<W> {
    /// Writes the header of `predictions.csv` to `out`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn new(out: W, classes: &[String]) -> io::Result<Scoring<W>> {
        let writer = PredictionWriter::new(out, classes)?;
        Ok(Scoring { writer, scorers: BTreeMap::new(), classes: classes.to_vec() })
    }

    /// Adds the prediction for an image. Without a label it is written, not scored.
    ///
    /// # Errors
    /// As for [`Scorer::push`] and [`PredictionWriter::write`].
    pub fn push(
        &mut self,
        path: &str,
        split: &str,
        label: Option<u32>,
        probabilities: &[f32],
    ) -> Result<(), ScoringError> {
        if let Some(label) = label {
            let new = || Scorer::new(&self.classes);
            let scorer = self.scorers.entry(split.to_owned()).or_insert_with(new);
            scorer
                .push(label, probabilities)
                .map_err(|source| ScoringError::Prediction { path: path.to_owned(), source })?;
        }
        Ok(self.writer.write(path, split, label, probabilities)?)
    }

    /// Writes what is buffered, and returns the metrics.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(self) -> io::Result<Evaluation> {
        self.writer.finish()?;
        let splits = self.scorers.into_iter();
        let splits = splits.filter_map(|(split, scorer)| Some((split, scorer.finish()?)));
        Ok(Evaluation::new(self.classes, splits.collect()))
    }
}
