//! The page of one run.

use super::advice::advice;
use super::html::{self, section};
use super::{evaluation, exploration, headline, leaks, misclassified, provenance, strip, training};
use crate::metrics::Evaluation;
use crate::runs::{Results, StageRecord, Status};
use maud::{Markup, html};

pub(super) fn page(results: &Results) -> Markup {
    let record = results.record();
    let evaluations = results.evaluations();
    let explorations = results.explorations();
    let several = evaluations.len() > 1;
    let body = html! {
        (provenance::header(record))
        (provenance::failure(record))
        @for (stage, evaluation) in &evaluations {
            @let headline = headline::headline(results, stage, evaluation);
            @if several { (section(&stage.stage, &headline)) } @else { (headline) }
        }
        (section("What to try next", &suggestions(results)))
        (section("Training", &training::curves(results)))
        @for stage in &record.stages {
            (section(&format!("Training images as `{}` sees them", stage.stage), &strip::of_training(results, stage)))
        }
        @for (stage, evaluation) in &evaluations {
            (errors(results, stage, evaluation, several))
        }
        @for (stage, found) in &explorations {
            @let suffix = suffix(stage, explorations.len() > 1);
            (section(&format!("Images{suffix}"), &exploration::plots(found, &results.thumbnails(stage))))
        }
        @let leaking = results.leaks();
        @for (stage, rows) in &leaking {
            @let suffix = suffix(stage, leaking.len() > 1);
            (section(&format!("Copies in different splits{suffix}"), &leaks::pairs(results, stage, rows)))
        }
        (section("Stages", &provenance::stages(record)))
        (section("How to reproduce it", &provenance::reproduction(results)))
        (provenance::footer(&[record]))
    };
    html::page(&format!("{} · run {}", record.pipeline, record.id), &body)
}

fn errors(
    results: &Results,
    stage: &StageRecord,
    evaluation: &Evaluation,
    several: bool,
) -> Markup {
    let suffix = suffix(stage, several);
    html! {
        (section(&format!("Errors{suffix}"), &evaluation::errors(evaluation)))
        (section(&format!("Classes{suffix}"), &evaluation::classes(evaluation)))
        (section(&format!("Most confident errors{suffix}"), &misclassified::images(results, stage)))
    }
}

/// Distinguishes sections of several stages.
fn suffix(stage: &StageRecord, several: bool) -> String {
    if several { format!(" of {}", stage.stage) } else { String::new() }
}

/// Advice for a run that succeeded.
fn suggestions(results: &Results) -> Markup {
    let succeeded = results.record().status == Status::Ok;
    let sentences = if succeeded { advice(results) } else { Vec::new() };
    html! {
        @if !sentences.is_empty() {
            ul { @for sentence in &sentences { li { (with_code(sentence)) } } }
        }
    }
}

/// Sets the text between backticks as code.
fn with_code(sentence: &str) -> Markup {
    html! {
        @for (index, part) in sentence.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
