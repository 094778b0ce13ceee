//! The page of one run, from its headline to its footnotes.

use super::html::{self, section};
use super::{advice, evaluation, exploration, facts, headline, training, wrong};
use crate::draw::escape;
use crate::runs::{Results, Status};
use std::fmt::Write;

pub(super) fn page(results: &Results) -> String {
    let record = results.record();
    let evaluations = results.evaluations();
    let mut body = facts::header(record);
    body.push_str(&facts::failure(record));
    for (stage, evaluation) in &evaluations {
        let headline = headline::headline(results, stage, evaluation);
        body.push_str(&if evaluations.len() > 1 {
            section(&stage.stage, &headline)
        } else {
            headline
        });
    }
    body.push_str(&section("What to try next", &advice_list(results)));
    body.push_str(&section("Training", &training::curves(results)));
    for (stage, evaluation) in &evaluations {
        let suffix =
            if evaluations.len() > 1 { format!(" of {}", stage.stage) } else { String::new() };
        body.push_str(&section(&format!("Mistakes{suffix}"), &evaluation::mistakes(evaluation)));
        body.push_str(&section(&format!("Classes{suffix}"), &evaluation::classes(evaluation)));
        body.push_str(&section(
            &format!("Most confidently wrong{suffix}"),
            &wrong::images(results, stage),
        ));
    }
    for (stage, found) in results.explorations() {
        let several = results.explorations().len() > 1;
        let suffix = if several { format!(" of {}", stage.stage) } else { String::new() };
        body.push_str(&section(&format!("Images{suffix}"), &exploration::plots(&found)));
    }
    body.push_str(&section("Stages", &facts::stages(record)));
    body.push_str(&section("How to repeat it", &facts::repeat(results)));
    body.push_str(&facts::footer(&[record]));
    html::page(&format!("{} · run {}", record.pipeline, record.id), &body)
}

/// What to try next, for a run that came to a result.
fn advice_list(results: &Results) -> String {
    if results.record().status != Status::Ok {
        return String::new();
    }
    let mut items = String::new();
    for sentence in advice(results) {
        let _ = write!(items, "<li>{}</li>", code_in(&sentence));
    }
    if items.is_empty() { items } else { format!("<ul>{items}</ul>") }
}

/// Escapes, and sets what stands between backticks as code.
fn code_in(sentence: &str) -> String {
    let parts = sentence.split('`').map(escape).enumerate();
    parts
        .map(|(index, part)| if index % 2 == 1 { format!("<code>{part}</code>") } else { part })
        .collect()
}
