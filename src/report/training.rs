//! Training curves: loss and accuracy by epoch.

use super::html::{self, Column, Table, side_by_side};
use crate::draw::{Axes, LineChart, Marker, Series, Unit, percent};
use crate::metrics::EpochRow;
use crate::runs::{Results, StageRecord, Status, TrainingSummary};
use maud::{Markup, html};

/// Rows of the table of epochs; a longer training shows every nth epoch.
const MAX_ROWS: usize = 200;

/// The training that produced the model of an evaluating stage: the stage that it needs, else the
/// only one.
pub(super) fn summary<'a>(
    results: &Results<'a>,
    stage: &StageRecord,
) -> Option<(&'a StageRecord, TrainingSummary)> {
    let histories = results.histories();
    let needed = histories
        .iter()
        .find(|(trained, _)| stage.needs.values().any(|need| *need == trained.stage));
    let (trained, rows) = needed.or_else(|| histories.first().filter(|_| histories.len() == 1))?;
    Some((*trained, TrainingSummary::of(results, trained, rows)?))
}

/// The curves of every training in the run, those that didn't end in it included.
pub(super) fn curves(results: &Results) -> Markup {
    let (histories, unfinished) = (results.histories(), results.unfinished_histories());
    let several = histories.len() + unfinished.len() > 1;
    html! {
        @for (stage, rows) in &histories {
            @let kept = TrainingSummary::of(results, stage, rows).map(|training| training.kept_epoch);
            @if several { h3 { (stage.stage) } }
            (of_training(rows, kept))
        }
        @for (stage, rows) in &unfinished {
            @if several { h3 { (stage.stage) } }
            (html::note(&match results.record().status {
                Status::Running => format!("Training is in progress: {} so far.", epochs(rows, stage)),
                _ => format!("Training stopped: {}.", epochs(rows, stage)),
            }))
            (of_training(rows, None))
        }
    }
}

/// `3 of 20 epochs`; after a checkpoint, `epochs 4 to 7 of 20`.
fn epochs(rows: &[EpochRow], stage: &StageRecord) -> String {
    let [first, last] = [rows.first(), rows.last()].map(|row| row.map_or(0, |row| row.epoch));
    let planned = stage.parameters.get("epochs").and_then(serde_json::Value::as_u64);
    let count = planned.unwrap_or(last);
    let planned = planned.map_or_else(String::new, |planned| format!(" of {planned}"));
    match first {
        1 => format!("{last}{planned} {}", if count == 1 { "epoch" } else { "epochs" }),
        _ if first == last => format!("epoch {last}{planned}"),
        _ => format!("epochs {first} to {last}{planned}"),
    }
}

fn of_training(rows: &[EpochRow], kept: Option<u64>) -> Markup {
    html! {
        (side_by_side([loss(rows, kept), accuracy(rows, kept), learning_rate(rows)]))
        (html::details("All epochs as a table", &table(rows)))
    }
}

type Value = fn(&EpochRow) -> Option<f64>;

/// (epoch, value), where the row has the value.
pub(super) fn points(rows: &[EpochRow], value: Value) -> Vec<(f64, f64)> {
    rows.iter().filter_map(|row| Some((row.epoch as f64, value(row)?))).collect()
}

fn loss(rows: &[EpochRow], kept: Option<u64>) -> Markup {
    let values: [Value; 2] = [|row| Some(row.train_loss), |row| row.validation_loss];
    chart("Loss", Unit::Number, rows, kept, values)
}

fn accuracy(rows: &[EpochRow], kept: Option<u64>) -> Markup {
    let values: [Value; 2] = [|row| Some(row.train_accuracy), |row| row.validation_accuracy];
    chart("Accuracy", Unit::Share, rows, kept, values)
}

/// On an axis of its own: its size has nothing to do with a loss.
fn learning_rate(rows: &[EpochRow]) -> Markup {
    let rate = |row: &EpochRow| Some(row.learning_rate);
    let series = Series {
        name: "mean of the epoch".to_owned(),
        color: 2,
        dashed: false,
        points: points(rows, rate),
    };
    LineChart {
        title: "Learning rate".to_owned(),
        x_label: "epoch".to_owned(),
        x_unit: Unit::Whole,
        y_unit: Unit::Number,
        axes: Axes::Fitted,
        series: vec![series],
        markers: Vec::new(),
    }
    .render()
}

fn chart(
    title: &str,
    unit: Unit,
    rows: &[EpochRow],
    kept: Option<u64>,
    [train, validation]: [Value; 2],
) -> Markup {
    let line = |name: &str, color, dashed, value: Value| Series {
        name: name.to_owned(),
        color,
        dashed,
        points: points(rows, value),
    };
    let mut series =
        vec![line("training", 1, true, train), line("validation", 0, false, validation)];
    series.retain(|series| !series.points.is_empty());
    let marker = kept.map(|epoch| Marker {
        series: series.len().saturating_sub(1),
        x: epoch as f64,
        label: format!("kept, epoch {epoch}"),
    });
    LineChart {
        title: title.to_owned(),
        x_label: "epoch".to_owned(),
        x_unit: Unit::Whole,
        y_unit: unit,
        axes: Axes::Fitted,
        series,
        markers: marker.into_iter().collect(),
    }
    .render()
}

fn table(rows: &[EpochRow]) -> Markup {
    let names = [
        "Epoch",
        "Learning rate",
        "Training loss",
        "Validation loss",
        "Training accuracy",
        "Validation accuracy",
    ];
    let mut table = Table::new(&names.map(|name| (name, Column::Number)));
    let dash = || "–".to_owned();
    let number = |value: Option<f64>| value.map_or_else(dash, |value| format!("{value:.4}"));
    let share = |value: Option<f64>| value.map_or_else(dash, percent);
    let every = rows.len().div_ceil(MAX_ROWS).max(1);
    let last = rows.len().saturating_sub(1);
    for (_, row) in
        rows.iter().enumerate().filter(|(index, _)| index % every == 0 || *index == last)
    {
        table.row([
            row.epoch.to_string(),
            format!("{:.2e}", row.learning_rate),
            number(Some(row.train_loss)),
            number(row.validation_loss),
            share(Some(row.train_accuracy)),
            share(row.validation_accuracy),
        ]);
    }
    table.render()
}
