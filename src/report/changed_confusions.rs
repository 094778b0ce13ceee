//! The pairs of classes that one of two runs confuses more often.

use super::html::{self, Column, Table};
use crate::common::number::thousands;
use crate::runs::diff::Diff;
use maud::{Markup, Render, html};

const MAX_ROWS: usize = 20;

/// The confusions that differ between a run and the first one, under its name. Empty where none
/// does, or where the runs can't be compared.
pub(super) fn table(name: &str, diff: &Diff) -> Markup {
    let Some(split) = diff.splits.iter().find(|split| !split.confusions.is_empty()) else {
        return Markup::default();
    };
    let mut table = Table::new(&[
        ("Class", Column::Text),
        ("Predicted as", Column::Text),
        ("In the first", Column::Number),
        ("In this one", Column::Number),
        ("Difference", Column::Number),
    ]);
    for cell in split.confusions.iter().take(MAX_ROWS) {
        let sign = if cell.difference() < 0 { "\u{2212}" } else { "+" };
        table.row([
            html! { b { (cell.label) } },
            cell.prediction.render(),
            thousands(cell.first).render(),
            thousands(cell.second).render(),
            html! { (sign) (thousands(cell.difference().unsigned_abs())) },
        ]);
    }
    let count = thousands(split.confusions.len() as u64);
    html! {
        h3 { (name) }
        @if split.confusions.len() > MAX_ROWS {
            (html::note(&format!("The {MAX_ROWS} that differ most, of {count}.")))
        }
        (table.render())
    }
}
