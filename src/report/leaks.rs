//! Copies across splits, in pairs of images from the tensor cache.

use super::html::{self, Column, Table, details};
use super::stored::StoredImages;
use super::thumbnail::{Size, figure};
use crate::common::number::thousands;
use crate::draw::shorten;
use crate::runs::{LeakRow, Results, StageRecord};
use maud::{Markup, html};

const MAX_PAIRS: usize = 12;
const MAX_ROWS: usize = 100;

/// The pairs that a preprocess stage found: the first as images, more as a table.
pub(super) fn pairs(results: &Results, stage: &StageRecord, rows: &[LeakRow]) -> Markup {
    let images = StoredImages::of_stage(results, &stage.stage);
    let count = match rows.len() {
        1 => "A pair".to_owned(),
        count => format!("{} pairs", thousands(count as u64)),
    };
    html! {
        (html::note(&format!(
            "{count} of images that are equal, or differ only by size and compression, in different splits. Scores are too good \
             where the model has seen a copy of what it is scored on."
        )))
        @if let Some(images) = images { (figures(&images, rows)) }
        (details("All pairs as a table", &table(rows)))
    }
}

fn figures(images: &StoredImages, rows: &[LeakRow]) -> Markup {
    let uri = |path: &str| images.thumbnail(path, Size::Large);
    let pairs = rows.iter().take(MAX_PAIRS);
    let pairs = pairs.filter_map(|row| Some((row, [uri(&row.path)?, uri(&row.other_path)?])));
    let pairs: Vec<(&LeakRow, [String; 2])> = pairs.collect();
    html! {
        @if !pairs.is_empty() {
            .images.pairs { @for (row, [one, other]) in &pairs { .two {
                (figure(Some(one), &row.path, &row.path, &caption(&row.split, &row.class, &row.path)))
                (figure(Some(other), &row.other_path, &row.other_path,
                    &caption(&row.other_split, &row.other_class, &row.other_path)))
            } } }
        }
    }
}

fn caption(split: &str, class: &str, path: &str) -> Markup {
    html! { b { (split) } " " (shorten(class, 40)) span.soft { (shorten(path, 40)) } }
}

fn table(rows: &[LeakRow]) -> Markup {
    let mut table = Table::new(&[
        ("Image", Column::Text),
        ("Split", Column::Text),
        ("Copy of", Column::Text),
        ("Split", Column::Text),
        ("Similarity", Column::Number),
    ]);
    for row in rows.iter().take(MAX_ROWS) {
        let similarity = row.similarity.to_string();
        table.row([&row.path, &row.split, &row.other_path, &row.other_split, &similarity]);
    }
    let more = rows.len().saturating_sub(MAX_ROWS) as u64;
    html! {
        (table.render())
        @if more > 0 { (html::note(&format!("And {} more in `leaks.csv`.", thousands(more)))) }
    }
}
