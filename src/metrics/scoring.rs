//! Scores predictions as they come: rows of `predictions.csv`, the metrics of each split, and the
//! curves of the test split. Of the images, memory holds the probabilities of that split alone, up
//! to a limit.

use super::{
    CurveScorer, Curves, Evaluation, MetricsError, PredictionWriter, Scorer, SplitMetrics,
};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The split that has curves.
const TEST: &str = "test";

/// The predictions so far.
pub struct Scoring<W: Write> {
    writer: PredictionWriter<W>,
    scorers: BTreeMap<String, Scorer>,
    curves: CurveScorer,
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
        let curves = CurveScorer::new(classes);
        Ok(Scoring { writer, scorers: BTreeMap::new(), curves, classes: classes.to_vec() })
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
            if split == TEST {
                self.curves.push(label, probabilities);
            }
        }
        Ok(self.writer.write(path, split, label, probabilities)?)
    }

    /// Writes what is buffered, and returns the metrics, and the curves where there are labelled
    /// test images.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(self) -> io::Result<(Evaluation, Option<Curves>)> {
        self.writer.finish()?;
        let splits = self.scorers.into_iter();
        let splits = splits.filter_map(|(split, scorer)| Some((split, scorer.finish()?)));
        let mut splits: BTreeMap<String, SplitMetrics> = splits.collect();
        let curves = splits.get_mut(TEST).map(|test| {
            let (curves, areas) = self.curves.finish(TEST);
            test.add_curves(&curves, &areas);
            curves
        });
        Ok((Evaluation::new(self.classes, splits), curves))
    }
}
