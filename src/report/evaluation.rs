//! The errors of an evaluation: the confusion matrix, the pairs of classes that are confused most,
//! and the images of each.

use super::cells::Cells;
use super::headline::primary_split;
use super::html::{self, Column, Table};
use super::scored::{Cell, Scored};
use super::stored::StoredImages;
use crate::common::number::{counted, thousands};
use crate::draw::{ConfusionMatrix, percent};
use crate::metrics::{Evaluation, SplitMetrics};
use maud::{Markup, Render, html};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A matrix of more classes isn't readable: it shows those with the most errors.
const MAX_CLASSES: usize = 40;
const WORST_CLASSES: usize = 30;
/// Up to here the matrix leaves room beside it.
const FEW_CLASSES: usize = 12;

/// Pairs of classes in the list, beside a matrix of all classes and one of some.
const MAX_PAIRS: usize = 12;
const MAX_PAIRS_OF_MANY: usize = 30;

/// Images of one class that were predicted as another.
pub(super) struct Confusion<'a> {
    pub(super) truth: &'a str,
    pub(super) prediction: &'a str,
    pub(super) count: u64,
    /// All images of the true class.
    support: u64,
    cell: Cell,
}

/// The pairs of classes that are confused, the most frequent first, equal ones in the order of the
/// classes.
pub(super) fn confused<'a>(classes: &'a [String], split: &SplitMetrics) -> Vec<Confusion<'a>> {
    let mut pairs: Vec<Confusion> = Vec::new();
    for (row, (truth, counts)) in classes.iter().zip(&split.confusion).enumerate() {
        let support = sum(counts);
        for (column, (prediction, &count)) in classes.iter().zip(counts).enumerate() {
            if count > 0 && column != row {
                pairs.push(Confusion { truth, prediction, count, support, cell: (row, column) });
            }
        }
    }
    pairs.sort_by_key(|pair| Reverse(pair.count));
    pairs
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().copied().fold(0, u64::saturating_add)
}

/// The confusion matrix, the most confused pairs, and the images of both, of an evaluation that is
/// given as its index and their number on the page.
pub(super) fn errors(
    position: (usize, usize),
    evaluation: &Evaluation,
    scored: &Scored,
    images: Option<&StoredImages>,
) -> Markup {
    let Some((name, split)) = primary_split(evaluation) else { return Markup::default() };
    let classes = &evaluation.classes;
    let mut pairs = confused(classes, split);
    if classes.is_empty() {
        return Markup::default();
    }
    let shown = shown_classes(split, classes.len());
    pairs.truncate(if shown.len() < classes.len() { MAX_PAIRS_OF_MANY } else { MAX_PAIRS });
    let cells = Cells::new(position, classes, scored, images, &wanted(split, &pairs, &shown));
    let has_room = shown.len() <= FEW_CLASSES;
    html! {
        (explanation(name, split, &cells))
        .confusion.beside[has_room] #(cells.home()) tabindex="-1" {
            div { (matrix(classes, split, &shown, &cells).render()) }
            .panels {
                (cells.panels())
                .panel.first { (pair_list(&pairs, &cells)) }
            }
        }
    }
}

fn explanation(name: &str, split: &SplitMetrics, cells: &Cells) -> Markup {
    let images = counted(split.count, &format!("{name} image"));
    let choice = match cells.drawn() {
        _ if cells.is_empty() => format!("All {images}."),
        0 => format!("All {images}. Choose a cell to see which ones are in it."),
        count => format!(
            "Choose a cell to see its images: {} of {images} are on this page, and `predictions.csv` names all.",
            thousands(count as u64),
        ),
    };
    html::note(&format!("{choice} Cells are shaded by their share of the true class."))
}

/// The cells whose images are wanted, the most important first: errors by their number, then the
/// diagonal.
fn wanted(split: &SplitMetrics, pairs: &[Confusion], shown: &[usize]) -> Vec<Cell> {
    let pairs = pairs.iter().map(|pair| pair.cell);
    let mut cells: Vec<Cell> = shown
        .iter()
        .flat_map(|&row| shown.iter().map(move |&column| (row, column)))
        .filter(|&cell| count(split, cell) > 0)
        .chain(pairs)
        .collect();
    cells.sort_by_key(|&cell| (cell.0 == cell.1, Reverse(count(split, cell)), cell));
    cells.dedup();
    cells
}

fn count(split: &SplitMetrics, (row, column): Cell) -> u64 {
    split.confusion.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0)
}

/// The classes of the matrix: all, or those with the most errors, in their order.
fn shown_classes(split: &SplitMetrics, classes: usize) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..classes).collect();
    if classes > MAX_CLASSES {
        let errors = |class: usize| {
            let row = split.confusion.get(class).map_or(0, |row| sum(row));
            row.saturating_sub(count(split, (class, class)))
        };
        shown.sort_by_key(|&class| Reverse(errors(class)));
        shown.truncate(WORST_CLASSES);
        shown.sort_unstable();
    }
    shown
}

fn matrix(
    classes: &[String],
    split: &SplitMetrics,
    shown: &[usize],
    cells: &Cells,
) -> ConfusionMatrix {
    let row = |&row: &usize| shown.iter().map(|&column| count(split, (row, column))).collect();
    let total = |&row: &usize| split.confusion.get(row).map_or(0, |row| sum(row));
    let link = |(row, column): Cell| {
        let cell = (*shown.get(row)?, *shown.get(column)?);
        Some(((row, column), cells.link(cell)?))
    };
    let places = (0..shown.len()).flat_map(|row| (0..shown.len()).map(move |column| (row, column)));
    let title = match shown.len() < classes.len() {
        true => format!(
            "The {} classes with the most errors, of {}",
            shown.len(),
            thousands(classes.len() as u64)
        ),
        false => "True and predicted classes".to_owned(),
    };
    ConfusionMatrix {
        title,
        id: format!("matrix-{}", cells.home()),
        classes: shown.iter().map(|&class| classes[class].clone()).collect(),
        counts: shown.iter().map(row).collect(),
        totals: Some(shown.iter().map(total).collect()),
        links: places.filter_map(link).collect::<BTreeMap<_, _>>(),
    }
}

fn pair_list(pairs: &[Confusion], cells: &Cells) -> Markup {
    if pairs.is_empty() {
        return html::note("No class is predicted as another.");
    }
    let mut table = Table::new(&[
        ("Most confused", Column::Text),
        ("Images", Column::Number),
        ("Of the true class", Column::Number),
    ]);
    for pair in pairs {
        let share = percent(pair.count as f64 / pair.support as f64);
        let name = format!("{} predicted as {}", pair.truth, pair.prediction);
        let name = match cells.link(pair.cell) {
            Some(link) => html! { a href=(link) { (name) } },
            None => name.render(),
        };
        table.row([name, thousands(pair.count).render(), share.render()]);
    }
    table.render()
}
