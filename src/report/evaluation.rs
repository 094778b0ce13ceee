//! Where a model is right and wrong: the confusion matrix, the pairs of classes taken for one another, each class.

use super::headline::chosen;
use super::html::{self, Column, Table, side_by_side};
use crate::common::number::thousands;
use crate::draw::{Bar, Bars, Matrix, Tone, percent};
use crate::metrics::{ClassMetrics, Evaluation, SplitMetrics, wilson};
use std::cmp::Reverse;

/// More classes than this make no readable matrix: those with the most mistakes are shown.
const MOST_CLASSES: usize = 100;
const WORST_CLASSES: usize = 60;

/// Pairs in the table, bars in the chart of classes, rows in the table of classes.
const MOST_PAIRS: usize = 12;
const MOST_BARS: usize = 40;
const MOST_ROWS: usize = 1_000;

/// Support below this says little about a class.
const FEW: u64 = 10;

/// True class taken for another.
pub(super) struct Confused<'a> {
    pub(super) truth: &'a str,
    pub(super) guess: &'a str,
    pub(super) count: u64,
    pub(super) support: u64,
}

/// Pairs of classes that are taken for one another, most often first; of equals the first classes first.
pub(super) fn confused<'a>(classes: &'a [String], split: &SplitMetrics) -> Vec<Confused<'a>> {
    let mut pairs: Vec<Confused> = Vec::new();
    for (truth, row) in classes.iter().zip(&split.confusion) {
        let support = row.iter().copied().fold(0, u64::saturating_add);
        for (guess, &count) in classes.iter().zip(row) {
            if count > 0 && guess != truth {
                pairs.push(Confused { truth, guess, count, support });
            }
        }
    }
    pairs.sort_by_key(|pair| Reverse(pair.count));
    pairs
}

/// The confusion matrix and the pairs that are confused most.
pub(super) fn mistakes(evaluation: &Evaluation) -> String {
    let Some((name, split)) = chosen(evaluation) else { return String::new() };
    let classes = &evaluation.classes;
    let pairs = confused(classes, split);
    if pairs.is_empty() {
        return html::note(&format!("None on the {} {name} images.", thousands(split.count)));
    }
    let mut table = Table::new(&[
        ("True class", Column::Text),
        ("Taken for", Column::Text),
        ("Images", Column::Number),
        ("Of its class", Column::Number),
    ]);
    for pair in pairs.iter().take(MOST_PAIRS) {
        table.row(&[
            pair.truth.to_owned(),
            pair.guess.to_owned(),
            thousands(pair.count),
            percent(pair.count as f64 / pair.support as f64),
        ]);
    }
    let matrix = matrix(classes, split);
    let pairs = format!(
        "<figure class=\"chart\"><figcaption><b>Confused most</b></figcaption>{}</figure>",
        table.html()
    );
    // A small matrix leaves room for the pairs beside it.
    if classes.len() <= 12 { side_by_side(&[matrix, pairs]) } else { format!("{matrix}{pairs}") }
}

fn matrix(classes: &[String], split: &SplitMetrics) -> String {
    if classes.len() <= MOST_CLASSES {
        let title = "Images by true and predicted class".to_owned();
        return Matrix {
            title,
            classes: classes.to_vec(),
            counts: split.confusion.clone(),
            totals: None,
        }
        .draw();
    }
    let count = |row: usize, column: usize| {
        split.confusion.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0)
    };
    let total = |row: usize| {
        split.confusion.get(row).map_or(0, |row| row.iter().copied().fold(0, u64::saturating_add))
    };
    let mut worst: Vec<usize> = (0..classes.len()).collect();
    worst.sort_by_key(|&class| Reverse(total(class).saturating_sub(count(class, class))));
    worst.truncate(WORST_CLASSES);
    worst.sort_unstable();
    Matrix {
        title: format!(
            "The {WORST_CLASSES} classes with the most mistakes, of {}",
            thousands(classes.len() as u64)
        ),
        classes: worst.iter().filter_map(|&class| classes.get(class).cloned()).collect(),
        counts: worst
            .iter()
            .map(|&row| worst.iter().map(|&column| count(row, column)).collect())
            .collect(),
        totals: Some(worst.iter().map(|&row| total(row)).collect()),
    }
    .draw()
}

/// F1 and recall of each class, as bars in one order, and everything as a table.
pub(super) fn classes(evaluation: &Evaluation) -> String {
    let Some((_, split)) = chosen(evaluation) else { return String::new() };
    let mut rows: Vec<&ClassMetrics> = split.per_class.iter().collect();
    rows.sort_by(|a, b| a.f1.total_cmp(&b.f1));
    let shown =
        if rows.len() > MOST_BARS { format!(", the {MOST_BARS} lowest") } else { String::new() };
    let f1 = Bars {
        title: format!("F1{shown}"),
        about: "F1 of each class, lowest first".to_owned(),
        bars: rows.iter().take(MOST_BARS).map(|class| f1_bar(class)).collect(),
        full: Some(1.0),
    };
    let recall = Bars {
        title: format!("Recall with its 95\u{202f}% interval{shown}"),
        about: "Recall of each class, in the same order".to_owned(),
        bars: rows.iter().take(MOST_BARS).map(|class| recall_bar(class)).collect(),
        full: Some(1.0),
    };
    let few = rows.iter().take(MOST_BARS).any(|class| class.support < FEW);
    let few = if few {
        html::note(&format!("Paler: recall of fewer than {FEW} images."))
    } else {
        String::new()
    };
    let table = html::details("Every class in numbers", &table(split));
    format!("{few}{}{table}", side_by_side(&[f1.draw(), recall.draw()]))
}

fn f1_bar(class: &ClassMetrics) -> Bar {
    Bar {
        name: class.class.clone(),
        value: class.f1,
        text: format!("{:.2}", class.f1),
        hover: format!(
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
    let hits = (class.recall * class.support as f64).round().max(0.0) as u64;
    Bar {
        name: class.class.clone(),
        value: class.recall,
        interval: Some(wilson(hits.min(class.support), class.support)),
        text: format!("{hits}/{}", class.support),
        hover: format!(
            "{}: {hits} of {} found ({})",
            class.class,
            thousands(class.support),
            percent(class.recall)
        ),
        tone: if class.support < FEW { Tone::Faint } else { Tone::Plain },
    }
}

fn table(split: &SplitMetrics) -> String {
    let names = ["Precision", "Recall", "F1", "Images"].map(|name| (name, Column::Number));
    let mut table = Table::new(&[&[("Class", Column::Text)], &names[..]].concat());
    let row = |name: &str, numbers: [f64; 3], images: u64| -> Vec<String> {
        let numbers = numbers.map(|number| format!("{number:.3}"));
        std::iter::once(name.to_owned()).chain(numbers).chain([thousands(images)]).collect()
    };
    for class in split.per_class.iter().take(MOST_ROWS) {
        let numbers = [class.precision, class.recall, class.f1];
        table.row(&row(&class.class, numbers, class.support));
    }
    for (name, average) in
        [("Mean of classes", split.macro_average), ("Mean by images", split.weighted_average)]
    {
        let numbers = [average.precision, average.recall, average.f1];
        table.row(&row(name, numbers, split.count));
    }
    let cut = split.per_class.len().saturating_sub(MOST_ROWS);
    let rest = if cut > 0 {
        html::note(&format!("{} more are in metrics.json.", thousands(cut as u64)))
    } else {
        String::new()
    };
    table.html() + &rest
}
