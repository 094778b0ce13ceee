//! How training went: loss, accuracy and learning rate by epoch.

use super::html::{self, Column, Table, side_by_side};
use crate::draw::{Lines, Mark, Series, Unit, percent};
use crate::metrics::EpochRow;
use crate::runs::{Results, StageFacts, TrainingSide};

/// Rows of the table of epochs; longer trainings show every nth.
const MOST_ROWS: usize = 200;

/// The training that an evaluating stage's model comes from, and how it went: the one that it needs, else the only one.
pub(super) fn summary<'a>(
    results: &Results<'a>,
    stage: &StageFacts,
) -> Option<(&'a StageFacts, TrainingSide)> {
    let histories = results.histories();
    let needed = histories
        .iter()
        .find(|(trained, _)| stage.needs.values().any(|need| *need == trained.stage));
    let (trained, rows) = needed.or_else(|| histories.first().filter(|_| histories.len() == 1))?;
    Some((*trained, TrainingSide::of(results, trained, rows)?))
}

/// The curves of every training in the run.
pub(super) fn curves(results: &Results) -> String {
    let histories = results.histories();
    let several = histories.len() > 1;
    let one = |(stage, rows): &(&StageFacts, Vec<EpochRow>)| {
        let kept = TrainingSide::of(results, stage, rows).map(|training| training.kept_epoch);
        let heading = if several {
            format!("<h3>{}</h3>", crate::draw::escape(&stage.stage))
        } else {
            String::new()
        };
        let table = html::details("Every epoch in numbers", &table(rows));
        format!(
            "{heading}{}{table}",
            side_by_side(&[loss(rows, kept).draw(), accuracy(rows, kept).draw()])
        )
    };
    histories.iter().map(one).collect()
}

type Value = fn(&EpochRow) -> Option<f64>;

/// A curve's points.
pub(super) fn points(rows: &[EpochRow], value: Value) -> Vec<(f64, f64)> {
    rows.iter().filter_map(|row| Some((row.epoch as f64, value(row)?))).collect()
}

fn loss(rows: &[EpochRow], kept: Option<u64>) -> Lines {
    chart("Loss", Unit::Number, rows, kept, |row| Some(row.train_loss), |row| row.validation_loss)
}

fn accuracy(rows: &[EpochRow], kept: Option<u64>) -> Lines {
    chart(
        "Accuracy",
        Unit::Share,
        rows,
        kept,
        |row| Some(row.train_accuracy),
        |row| row.validation_accuracy,
    )
}

fn chart(
    title: &str,
    unit: Unit,
    rows: &[EpochRow],
    kept: Option<u64>,
    train: Value,
    validation: Value,
) -> Lines {
    let line = |name: &str, color, dashed, value: Value| Series {
        name: name.to_owned(),
        color,
        dashed,
        points: points(rows, value),
    };
    let mut series =
        vec![line("training", 1, true, train), line("validation", 0, false, validation)];
    series.retain(|series| !series.points.is_empty());
    let marks = kept.map(|epoch| Mark {
        series: series.len().saturating_sub(1),
        x: epoch as f64,
        label: format!("kept, epoch {epoch}"),
    });
    Lines {
        title: title.to_owned(),
        x: "epoch".to_owned(),
        x_unit: Unit::Whole,
        y_unit: unit,
        series,
        marks: marks.into_iter().collect(),
    }
}

fn table(rows: &[EpochRow]) -> String {
    let names = [
        "Epoch",
        "Learning rate",
        "Training loss",
        "Validation loss",
        "Training accuracy",
        "Validation accuracy",
    ];
    let mut table = Table::new(&names.map(|name| (name, Column::Number)));
    let number =
        |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
    let share = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), percent);
    let every = rows.len().div_ceil(MOST_ROWS).max(1);
    let last = rows.len().saturating_sub(1);
    for (_, row) in
        rows.iter().enumerate().filter(|(index, _)| index % every == 0 || *index == last)
    {
        table.row(&[
            row.epoch.to_string(),
            format!("{:.2e}", row.learning_rate),
            number(Some(row.train_loss)),
            number(row.validation_loss),
            share(Some(row.train_accuracy)),
            share(row.validation_accuracy),
        ]);
    }
    table.html()
}
