//! The predictions of one split that have a label, as a page lists them: errors and hits, and those
//! of each pair of a true and a predicted class.

use crate::metrics::Prediction;
use crate::runs::{Results, StageRecord};
use std::collections::{BTreeMap, HashMap};

/// The indices of a true and a predicted class.
pub(super) type Cell = (usize, usize);

/// The labelled predictions of one split.
pub(super) struct Scored {
    rows: Vec<Prediction>,
}

impl Scored {
    /// Those of an evaluating stage. Empty where they are missing.
    pub(super) fn of(results: &Results, stage: &StageRecord, split: &str) -> Scored {
        let mut rows = results.predictions(&stage.stage).unwrap_or_default();
        rows.retain(|row| row.split == split && row.label.is_some());
        Scored { rows }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The wrong predictions, the most confident first.
    pub(super) fn errors(&self) -> Vec<&Prediction> {
        sorted(self.rows.iter().filter(|row| !is_hit(row)), Order::MostConfident)
    }

    /// The right predictions, the least confident first.
    pub(super) fn correct(&self) -> Vec<&Prediction> {
        sorted(self.rows.iter().filter(|row| is_hit(row)), Order::LeastConfident)
    }

    /// By true and predicted class: errors from the most confident, hits from the least confident.
    pub(super) fn by_cell(&self, classes: &[String]) -> BTreeMap<Cell, Vec<&Prediction>> {
        let index: HashMap<&str, usize> =
            classes.iter().enumerate().map(|(at, class)| (class.as_str(), at)).collect();
        let mut cells: BTreeMap<Cell, Vec<&Prediction>> = BTreeMap::new();
        for row in self.errors().into_iter().chain(self.correct()) {
            let of = |class: &str| index.get(class).copied();
            let truth = row.label.as_deref().and_then(of);
            if let (Some(truth), Some(prediction)) = (truth, of(&row.prediction)) {
                cells.entry((truth, prediction)).or_default().push(row);
            }
        }
        cells
    }
}

#[derive(Clone, Copy)]
enum Order {
    MostConfident,
    LeastConfident,
}

fn is_hit(row: &Prediction) -> bool {
    row.label.as_deref() == Some(row.prediction.as_str())
}

/// Rows of equal probability by path.
fn sorted<'a>(rows: impl Iterator<Item = &'a Prediction>, order: Order) -> Vec<&'a Prediction> {
    let mut rows: Vec<&Prediction> = rows.collect();
    rows.sort_by(|a, b| {
        let ascending = a.probability.total_cmp(&b.probability);
        let by_probability = match order {
            Order::MostConfident => ascending.reverse(),
            Order::LeastConfident => ascending,
        };
        by_probability.then_with(|| a.path.cmp(&b.path))
    });
    rows
}
