//! Precision, recall and F1 of each class with their intervals, the lowest F1 first.

use super::headline::primary_split;
use super::html::{self, Column, Table, details};
use crate::common::number::{counted, thousands};
use crate::common::words::shortened_list;
use crate::draw::{percent, whisker};
use crate::metrics::{Average, ClassMetrics, Evaluation, SplitMetrics, f1_interval, wilson};
use maud::{Markup, Render, html};

/// Classes with drawn intervals, rows of the table of all, and names in a sentence.
const MAX_DRAWN: usize = 40;
const MAX_ROWS: usize = 1_000;
const MAX_NAMED: usize = 12;

/// A class and the counts that its metrics are made of.
struct Row<'a> {
    metrics: &'a ClassMetrics,
    hits: u64,
    /// Images that were predicted as the class.
    predicted: u64,
}

impl Row<'_> {
    fn labelled(&self) -> u64 {
        self.metrics.support
    }

    /// Whether the class occurs, as a label or as a prediction.
    fn occurs(&self) -> bool {
        self.labelled() > 0 || self.predicted > 0
    }
}

/// All classes, or the weakest with the others in a second table.
pub(super) fn classes(evaluation: &Evaluation) -> Markup {
    let Some((name, split)) = primary_split(evaluation) else { return Markup::default() };
    let rows = rows(split);
    if rows.is_empty() {
        return Markup::default();
    }
    let drawn = &rows[..rows.len().min(MAX_DRAWN)];
    let order = match rows.len() > drawn.len() {
        true => format!(
            "The {MAX_DRAWN} classes with the lowest F1, of {}",
            thousands(rows.len() as u64)
        ),
        false => "The lowest F1 first".to_owned(),
    };
    html! {
        (html::note(&format!(
            "{order}. Intervals are Wilson’s at 95\u{202f}%. F1 is 2J / (1 + J), where J is the share of hits among the images that \
             are of the class or predicted as it; the interval of J carries over."
        )))
        (absent(split, name))
        (table(drawn, split, true))
        @if rows.len() > drawn.len() {
            (details("All classes as a table", &all(&rows, split)))
        }
    }
}

/// The rows that occur, by F1; classes without images come last.
fn rows(split: &SplitMetrics) -> Vec<Row<'_>> {
    let predicted = |class: usize| {
        let column = split.confusion.iter().filter_map(|row| row.get(class)).copied();
        column.fold(0, u64::saturating_add)
    };
    let hits = |class: usize| {
        split.confusion.get(class).and_then(|row| row.get(class)).copied().unwrap_or(0)
    };
    let row = |(class, metrics)| Row { metrics, hits: hits(class), predicted: predicted(class) };
    let mut rows: Vec<Row> =
        split.per_class.iter().enumerate().map(row).filter(Row::occurs).collect();
    rows.sort_by(|a, b| {
        let without_images = |row: &Row| row.labelled() == 0;
        let by_f1 = a.metrics.f1.total_cmp(&b.metrics.f1);
        without_images(a).cmp(&without_images(b)).then(by_f1)
    });
    rows
}

/// Says which classes have no image in the split.
fn absent(split: &SplitMetrics, name: &str) -> Markup {
    let absent: Vec<&str> = split
        .per_class
        .iter()
        .filter(|class| class.support == 0)
        .map(|class| class.class.as_str())
        .collect();
    let (count, named) = (absent.len(), shortened_list(absent, MAX_NAMED));
    html! {
        @if count == 1 {
            (html::note(&format!("{named} has no {name} image, so nothing is known about it.")))
        } @else if count > 1 {
            (html::note(&format!(
                "{} have no {name} image, so nothing is known about them: {named}.",
                counted(count as u64, "class")
            )))
        }
    }
}

fn all(rows: &[Row], split: &SplitMetrics) -> Markup {
    let more = rows.len().saturating_sub(MAX_ROWS) as u64;
    html! {
        (table(&rows[..rows.len().min(MAX_ROWS)], split, false))
        @if more > 0 { (html::note(&format!("{} more are in `metrics.json`.", thousands(more)))) }
    }
}

fn table(rows: &[Row], split: &SplitMetrics, drawn: bool) -> Markup {
    let mut table = Table::new(&[
        ("Class", Column::Text),
        ("Images", Column::Number),
        ("Precision", Column::Measure),
        ("Recall", Column::Measure),
        ("F1", Column::Measure),
    ]);
    for row in rows {
        let (hits, metrics) = (row.hits, row.metrics);
        let share = |value: f64, count: u64| match count {
            0 => "–".render(),
            _ => measure(value, wilson(hits.min(count), count), percent, drawn),
        };
        let f1 = f1_interval(hits, row.labelled(), row.predicted);
        table.row([
            html! { b { (metrics.class) } },
            thousands(row.labelled()).render(),
            share(metrics.precision, row.predicted),
            share(metrics.recall, row.labelled()),
            match row.labelled() {
                0 => "–".render(),
                _ => measure(metrics.f1, f1, decimals, drawn),
            },
        ]);
    }
    for (name, average) in
        [("Macro average", split.macro_average), ("Weighted average", split.weighted_average)]
    {
        table.row(average_row(name, average, split.count));
    }
    table.render()
}

fn average_row(name: &str, average: Average, images: u64) -> [Markup; 5] {
    [
        name.render(),
        thousands(images).render(),
        percent(average.precision).render(),
        percent(average.recall).render(),
        decimals(average.f1).render(),
    ]
}

fn decimals(value: f64) -> String {
    format!("{value:.3}")
}

/// A value with its interval in words, and drawn.
fn measure(value: f64, ends: [f64; 2], text: fn(f64) -> String, drawn: bool) -> Markup {
    let [low, high] = ends.map(text);
    let low = low.trim_end_matches("\u{202f}%");
    html! {
        b { (text(value)) } " " span.soft { (low) " – " (high) }
        @if drawn { (whisker(value, ends)) }
    }
}
