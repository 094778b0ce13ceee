//! Errors and per-class metrics: the confusion matrix, the most confused pairs of classes, and each
//! class.

use super::headline::primary_split;
use super::html::{self, Column, Table, side_by_side};
use crate::common::number::thousands;
use crate::draw::{Bar, BarChart, ConfusionMatrix, Tone, percent};
use crate::metrics::{ClassMetrics, Evaluation, SplitMetrics, wilson};
use maud::{Markup, html};
use std::cmp::Reverse;

/// A matrix of more classes isn't readable: it shows those with the most errors.
const MAX_CLASSES: usize = 100;
const WORST_CLASSES: usize = 60;

const MAX_PAIRS: usize = 12;
const MAX_BARS: usize = 40;
const MAX_ROWS: usize = 1_000;

/// Metrics of a class with fewer images are marked as unreliable.
const MIN_SUPPORT: u64 = 10;

/// Images of one class that were predicted as another.
pub(super) struct Confusion<'a> {
    pub(super) truth: &'a str,
    pub(super) prediction: &'a str,
    pub(super) count: u64,
    /// All images of the true class.
    support: u64,
}

/// The pairs of classes that are confused, the most frequent first, equal ones in the order of the
/// classes.
pub(super) fn confused<'a>(classes: &'a [String], split: &SplitMetrics) -> Vec<Confusion<'a>> {
    let mut pairs: Vec<Confusion> = Vec::new();
    for (truth, row) in classes.iter().zip(&split.confusion) {
        let support = sum(row);
        for (prediction, &count) in classes.iter().zip(row) {
            if count > 0 && prediction != truth {
                pairs.push(Confusion { truth, prediction, count, support });
            }
        }
    }
    pairs.sort_by_key(|pair| Reverse(pair.count));
    pairs
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().copied().fold(0, u64::saturating_add)
}

/// The confusion matrix and the most confused pairs.
pub(super) fn errors(evaluation: &Evaluation) -> Markup {
    let Some((name, split)) = primary_split(evaluation) else { return Markup::default() };
    let classes = &evaluation.classes;
    let pairs = confused(classes, split);
    if pairs.is_empty() {
        return html::note(&format!("None on the {} {name} images.", thousands(split.count)));
    }
    let matrix = matrix(classes, split).render();
    let pairs = html! {
        figure.chart { figcaption { b { "Most confused" } } (pair_table(&pairs)) }
    };
    // A small matrix leaves room for the pairs beside it.
    if classes.len() <= 12 {
        side_by_side([matrix, pairs])
    } else {
        html! { (matrix) (pairs) }
    }
}

fn pair_table(pairs: &[Confusion]) -> Markup {
    let mut table = Table::new(&[
        ("True class", Column::Text),
        ("Predicted as", Column::Text),
        ("Images", Column::Number),
        ("Of its class", Column::Number),
    ]);
    for pair in pairs.iter().take(MAX_PAIRS) {
        let share = percent(pair.count as f64 / pair.support as f64);
        table.row([pair.truth, pair.prediction, &thousands(pair.count), &share]);
    }
    table.render()
}

fn matrix(classes: &[String], split: &SplitMetrics) -> ConfusionMatrix {
    if classes.len() <= MAX_CLASSES {
        return ConfusionMatrix {
            title: "Images by true and predicted class".to_owned(),
            classes: classes.to_vec(),
            counts: split.confusion.clone(),
            totals: None,
        };
    }
    let count = |row: usize, column: usize| {
        split.confusion.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0)
    };
    let total = |row: usize| split.confusion.get(row).map_or(0, |row| sum(row));
    let mut worst: Vec<usize> = (0..classes.len()).collect();
    worst.sort_by_key(|&class| Reverse(total(class).saturating_sub(count(class, class))));
    worst.truncate(WORST_CLASSES);
    worst.sort_unstable();
    let row = |row: usize| worst.iter().map(|&column| count(row, column)).collect();
    ConfusionMatrix {
        title: format!(
            "The {WORST_CLASSES} classes with the most errors, of {}",
            thousands(classes.len() as u64)
        ),
        classes: worst.iter().map(|&class| classes[class].clone()).collect(),
        counts: worst.iter().map(|&class| row(class)).collect(),
        totals: Some(worst.iter().map(|&class| total(class)).collect()),
    }
}

/// F1 and recall of each class as bars in the same order, and all metrics as a table.
pub(super) fn classes(evaluation: &Evaluation) -> Markup {
    let Some((_, split)) = primary_split(evaluation) else { return Markup::default() };
    let mut rows: Vec<&ClassMetrics> = split.per_class.iter().collect();
    rows.sort_by(|a, b| a.f1.total_cmp(&b.f1));
    let shown =
        if rows.len() > MAX_BARS { format!(", the {MAX_BARS} lowest") } else { String::new() };
    rows.truncate(MAX_BARS);
    let f1 = BarChart {
        title: format!("F1{shown}"),
        description: "F1 of each class, lowest first".to_owned(),
        bars: rows.iter().map(|class| f1_bar(class)).collect(),
        max: Some(1.0),
    };
    let recall = BarChart {
        title: format!("Recall with its 95\u{202f}% interval{shown}"),
        description: "Recall of each class, in the same order".to_owned(),
        bars: rows.iter().map(|class| recall_bar(class)).collect(),
        max: Some(1.0),
    };
    html! {
        @if rows.iter().any(|class| class.support < MIN_SUPPORT) {
            (html::note(&format!("Paler: recall of fewer than {MIN_SUPPORT} images.")))
        }
        (side_by_side([f1.render(), recall.render()]))
        (html::details("All classes as a table", &class_table(split)))
    }
}

fn f1_bar(class: &ClassMetrics) -> Bar {
    Bar {
        name: class.class.clone(),
        value: class.f1,
        label: format!("{:.2}", class.f1),
        tooltip: format!(
            "{}: F1 {:.3}, precision {}, recall {}",
            class.class,
            class.f1,
            percent(class.precision),
            percent(class.recall)
        ),
        ..Bar::default()
    }
}

fn recall_bar(class: &ClassMetrics) -> Bar {
    let correct = (class.recall * class.support as f64).round().max(0.0) as u64;
    Bar {
        name: class.class.clone(),
        value: class.recall,
        interval: Some(wilson(correct.min(class.support), class.support)),
        label: format!("{correct}/{}", class.support),
        tooltip: format!(
            "{}: {correct} of {} correct ({})",
            class.class,
            thousands(class.support),
            percent(class.recall)
        ),
        tone: if class.support < MIN_SUPPORT { Tone::Faint } else { Tone::Normal },
    }
}

fn class_table(split: &SplitMetrics) -> Markup {
    let names = ["Precision", "Recall", "F1", "Images"].map(|name| (name, Column::Number));
    let mut table = Table::new(&[&[("Class", Column::Text)], &names[..]].concat());
    let mut row = |name: &str, metrics: [f64; 3], images: u64| {
        let [precision, recall, f1] = metrics.map(|metric| format!("{metric:.3}"));
        table.row([name, &precision, &recall, &f1, &thousands(images)]);
    };
    for class in split.per_class.iter().take(MAX_ROWS) {
        row(&class.class, [class.precision, class.recall, class.f1], class.support);
    }
    for (name, average) in
        [("Macro average", split.macro_average), ("Weighted average", split.weighted_average)]
    {
        row(name, [average.precision, average.recall, average.f1], split.count);
    }
    let more = split.per_class.len().saturating_sub(MAX_ROWS);
    html! {
        (table.render())
        @if more > 0 {
            (html::note(&format!("{} more are in metrics.json.", thousands(more as u64))))
        }
    }
}
